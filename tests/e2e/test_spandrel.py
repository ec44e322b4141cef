"""From a user's two files to the report with network=spandrel, by a stand-in; then analyse, export, and the library."""

import pytest
import spandrel_stand_in as stand_in
import torch
import yaml
from run_files import read, table
from spandrel_stand_in import Toy, write
from tiny_case import analyse, networks, refusal, run, tiny, without_figures

import faig_lab
from faig_lab.__main__ import main
from faig_lab.filters.foreign import describe

SETTINGS = ["experiment=blur_noise", "network=spandrel", "analysis.percents=[5,10]", "analysis.headline_percent=10"]
TINY = [setting for setting in tiny(*SETTINGS) if not setting.startswith(("network.features", "network.blocks"))]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Baseline and target under names that the run's own network does not have."""
    stand_in.install(monkeypatch)

    def former(state):
        return {"params_ema": {f"module.{name.replace('head.', 'first.')}": value for name, value in state.items()}}

    def further(state):
        noise = {name: 0.1 * torch.randn_like(value) for name, value in state.items()}
        return former({name: value + noise[name] for name, value in state.items()})

    write(tmp_path / "a.pth", wrap=former)
    write(tmp_path / "b.pth", wrap=further)
    return tmp_path / "a.pth", tmp_path / "b.pth"


def test_two_files_to_report_analysis_and_export(files, tmp_path):
    given = [f"baseline.weights={files[0]}", f"target.weights={files[1]}"]
    folder = run(tmp_path / "run", *TINY, *given, report=without_figures)
    assert (folder / "report.html").is_file()
    assert {"isolation/faig/10", "completeness_gap/blur"} <= read(folder / "metrics.json").keys()
    assert networks(tmp_path / "store") == []
    about = yaml.safe_load((folder / "weights" / "target.yaml").read_text())
    assert (about["network"]["architecture"], about["network"]["scale"]) == ("Toy", 2)
    assert {row["degradation"] for row in table(folder, "completeness")} == {"blur", "noise"}
    for file in files:  # the run folder needs the user's files no more
        file.unlink()
    analyse(folder, "analysis=curves")
    assert (folder / "tables" / "curves.csv").is_file()
    masked = tmp_path / "masked.pth"
    assert main(["task=export", f"run={folder}", f"export.file={masked}", "export.strengths.blur=0"]) == 0
    state = torch.load(masked, weights_only=True)["params"]
    assert describe(state, "masked").architecture == "Toy"
    target = faig_lab.load_weights(folder / "weights" / "target.pt", Toy(features=4, upscale=2))
    kernels = {name: value for name, value in target.items() if value.ndim == 4}
    differ = sum(int((state[name] != value).flatten(2).any(2).sum()) for name, value in kernels.items())
    assert differ == 6  # 10 % of 60 filters


def test_a_target_is_trained_from_a_baseline_that_is_given(files, tmp_path):
    folder = run(tmp_path / "run", *TINY, f"baseline.weights={files[0]}")
    assert (folder / "tables" / "training_target.csv").is_file()
    again = run(tmp_path / "again", *TINY, f"baseline.weights={files[0].rename(tmp_path / 'moved.pth')}")
    assert "already trained" in (again / "run.log").read_text()


def test_the_library(files):
    network = faig_lab.spandrel_network(file=str(files[0]))
    baseline, target = (faig_lab.load_weights(file, network) for file in files)
    generator = torch.Generator().manual_seed(0)
    hr, blurred, noisy = (torch.rand(1, 3, *side, generator=generator) for side in ((14, 18), (7, 9), (7, 9)))
    found = faig_lab.attribute(network, baseline, target, {"blur": (blurred, hr), "noise": (noisy, hr)})
    assert len(found.layout) == 60
    assert max(found.completeness_gap.values()) < 1e-3


def test_a_refusal_is_one_line(files, tmp_path, capsys):
    """What else is refused: tests/config/test_detected.py."""
    write(tmp_path / "c.pth", features=5)
    given = [f"baseline.weights={files[0]}", f"target.weights={tmp_path / 'c.pth'}"]
    line = refusal(capsys, *TINY, *given, f"hydra.run.dir={tmp_path / 'run'}")
    assert "a.pth" in line
    assert "c.pth has head.weight of 5×3×3×3, and" in line
