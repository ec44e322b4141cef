"""The whole study through the command line, on networks and images that take seconds."""

import csv
import math
import re
import shutil
import signal
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path

import golden_case
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from process_case import started
from run_files import arrays, assert_same_numbers, contents, read, table, weights
from tiny_case import analyse, run, tiny, without_figures

import faig_lab
from faig_lab.__main__ import main
from faig_lab.files import write_json
from faig_lab.filters import load_weights
from faig_lab.networks import SRResNet

TINY = tiny(
    *("experiment=blur_noise", "training.baseline.iterations=5", "training.target.iterations=4"),
    *("training.validate_every=2", "attribution.methods.random.draws=2"),
)
DEGRADATIONS = ("blur", "noise")
METHODS = ("faig", "signed_share", "ig", "weight_change", "random")
PERCENTS = ("0.1", "0.5", "1", "3", "5", "10")


def hidden(folder):
    """What a broken-off writer may leave: temporary files and half-built entries; not locks and checkpoints."""
    paths = [path.relative_to(folder) for path in folder.rglob(".*") if path.suffix not in (".lock", ".partial")]
    return [path for path in paths if ".hydra" not in path.parts]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return run(tmp_path_factory.mktemp("study") / "first", *TINY, report=nullcontext)


@pytest.fixture(scope="module")
def given(first):
    """The weights of the first run as settings."""
    return [f"{name}.weights={first}/weights/{name}.pt" for name in ("baseline", "target")]


# The folder


def test_a_finished_run_has_its_state_and_its_configuration(first):
    status = read(first / "status.json")
    assert (status["state"], status["error"]) == ("done", None)
    assert {"data", "baseline", "target", "attribution", "analysis", "report"} <= set(status["stages_done"])
    assert hidden(first) == []
    config = (first / "config.yaml").read_text()
    assert "${" not in config
    assert yaml.safe_load(config)["network"]["features"] == 4


def test_the_headline_numbers_are_complete(first):
    metrics = read(first / "metrics.json")
    for name in ("isolation", "specificity"):
        assert metrics[name] == metrics[f"{name}/faig/1"]
    assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.values())
    stages = ("data", "baseline", "target", "attribution", "attribution/path_integral", "analysis", "report")
    wanted = {f"seconds/{stage}" for stage in stages}
    for degradation in DEGRADATIONS:
        wanted |= {f"psnr/{network}/{degradation}" for network in ("bicubic", "baseline", "target")}
        wanted.add(f"completeness_gap/{degradation}")
        wanted |= {
            f"{measure}/{method}/{percent}/{masked}/{degradation}"
            for measure in ("removed", "output_difference")
            for method in METHODS
            for percent in PERCENTS
            for masked in DEGRADATIONS
        }
    wanted |= {f"depth/{method}/1/{name}/entropy" for method in METHODS for name in DEGRADATIONS}
    assert wanted <= set(metrics)
    for degradation in DEGRADATIONS:
        assert metrics[f"removed/faig/0.1/{degradation}/{degradation}"] == 0  # 0.1 % of 136 filters are none


def test_metrics_are_the_means_of_the_tables(first):
    metrics = read(first / "metrics.json")
    for name in ("bicubic", "baseline", "target"):
        rows = [r for r in table(first, "restoration") if (r["network"], r["degradation"]) == (name, "noise")]
        assert metrics[f"psnr/{name}/noise"] == pytest.approx(np.mean([float(r["psnr"]) for r in rows]))
    rows = [r for r in table(first, "masking") if (r["method"], float(r["percent"])) == ("random", 10)]
    rows = [r for r in rows if (r["masked"], r["degradation"]) == ("blur", "noise")]
    assert len(rows) == 2
    assert metrics["removed/random/10/blur/noise"] == pytest.approx(
        np.mean([min(max(float(r["removed"]), 0), 1) for r in rows])
    )
    rows = [r for r in table(first, "isolation") if (r["method"], float(r["percent"])) == ("faig", 10)]
    assert {f"isolation/faig/10/{r['masked']}": float(r["isolation"]) for r in rows}.items() <= metrics.items()
    assert metrics["isolation/faig/10"] == pytest.approx(np.mean([float(r["isolation"]) for r in rows]))
    assert "side/faig/10/blur/clean" in metrics
    assert metrics["isolation/faig/0.1"] == 0  # no filter is masked


