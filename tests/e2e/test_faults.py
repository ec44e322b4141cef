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


def weights(**files):
    return [f"{name}.weights={file}" for name, file in files.items()]


def photographs(root):
    """Folders of photographs, of which the held-out one is too small."""
    rng = np.random.default_rng(0)
    for side, size in (("train", (40, 40)), ("probe", (40, 40)), ("test", (40, 8))):
        (root / side).mkdir()
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(root / side / f"{side}.png")
    return ["data=folder", *(f"data.{side}_dir={root / side}" for side in ("train", "probe", "test"))]


def test_faults_are_one_line_before_any_work(capsys, tmp_path):
    """All of them: tests/cli/test_preflight.py and test_given_files.py, tests/attribution/test_soundness.py."""
    same, large, damaged = (tmp_path / f"{name}.pt" for name in ("same", "large", "damaged"))
    state = SRResNet(features=4, blocks=1).state_dict()
    faig_lab.save_weights(same, state)
    torch.save({name: value * 1e38 for name, value in state.items()}, large)
    content = bytearray(same.read_bytes())
    content[content.index(state["conv_hr.weight"].numpy().tobytes())] ^= 1
    damaged.write_bytes(content)
    faults = {
        "network: OfAnotherScale makes 64×64 pixels of 16×16": odd("OfAnotherScale"),
        "target.weights: its filters are those of the baseline": [*TINY, *weights(baseline=same, target=same)],
        f"target.weights: {large}: the network's output on the clean input of": [*TINY, *weights(target=large)],
        f"target.weights: {damaged} cannot be read as weights (it is damaged": [*TINY, *weights(target=damaged)],
        "data: the held-out image test": [*TINY, *photographs(tmp_path), "data.test_crop=null"],
    }
    for words, settings in faults.items():
        line = refusal(capsys, *settings, f"store={tmp_path / 'store'}", f"hydra.run.dir={tmp_path / 'run'}")
        assert line.startswith(words)
        assert not list(tmp_path.glob("store/*"))
        assert not (tmp_path / "run" / "weights").exists()


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
    files = weights(baseline=tmp_path / "baseline.pt", target=tmp_path / "target.pt")
    module = "import torch\n\n\ndef score(problem):\n    return torch.full((1, *problem.shape), torch.nan)\n"
    (tmp_path / "broken_method.py").write_text(module, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    place = [f"store={tmp_path / 'store'}", f"hydra.run.dir={tmp_path / 'run'}"]
    line = refusal(capsys, *odd("Detached"), *files, *place)
    assert line.startswith("network: first.weight (and 1 more) differs between baseline and target")
    assert read(tmp_path / "run" / "status.json")["error"] == line
    line = refusal(capsys, *TINY, "+attribution.methods.mine={_target_: broken_method.score, _partial_: true}", *place)
    assert line.startswith("attribution.methods: mine returned ")
    assert line.endswith("gradients may overflow, attribution.precision=float32 is safer")
    assert read(tmp_path / "run" / "status.json")["error"] == line


def test_a_network_that_seems_to_be_wrapped_is_trained_stored_analysed_and_exported(tmp_path):
    """It has parts called `network` and `module`."""
    named = run(tmp_path / "run", *TINY, *NAMED)
    state = faig_lab.load_weights(named / "weights" / "target.pt", Named())
    assert list(state) == list(Named().state_dict())
    again = run(tmp_path / "again", *TINY, *NAMED)
    assert (again / "run.log").read_text().count("already trained") == 2
    analyse(named, "analysis=curves", "trust=true")
    masked = tmp_path / "masked.pth"
    export = ["task=export", f"run={named}", "trust=true", f"export.file={masked}", "export.strengths.blur=1"]
    assert main([*export, "logger=none", "trainer=cpu"]) == 0
    exported = faig_lab.load_weights(masked, Named())
    assert all(torch.equal(value, state[name]) for name, value in exported.items())
    Named().load_state_dict(torch.load(masked, weights_only=True)["params"], strict=True)
