"""The command for a GPU: what it finds missing, that no part takes the others along, and the checks themselves.

The whole of it, on the processor, is a slow test; on a GPU it is `make gpu`.
"""

import argparse
import io
import json
import re
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu import correct, missing, runs, speed, study
from benchmarks.gpu.__main__ import arguments, in_process, main, rate
from benchmarks.gpu.results import FAILED, NOTED, OK, Results, failures, table
from benchmarks.gpu.sizes import FULL, QUICK
from benchmarks.measuring import ROOT
from faig_lab.attribution import full_precision
from faig_lab.cli.arguments import compose, normalise
from faig_lab.config import check, rules

CHECKS = [name for name in correct.CHECKS if name != "compiled"]  # a compiler takes half a minute


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "results.json", "correct")


def rows(results):
    return results.read()["parts"][results.part]["rows"]


def values(results):
    return {row["what"]: row["value"] for row in rows(results)}


# What is missing


def test_nothing_is_missing_where_the_tests_run(tmp_path):
    assert list(missing.packages()) == []
    for name in missing.FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    assert missing.folders(tmp_path) == []
    assert missing.folders(None) == []


def test_packages_and_what_they_need_are_missing_by_name_and_with_the_version(monkeypatch):
    """hydra-core needs antlr4, which the project itself does not name."""
    known = missing.distribution

    def distribution(name):
        if name == "omegaconf" or name.startswith("antlr4"):
            raise PackageNotFoundError(name)
        found = known(name)
        return argparse.Namespace(version="0.1", requires=found.requires) if name == "kornia" else found

    monkeypatch.setattr(missing, "distribution", distribution)
    found = list(missing.packages())
    assert [re.split("[<>=]", text)[0] for text in found] == ["kornia", "omegaconf", "antlr4-python3-runtime"]
    assert found[0].endswith("(there is 0.1)")


def test_what_is_not_needed_is_not_imported():
    """What is left out of what may be missing, the command line must do without."""
    absent = ", ".join(f"{name}=None" for name in missing.NOT_NEEDED)
    code = f"import sys; sys.modules.update({absent}); import faig_lab.cli.study, benchmarks.gpu.study"
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": "/usr/bin"}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0


