"""From a user's two files to the report with network=spandrel, by a stand-in; then analyse, export, and the library."""

import csv
import json

import pytest
import spandrel_stand_in as stand_in
import torch
import yaml
from spandrel_stand_in import Toy, write
from tiny_case import tiny, without_figures, without_report

import faig_lab
from faig_lab.__main__ import main
from faig_lab.filters.foreign import describe

TINY = [
    setting
    for setting in tiny(
        "+experiment=blur_noise", "network=spandrel", "analysis.percents=[5,10]", "analysis.headline_percent=10"
    )
    if not setting.startswith(("network.features", "network.blocks"))
]


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


def run(tmp_path, *settings):
    given = [f"store={tmp_path / 'store'}", f"hydra.run.dir={tmp_path / 'run'}"]
    assert main([*TINY, *settings, *given]) == 0
    return tmp_path / "run"


def test_two_files_to_report_analysis_and_export(files, tmp_path):
    with without_figures():
        folder = run(tmp_path, f"baseline.weights={files[0]}", f"target.weights={files[1]}")
    assert (folder / "report.html").is_file()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"isolation/faig/10", "completeness_gap/blur"} <= metrics.keys()
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store").glob("*/weights.pt"))  # nothing trained
    about = yaml.safe_load((folder / "weights" / "target.yaml").read_text())
    assert (about["network"]["architecture"], about["network"]["scale"]) == ("Toy", 2)
    with (folder / "tables" / "completeness.csv").open() as table:
        assert {row["degradation"] for row in csv.DictReader(table)} == {"blur", "noise"}
    for file in files:  # the run folder needs the user's files no more
        file.unlink()
    with without_report():
        assert main(["task=analyse", f"run={folder}", "logger=none", "trainer=cpu", "analysis=curves"]) == 0
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
    with without_report():
        folder = run(tmp_path, f"baseline.weights={files[0]}")
    assert (folder / "tables" / "training_target.csv").is_file()
    again = [f"store={tmp_path / 'store'}", f"hydra.run.dir={tmp_path / 'again'}"]
    other = tmp_path / "moved.pth"
    files[0].rename(other)
    with without_report():
        assert main([*TINY, f"baseline.weights={other}", *again]) == 0
    assert "already trained" in (tmp_path / "again" / "run.log").read_text()


def test_the_library(files):
    network = faig_lab.spandrel_network(file=str(files[0]))
    baseline, target = (faig_lab.load_weights(file, network) for file in files)
    generator = torch.Generator().manual_seed(0)
    hr, blurred, noisy = (torch.rand(1, 3, *side, generator=generator) for side in ((14, 18), (7, 9), (7, 9)))
    found = faig_lab.attribute(network, baseline, target, {"blur": (blurred, hr), "noise": (noisy, hr)})
    assert len(found.layout) == 60
    assert max(found.completeness_gap.values()) < 1e-3


def test_a_refusal_is_one_line_and_no_folder_of_results(files, tmp_path, capsys):
    assert main([*TINY, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: network: spandrel reads the architecture from a weights file")
    write(tmp_path / "c.pth", features=5)
    given = [f"baseline.weights={files[0]}", f"target.weights={tmp_path / 'c.pth'}"]
    assert main([*TINY, *given, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "a.pth" in last
    assert "c.pth has head.weight of 5×3×3×3, and" in last