def test_the_weights_are_tensors_with_their_description(first):
    for name, state in weights(first).items():
        assert all(type(value) is torch.Tensor for value in state.values())
        load_weights(first / "weights" / f"{name}.pt", SRResNet(features=4, blocks=1))
        description = yaml.safe_load((first / "weights" / f"{name}.yaml").read_text())
        network = {"_target_": "faig_lab.networks.SRResNet", "scale": 2, "features": 4, "blocks": 1}
        assert description["network"] == network
        assert description["iterations"] == {"baseline": 5, "target": 4}[name]
        assert "EMA" in description["theta"]
    assert not torch.equal(*(state["conv_last.weight"] for state in weights(first).values()))


def test_the_scores_fit_the_layout_and_each_other(first):
    scores, layout = arrays(first), read(first / "attribution" / "layout.json")
    others = [f"{method}/{d}" for method in METHODS[1:] for d in DEGRADATIONS]
    assert sorted(scores) == sorted([*DEGRADATIONS, *others])
    assert layout["filters"] == sum(row["out"] * row["in"] for row in layout["layers"]) == 136
    for name, values in scores.items():
        assert values.shape == ((2, 136) if name.startswith("random") else (136,))
        assert np.isfinite(values).all()
    assert np.array_equal(scores["blur"], -scores["noise"])
    assert np.unique(scores["blur"]).size > 68
    for degradation in DEGRADATIONS:
        lines = (first / "attribution" / f"{degradation}_index.txt").read_text().split()
        assert sorted(map(int, lines)) == list(range(136))
        assert (np.diff(scores[degradation][np.array(lines, int)]) <= 0).all()


def test_the_provenance_says_what_was_done(first):
    provenance = read(first / "attribution" / "provenance.json")
    assert (provenance["rule"], provenance["points"], provenance["precision"]) == ("gauss_legendre", 2, "float32")
    cost = provenance["cost"]["path_integral"]
    assert cost == {"passes": provenance["effort"]["evaluations"], "lr_pixels": 16 * 16 * cost["passes"]}
    assert cost["passes"] > 0
    assert "EMA" in provenance["theta"]["target"]
    assert provenance["versions"]["torch"] == torch.__version__
    assert not set(provenance["probe"]) & set(provenance["held_out"])
    scenes = [{name.split("_x")[0] for name in provenance[side]} for side in ("training", "probe", "held_out")]
    assert all(scenes)
    assert len(set.union(*scenes)) == sum(map(len, scenes))


def test_a_run_of_the_version_that_had_seconds_in_its_provenance_is_still_read(first, tmp_path):
    old = Path(shutil.copytree(first, tmp_path / "old"))
    provenance, metrics = read(old / "attribution" / "provenance.json"), read(old / "metrics.json")
    taken = metrics.pop("seconds/attribution/path_integral")
    assert 0 < taken <= metrics["seconds/attribution"]
    provenance["cost"]["path_integral"]["seconds"] = 1234.0
    write_json(old / "attribution" / "provenance.json", provenance)
    write_json(old / "metrics.json", metrics)
    analyse(old, "analysis=modulation", "analysis.studies.modulation.strengths=[0,1]", report=without_figures)
    assert read(old / "attribution" / "provenance.json") == provenance
    assert "seconds/attribution/path_integral" not in read(old / "metrics.json")
    report = (old / "report.html").read_text(encoding="utf-8")
    assert "seconds 1234" in report
    assert "of the attribution: path integral" not in report
    assert "of the attribution: path integral" in (first / "report.html").read_text(encoding="utf-8")
    assert faig_lab.open_run(old).completeness_gap == faig_lab.open_run(first).completeness_gap
    compared = tmp_path / "compared"
    assert main(["task=compare", f"runs=[{old},{first}]", f"hydra.run.dir={compared}"]) == 0
    names = {row["metric"] for row in csv.DictReader((compared / "metrics.csv").read_text("utf-8").splitlines())}
    assert {"seconds/attribution", "seconds/attribution/path_integral", "best_strength/blur/blur"} <= names