def test_the_first_line_says_what_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--out", str(tmp_path / "out"), "--data", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("missing: a CUDA GPU (torch ")
    assert all(f"photographs in {tmp_path / name}" in line for name in missing.FOLDERS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", [["--parts", "correct,sped"], ["--minutes", "0"], ["--iterations", "20000"]])
def test_what_cannot_be_asked_for_is_refused(given, capsys):
    with pytest.raises(SystemExit):
        arguments(given)
    assert given[0] in capsys.readouterr().err


# Results, and parts that fail


def test_every_row_is_there_at_once_and_says_whether_it_failed(results):
    results.at_most("error", 1e-6, 1e-4)
    results.at_most("worse", 1e-3, 1e-4)
    results.at_most("no number", float("nan"), 1e-4)
    results.at_least("agreement", 0.99, 0.98)
    results.attempt("broken", lambda: 1 / 0)
    results.add("rate", 3.0)
    assert [row["state"] for row in rows(results)] == [OK, FAILED, FAILED, OK, FAILED, NOTED]
    assert "ZeroDivisionError" in rows(results)[4]["value"]
    results.note(state="done", seconds=3.0)
    Results(results.path, "speed").note(state="out of time", seconds=9.0)
    content = results.read()
    assert failures(content) == ["part speed out of time", "correct: worse", "correct: no number", "correct: broken"]
    text = table(content)
    assert "| error | 1e-06 | ≤ 0.0001 | ok |" in text
    assert "6 rows; failed: part speed out of time" in text
    assert [path.name for path in results.path.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    ("code", "state"), [("print('said')", "done"), ("print('said'); import os; os.abort()", "crashed")]
)
def test_a_part_may_crash(code, state):
    log = io.BytesIO()
    assert in_process([sys.executable, "-u", "-c", code], 60, log) == state
    assert log.getvalue() == b"said\n"


def test_a_part_that_takes_too_long_is_killed_with_what_it_has_started(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.gpu.__main__.GRACE", 0.0)
    sign = tmp_path / "still there"
    child = f"import time, pathlib; time.sleep(4); pathlib.Path({str(sign)!r}).touch()"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    start = time.monotonic()
    assert in_process([sys.executable, "-c", code], 1.5, io.BytesIO()) == "out of time"
    assert time.monotonic() - start < 30
    time.sleep(4)
    assert not sign.exists()


# The checks


@pytest.mark.parametrize("name", CHECKS)
def test_checks_hold_on_the_processor(name, results):
    correct.CHECKS[name](correct.Pair(QUICK, "cpu"), results)
    assert rows(results)
    assert all(row["state"] != FAILED for row in rows(results)), rows(results)


def test_checks_see_a_device_that_computes_something_else(results, monkeypatch):
    """One layer that is larger by a tenth on the device, and what that does to each row."""
    moved = correct.moved
    pair = correct.Pair(QUICK, "cuda")

    def wrong(case, device, dtype):
        found = moved(case, "cpu", dtype)
        if device == "cuda":
            name = found.layout.layers[1].name
            found = replace(found, target={**found.target, name: 1.1 * found.target[name]})
        return found

    monkeypatch.setattr(correct, "moved", wrong)
    for name in ("float32", "float64", "evaluation"):
        correct.CHECKS[name](pair, results)
    failed = [row["what"] for row in rows(results) if row["state"] == FAILED]
    for dtype in ("float32", "float64"):
        for what in ("scores", "sum of all attributions"):
            assert f"{dtype}, device to processor: {what}" in failed
    assert "float64, device to processor: masked outputs" in failed
    for measure in ("energy", "along", "moved"):
        assert f"evaluation, device to processor: {measure}" in failed


def test_error_and_agreement():
    assert correct.error(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])) == 0.5
    scores = torch.zeros(1, 200)
    scores[0, :2] = torch.tensor([2.0, 1.0])
    other = scores.roll(1, 1)
    assert correct.agreement(scores, scores) == 1
    assert correct.agreement(other, scores) == 0.5


def test_tf32_is_allowed_only_where_it_is_asked_for():
    flags = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [flag.allow_tf32 for flag in flags]
    with full_precision(), correct.allowed():
        assert [flag.allow_tf32 for flag in flags] == [True, True]
    assert [flag.allow_tf32 for flag in flags] == before


# The command line


@pytest.mark.parametrize(("device", "accelerator"), [("cpu", "cpu"), ("cuda", "gpu")])
def test_its_runs_compose_and_pass_the_check(device, accelerator, tmp_path, monkeypatch):
    monkeypatch.setattr(rules, "check_files", lambda settings: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    place = runs.Place(tmp_path, device, tmp_path if device == "cuda" else None, FULL)
    given = normalise(place.arguments("first", runs.DETERMINISTIC))
    settings = check(compose([one for one in given if not one.startswith("hydra.")]))
    assert settings.trainer.accelerator == accelerator
    assert settings.trainer.deterministic is True


def test_differences_of_runs_are_found(tmp_path):
    for name, value in (("one", 1.0), ("two", 1.0), ("three", 1.5)):
        for part in ("baseline", "target"):
            (tmp_path / name / "weights").mkdir(parents=True, exist_ok=True)
            torch.save({"a": torch.tensor([2.0, value])}, tmp_path / name / "weights" / f"{part}.pt")
        (tmp_path / name / "attribution").mkdir()
        np.savez(tmp_path / name / "attribution" / "scores.npz", blur=np.array([1.0]))
    assert runs.difference(tmp_path / "one", tmp_path / "two") == 0
    assert runs.difference(tmp_path / "one", tmp_path / "three") == 0.25
    assert runs.in_words(0.0) == "the same bits"


# Speed


def test_timing_calls_what_it_times():
    calls = []
    assert speed.on_host(lambda: calls.append(1), 4, warm_up=2) >= 0
    assert speed.on_device(lambda: calls.append(1), "cpu", 3, warm_up=1) >= 0
    assert len(calls) == 4 + 2 + 3 + 1


def test_parts_of_a_step_add_up(results):
    own = speed.settings_of("cpu", *QUICK.network, "training.batch_size=2", "training.patch_size=16")
    speed.parts_of_step(own, speed.data_of(own), 0.5, QUICK, "cpu", results)
    found = values(results)
    parts = {name: value for name, value in found.items() if name.startswith("a step, ")}
    assert len(parts) == 7
    (at_once,) = (value for name, value in parts.items() if "on the device" in name)  # not what a processor takes
    rest = next(value for name, value in found.items() if name.startswith("a step of ours, Lightning"))
    assert sum(parts.values()) - at_once + rest == pytest.approx(500, rel=1e-3)
    assert found["a step of ours: TFLOP/s of the network"] > 0


def test_gradient_evaluations_have_a_rate(results):
    case = correct.random_case(correct.settings_of("cpu", *QUICK.network), [QUICK.timed_image])
    speed.evaluations(case, dict(list(speed.PLAIN.items())[:1]), QUICK, results)
    found = values(results)
    assert found["gradient evaluation, float32: ms"] > 0
    assert found["gradient evaluation, float32: TFLOP/s"] > 0


# The study


def test_the_study_is_the_command_of_its_page(tmp_path, monkeypatch):
    """With the folders, iterations and the machine's own settings after it; the last of a key counts."""
    monkeypatch.setattr(rules, "check_files", lambda settings: None)
    own = study.Study(tmp_path / "work", tmp_path / "out", "cpu", tmp_path / "my photos", FULL)
    given = own.arguments((700, 400))
    assert given[0] == "experiment=blur_noise_paper"
    settings = check(compose([one for one in normalise(given) if not one.startswith("hydra.")]))
    assert settings.data["train_dir"] == str(tmp_path / "my photos" / "train")
    assert (settings.training.baseline.iterations, settings.training.target.restart_every) == (700, 400)
    assert settings.network == {"_target_": "faig_lab.networks.SRResNet", "scale": 2, "features": 64, "blocks": 16}
    wanted = {"faig", "signed_share", "ig", "weight_change", "taylor", "fisher", "random"}
    assert wanted <= set(settings.attribution.methods)
    assert (settings.analysis.percents[0], settings.analysis.percents[-1]) == (0.1, 10)


def test_iterations_fit_the_time():
    baseline, target = study.plan(100, 200)
    assert baseline % 100 == target % 100 == 0
    assert (baseline + target) / 100 < 200 * study.TRAINING
    assert study.plan(1, 2) == (4, 3)


def test_the_rate_is_the_one_that_was_measured(tmp_path):
    results = Results(tmp_path / "results.json", "speed")
    assert rate(results) is None
    results.add("training, ours: steps a second", 50.0)
    assert rate(results) == 50.0


def test_what_a_study_leaves_is_kept_in_few_files(tmp_path):
    own = study.Study(tmp_path / "work", tmp_path / "out", "cpu", None, QUICK)
    own.out.mkdir()
    for name in ("weights/baseline.pt", "tables/masking.csv", "metrics.json"):
        (own.run / name).parent.mkdir(parents=True, exist_ok=True)
        (own.run / name).write_text('{"specificity/faig/1": 0.5, "seconds": 3}')
    (own.run / "attribution").mkdir()
    scores = {name: np.random.default_rng(0).random((1, 2, 5)) for name in ("faig", "ig", "taylor")}
    np.savez(own.run / "attribution" / "scores.npz", **scores)
    results = Results(own.out / "results.json", "study")
    study.keep_weights(own)
    study.keep_tables(own, results)
    study.headlines(own, results)
    assert {path.name for path in own.out.iterdir()} == {
        "full_size_baseline.pt", "full_size.zip", "full_size_scores_1.npz", "full_size_scores_2.npz", "results.json"
    }  # fmt: skip
    kept = {}
    for number in (1, 2):
        with np.load(own.out / f"full_size_scores_{number}.npz") as some:
            kept |= dict(some)
    assert list(kept) == list(scores)
    assert all(np.array_equal(kept[name], values.astype(np.float32)) for name, values in scores.items())
    assert zipfile.ZipFile(own.out / "full_size.zip").namelist() == ["metrics.json", "tables/masking.csv"]
    assert values(results)["specificity/faig/1"] == 0.5
    assert "seconds" not in values(results)


# All of it


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_of_it_on_the_processor(tmp_path):
    code = main(["--device", "cpu", "--quick", "--minutes", "12", "--out", str(tmp_path / "out")])
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert code == 0, failures(content)
    assert {name: part["state"] for name, part in content["parts"].items()} == dict.fromkeys(
        ("correct", "runs", "speed", "study"), "done"
    )
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {
        "results.json", "log.txt", "table.md", "full_size_baseline.pt", "full_size_target.pt", "full_size.zip",
        "full_size_scores_1.npz", "full_size_scores_2.npz",
    }  # fmt: skip
    assert "nothing failed" in (tmp_path / "out" / "table.md").read_text()
    assert Path(tmp_path / "out" / "log.txt").read_text().count("\n") > 50
