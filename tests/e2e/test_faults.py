"""What is wrong with networks, weights and images is one line before any work, or stands in the run and its report."""

import numpy as np
import odd_networks
import pytest
import torch
from PIL import Image
from run_files import read
from tiny_case import without_figures, without_report

import faig_lab
from faig_lab.__main__ import main
from faig_lab.networks import SRResNet

TINY = [
    *("+experiment=blur_noise", "trainer=cpu", "trainer.precision=32-true", "logger=none"),
    *("analysis=masking", "analysis.percents=[5]", "analysis.headline_percent=5"),
    *("data.probe_crop=32", "data.probe_crops=1", "data.test_crop=32", "data.test_crops=1"),
    *("training.batch_size=2", "training.patch_size=16", "attribution.points=2"),
    *("training.baseline.iterations=2", "training.target.iterations=2", "training.validate_every=2"),
]


def odd(name):
    return [f"network._target_=odd_networks.{name}", "~network.features", "~network.blocks"]


def start(root, *settings):
    folder = root / "run"
    return folder, main([*TINY, f"store={root / 'store'}", f"hydra.run.dir={folder}", *settings])


def refused(capsys, root, *settings):
    """The line that a run is refused with, before anything is trained."""
    folder, code = start(root, *settings)
    assert code == 2
    assert not list(root.glob("store/*"))
    assert not (folder / "weights").exists()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_network_that_does_not_work(capsys, tmp_path):
    line = refused(capsys, tmp_path, *odd("OfAnotherScale"))
    assert line.startswith("error: network: OfAnotherScale ")
    assert "64×64 pixels of 16×16" in line


def test_weights_that_are_the_same(capsys, tmp_path):
    network = SRResNet(features=4, blocks=1)
    faig_lab.save_weights(tmp_path / "a.pt", network)
    other = {n: v + 1 if n.endswith("bias") else v for n, v in network.state_dict().items()}
    faig_lab.save_weights(tmp_path / "b.pt", other)
    for file in ("a.pt", "b.pt"):
        line = refused(
            capsys, tmp_path, "network.features=4", "network.blocks=1",
            f"baseline.weights={tmp_path / 'a.pt'}", f"target.weights={tmp_path / file}",
        )  # fmt: skip
        assert line.startswith("error: target.weights: its filters are those of the baseline")


def test_images_too_small(capsys, tmp_path):
    rng = np.random.default_rng(0)
    for side, size in (("train", (40, 40)), ("probe", (40, 40)), ("test", (40, 8))):
        (tmp_path / side).mkdir()
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / side / f"{side}.png")
    folders = [f"data.{side}_dir={tmp_path / side}" for side in ("train", "probe", "test")]
    line = refused(capsys, tmp_path, "data=folder", *folders, "data.test_crop=null")
    assert line.startswith("error: data: the held-out image test")
    assert line.endswith("has 8×40 HR pixels; SSIM needs at least 15×15 at scale 2")


@pytest.mark.parametrize("name", ["IndexFirst", "MaskFirst", "WritesIntoInput"])
def test_networks_that_work(tmp_path, name):
    with without_report():
        folder, code = start(tmp_path, *odd(name), "attribution.points=16")
    assert code == 0
    assert read(folder / "status.json")["warnings"] == []
    assert read(folder / "metrics.json")["completeness_gap/blur"] < 0.05


def test_a_large_gap_is_in_the_console_the_status_and_the_report(capsys, tmp_path):
    with without_figures():
        folder, code = start(tmp_path, *odd("Noisy"))
    assert code == 0
    (sentence, *_) = read(folder / "status.json")["warnings"]
    assert "do not add up to the change of the loss: the completeness gap is" in sentence
    assert "Use more points (attribution.points)." in sentence
    printed = capsys.readouterr()
    assert f"note: {sentence}" in printed.out
    assert sentence in (folder / "run.log").read_text(encoding="utf-8")
    assert "do not add up to the change of the loss" in (folder / "report.html").read_text(encoding="utf-8")
    assert faig_lab.open_run(folder, trust=True).warnings[0] == sentence


def test_a_parameter_without_gradient_ends_the_run(capsys, tmp_path):
    for seed, file in enumerate(("a.pt", "b.pt")):
        torch.manual_seed(seed)
        faig_lab.save_weights(tmp_path / file, odd_networks.Detached())
    given = [f"{n}.weights={tmp_path / f}" for n, f in (("baseline", "a.pt"), ("target", "b.pt"))]
    folder, code = start(tmp_path, *odd("Detached"), *given)
    assert code == 2
    line = "network: first.weight (and 1 more) differs between baseline and target"
    assert f"error: {line}" in capsys.readouterr().err
    assert read(folder / "status.json")["error"].startswith(line)


def test_an_error_of_the_attribution_names_the_setting_in_console_and_status(capsys, tmp_path, monkeypatch):
    module = "import torch\n\n\ndef score(problem):\n    return torch.full((1, *problem.shape), torch.nan)\n"
    (tmp_path / "broken_method.py").write_text(module, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    folder, code = start(tmp_path, "+attribution.methods.mine={_target_: broken_method.score, _partial_: true}")
    assert code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: attribution.methods: mine returned ")
    assert line.endswith("gradients may overflow, attribution.precision=float32 is safer")
    assert f"error: {read(folder / 'status.json')['error']}" == line