def test_the_tables_have_their_columns(first):
    starts = {
        "restoration": "network,degradation,image,psnr,psnr_y,ssim",
        "masking": "method,draw,percent,filters,masked,degradation,psnr,removed,output_difference",
        "isolation": "method,percent,filters,masked,isolation,isolation_low,isolation_high,interval,own_left,side",
        "isolation_methods": "method,percent,filters,isolation,isolation_low,isolation_high,interval,own_left,side",
        "side_effects": "method,percent,masked,input,back,off,side,psnr,psnr_change",
        "specificity": "method,percent,masked,own,other,specificity,specificity_std",
        "distribution": "method,degradation,percent,layer,depth,filters,discovered,share",
        "depth": "method,degradation,percent,first_third,middle_third,last_third,last_convolution,entropy",
        "completeness": "image,degradation,loss_baseline,loss_target,loss_change,attribution_sum,gap",
        "training_baseline": "step,loss,learning_rate,psnr/",
        "training_target": "step,loss,learning_rate,psnr/",
    }
    for name, start in starts.items():
        lines = (first / "tables" / f"{name}.csv").read_text().splitlines()
        assert lines[0].startswith(start)
        assert len(lines) > 1
    inputs = {row["degradation"] for row in table(first, "restoration")}
    assert inputs == {"clean", "blur", "noise", "blur+noise"}


def test_the_report_shows_pictures_and_needs_no_other_file(first):
    assert len(list((first / "figures").glob("*.png"))) >= 3
    page = (first / "report.html").read_text(encoding="utf-8")
    assert len(page) > 20_000
    assert "<img" in page or "<svg" in page
    outside = re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:|mailto:)([^"']+)""", page)
    assert not [u for u in outside if re.search(r"\.(js|css|png|jpe?g|svg|woff2?)($|\?)", u)]


# Again


def test_another_attribution_setting_trains_nothing(first):
    before = contents(first.parent / "store")
    second = run(first.parent / "second", *TINY, "attribution.points=3", "analysis.percents=[1,5]")
    assert contents(first.parent / "store") == before
    log = (second / "run.log").read_text()
    assert log.count("already trained") == 2
    assert "loss" not in log
    some, other = weights(first), weights(second)
    assert all(torch.equal(v, other[n][key]) for n, state in some.items() for key, v in state.items())
    assert not np.array_equal(arrays(first)["blur"], arrays(second)["blur"])
    for name in ("training_baseline", "training_target"):
        assert table(first, name) == table(second, name)


def test_the_same_seed_gives_the_same_bits_in_another_store(first, tmp_path):
    assert_same_numbers(first, run(tmp_path / "again", *TINY))


@pytest.mark.parametrize("channels_last", ["true", "false"])
def test_trained_and_stored_weights_have_the_same_scores_at_a_realistic_width(tmp_path, channels_last):
    wide = ["network.features=24", f"training.channels_last={channels_last}", "analysis.percents=[1]"]
    trained = run(tmp_path / "trained", *TINY, *wide)
    assert_same_numbers(trained, run(tmp_path / "stored", *TINY, *wide))


def test_another_seed_gives_other_weights(first, tmp_path):
    other = run(tmp_path / "seed 1", *TINY, "seed=1", "analysis.percents=[1]")
    assert not torch.equal(*(weights(folder)["target"]["conv_hr.weight"] for folder in (first, other)))


# Given weights


def test_given_weights_are_not_trained(first, given, tmp_path):
    folder = run(tmp_path / "given", *TINY, *given)
    assert not list((tmp_path / "store").glob("*"))  # what it kept while it ran is gone, and nothing was trained
    assert not list((folder / "tables").glob("training_*.csv"))
    assert all(np.array_equal(values, arrays(folder)[name]) for name, values in arrays(first).items())
    for name in ("masking", "restoration", "specificity"):
        assert table(folder, name) == table(first, name)
    assert f"{first}/weights/target.pt" in read(folder / "attribution" / "provenance.json")["theta"]["target"]


def test_the_target_is_trained_from_a_given_baseline(first, given):
    folder = run(first.parent / "given baseline", *TINY, given[0], "analysis.percents=[1]")
    assert torch.equal(weights(folder)["target"]["conv_hr.bias"], weights(first)["target"]["conv_hr.bias"])
    assert "target: already trained" in (folder / "run.log").read_text()


# Ready-made pairs


def png(path, image):
    levels = image * 255
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels.round().to(torch.uint8).permute(1, 2, 0).numpy()).save(path)


