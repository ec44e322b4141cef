"""What is wrong with networks, weights and images is one line before any work, or stands in the run and its report."""

import numpy as np
import odd_networks
import pytest
import torch
from named_network import Named
from PIL import Image
from run_files import read
from tiny_case import analyse, refusal, run, tiny, without_figures

import faig_lab
from faig_lab.__main__ import main
from faig_lab.networks import SRResNet

TINY = tiny(
    *("experiment=blur_noise", "analysis=masking", "analysis.percents=[5]", "analysis.headline_percent=5"),
    *("training.patch_size=16", "training.baseline.iterations=2", "training.target.iterations=2"),
    "training.validate_every=2",
)
OTHERS = [setting for setting in TINY if not setting.startswith("network.")]
NAMED = ["network._target_=named_network.Named"]


def odd(name):
    return [*OTHERS, f"network._target_=odd_networks.{name}", "~network.features", "~network.blocks"]


def given(**files):
    return [f"{name}.weights={file}" for name, file in files.items()]


def refused(capsys, root, *settings):
    """The line that a run is refused with, before anything is trained."""
    line = refusal(capsys, *settings, f"store={root / 'store'}", f"hydra.run.dir={root / 'run'}")
    assert not list(root.glob("store/*"))
    assert not (root / "run" / "weights").exists()
    return line


def test_a_network_that_does_not_work(capsys, tmp_path):
    line = refused(capsys, tmp_path, *odd("OfAnotherScale"))
    assert line.startswith("network: OfAnotherScale ")
    assert "64×64 pixels of 16×16" in line


def test_weights_that_are_the_same(capsys, tmp_path):
    network = SRResNet(features=4, blocks=1)
    faig_lab.save_weights(tmp_path / "a.pt", network)
    other = {n: v + 1 if n.endswith("bias") else v for n, v in network.state_dict().items()}
    faig_lab.save_weights(tmp_path / "b.pt", other)
    for file in ("a.pt", "b.pt"):
        line = refused(capsys, tmp_path, *TINY, *given(baseline=tmp_path / "a.pt", target=tmp_path / file))
        assert line.startswith("target.weights: its filters are those of the baseline")


def test_images_too_small(capsys, tmp_path):
    rng = np.random.default_rng(0)
    for side, size in (("train", (40, 40)), ("probe", (40, 40)), ("test", (40, 8))):
        (tmp_path / side).mkdir()
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / side / f"{side}.png")
    folders = [f"data.{side}_dir={tmp_path / side}" for side in ("train", "probe", "test")]
    line = refused(capsys, tmp_path, *TINY, "data=folder", *folders, "data.test_crop=null")
    assert line.startswith("data: the held-out image test")
    assert line.endswith("has 8×40 HR pixels; SSIM needs at least 15×15 at scale 2")


@pytest.mark.parametrize("name", ["IndexFirst", "MaskFirst", "WritesIntoInput"])
def test_networks_that_work(tmp_path, name):
    folder = run(tmp_path / "run", *odd(name), "attribution.points=16")
    assert read(folder / "status.json")["warnings"] == []
    assert read(folder / "metrics.json")["completeness_gap/blur"] < 0.05


def test_a_large_gap_is_in_the_console_the_status_and_the_report(capsys, tmp_path):
    folder = run(tmp_path / "run", *odd("Noisy"), report=without_figures)
    (sentence, *_) = read(folder / "status.json")["warnings"]
    assert "do not add up to the change of the loss: the completeness gap is" in sentence
    assert "Use more points (attribution.points)." in sentence
    assert f"note: {sentence}" in capsys.readouterr().out
    assert sentence in (folder / "run.log").read_text(encoding="utf-8")
    assert "do not add up to the change of the loss" in (folder / "report.html").read_text(encoding="utf-8")
    assert faig_lab.open_run(folder, trust=True).warnings[0] == sentence


def test_errors_of_the_attribution_name_the_setting_in_console_and_status(capsys, tmp_path, monkeypatch):
    for seed, name in enumerate(("baseline", "target")):
        torch.manual_seed(seed)
        faig_lab.save_weights(tmp_path / f"{name}.pt", odd_networks.Detached())
    weights = given(baseline=tmp_path / "baseline.pt", target=tmp_path / "target.pt")
    module = "import torch\n\n\ndef score(problem):\n    return torch.full((1, *problem.shape), torch.nan)\n"
    (tmp_path / "broken_method.py").write_text(module, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    place = [f"store={tmp_path / 'store'}", f"hydra.run.dir={tmp_path / 'run'}"]
    line = refusal(capsys, *odd("Detached"), *weights, *place)
    assert line.startswith("network: first.weight (and 1 more) differs between baseline and target")
    assert read(tmp_path / "run" / "status.json")["error"] == line
    line = refusal(capsys, *TINY, "+attribution.methods.mine={_target_: broken_method.score, _partial_: true}", *place)
    assert line.startswith("attribution.methods: mine returned ")
    assert line.endswith("gradients may overflow, attribution.precision=float32 is safer")
    assert read(tmp_path / "run" / "status.json")["error"] == line


# A network that seems to be wrapped, and its weights


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A run of a network that has parts called `network` and `module`."""
    return run(tmp_path_factory.mktemp("named") / "run", *TINY, *NAMED)


def test_such_a_network_is_trained_stored_analysed_and_exported(named, tmp_path):
    state = faig_lab.load_weights(named / "weights" / "target.pt", Named())
    assert list(state) == list(Named().state_dict())
    again = run(tmp_path / "again", *TINY, *NAMED, store=named.parent / "store")
    assert (again / "run.log").read_text().count("already trained") == 2
    analyse(named, "analysis=curves", "trust=true")
    masked = tmp_path / "masked.pth"
    export = ["task=export", f"run={named}", "trust=true", f"export.file={masked}", "export.strengths.blur=1"]
    assert main([*export, "logger=none", "trainer=cpu"]) == 0
    exported = faig_lab.load_weights(masked, Named())
    assert all(torch.equal(value, state[name]) for name, value in exported.items())
    Named().load_state_dict(torch.load(masked, weights_only=True)["params"], strict=True)


@pytest.mark.parametrize("which", ["baseline", "target"])
def test_weights_that_overflow_are_refused_before_any_work(which, named, tmp_path, capsys):
    state = faig_lab.load_weights(named / "weights" / "target.pt", Named())
    torch.save({n: v * 1e38 for n, v in state.items()}, tmp_path / "large.pt")
    line = refused(capsys, tmp_path, *TINY, *NAMED, *given(**{which: tmp_path / "large.pt"}))
    assert f"{which}.weights: {tmp_path / 'large.pt'}: the network's output on the clean input of" in line


def test_a_damaged_file_is_refused_before_any_work(named, tmp_path, capsys):
    file = named / "weights" / "target.pt"
    content = bytearray(file.read_bytes())
    values = faig_lab.load_weights(file, Named())["network.weight"].numpy().tobytes()
    content[content.index(values)] ^= 1
    (tmp_path / "a.pt").write_bytes(content)
    line = refused(capsys, tmp_path, *TINY, *NAMED, *given(target=tmp_path / "a.pt"))
    assert "cannot be read as weights (it is damaged: the checksum of" in line