def test_paired_images_give_the_authors_scores(tmp_path):
    images = golden_case.probe()[::3]
    for image in images:
        png(tmp_path / "hr" / f"{image.name}.png", image.hr)
        for name, lr in image.lr.items():
            png(tmp_path / name / f"{image.name}.png", lr)
    folder = run(
        tmp_path / "paired",
        *("experiment=blur_noise", "trainer=cpu", "trainer.precision=32-true", "logger=none"),
        *("data=paired", f"data.hr_dir={tmp_path / 'hr'}"),
        *(f"data.lr_dirs.{name}={tmp_path / name}" for name in ("clean", *DEGRADATIONS)),
        *("network.features=16", "network.blocks=2"),
        *(f"{name}.weights={golden_case.FOLDER / name}.pth" for name in ("baseline", "target")),
        *("attribution=faig_reference", "attribution.points=10", "attribution.precision=float64"),
        *("attribution.methods.random.draws=1", "analysis.percents=[1]"),
        report=without_figures,
    )
    scores = arrays(folder)
    for degradation in DEGRADATIONS:
        expected = golden_case.golden(f"faig_{degradation}_10")[::3].sum(0)
        assert np.abs(scores[degradation] - expected).max() <= 1e-10 * np.abs(expected).max()
        ig = golden_case.golden(f"ig_{degradation}_10")[::3].sum(0)
        assert np.abs(2 * scores[f"ig/{degradation}"] - ig).max() <= 1e-10 * np.abs(ig).max()
        order = np.loadtxt(folder / "attribution" / f"{degradation}_index.txt", dtype=int)
        count = len(expected) // 100
        assert set(order[:count]) == set(np.argsort(-expected, kind="stable")[:count])
    provenance = read(folder / "attribution" / "provenance.json")
    assert sorted(provenance["probe"]) == [image.name for image in images]
    assert any("evaluated on the probe images themselves" in note for note in provenance["notes"])
    assert "evaluated on the probe images themselves" in (folder / "report.html").read_text(encoding="utf-8")


# Folders of photographs


def test_a_study_of_own_photographs(photographs, tmp_path):
    folder = run(tmp_path / "own", *TINY, *photographs, "analysis.percents=[1]")
    provenance = read(folder / "attribution" / "provenance.json")
    assert provenance["training"] == ["train_a", "train_b"]
    assert {name.split("_x")[0] for name in provenance["held_out"]} == {"test_a", "test_b"}
    assert {row["image"].split("_x")[0] for row in table(folder, "restoration")} == {"test_a", "test_b"}


# What ends a run early


def test_a_crash_in_the_report_keeps_everything_before_it(given, tmp_path, monkeypatch, capsys):
    def crash(*arguments):
        raise RuntimeError("no space\nleft")

    monkeypatch.setattr("faig_lab.report.report.write_report", crash)
    folder = tmp_path / "crashed"
    with without_figures():
        assert main([*TINY, *given, f"hydra.run.dir={folder}"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: RuntimeError: no space left (traceback in {folder})"
    status = read(folder / "status.json")
    assert (status["state"], status["stage"], status["error"]) == ("failed", "report", "RuntimeError: no space left")
    assert status["stages_done"][-1] == "analysis"
    assert "removed/faig/1/blur/noise" in read(folder / "metrics.json")
    assert table(folder, "masking")
    assert hidden(folder) == []


@pytest.fixture
def endless(_interruptible, tmp_path):
    """`python -m faig_lab` on a training without end, as soon as it has logged its first validation."""
    steps = [f"training.baseline.{key}=1000000" for key in ("iterations", "restart_every")]
    process = started(
        tmp_path, *TINY, *steps, "training.channels_last=true", "store=store", "hydra.run.dir=run",
        stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            log, patience = tmp_path / "run" / "run.log", time.monotonic() + 120
            while not (log.is_file() and "baseline 2/" in log.read_text()):
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < patience
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "code", "shown"),
    [(signal.SIGINT, 130, "interrupted (Ctrl-C)"), (signal.SIGTERM, None, "terminated (SIGTERM)")],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_a_signal_during_training_leaves_nothing_half_written(endless, tmp_path, number, code, shown):
    endless.send_signal(number)
    _, errors = endless.communicate(timeout=120)
    assert endless.returncode == code or (code is None and endless.returncode != 0)
    status = read(tmp_path / "run" / "status.json")
    assert (status["state"], status["error"], status["stage"]) == ("failed", shown, "baseline")
    assert status["stages_done"] == ["data", "forecast"]
    assert hidden(tmp_path) == []
    assert [path for path in (tmp_path / "store").iterdir() if path.suffix not in (".lock", ".partial")] == []
    assert "Traceback" not in errors
