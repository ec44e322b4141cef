"""task=compare through the command line, on folders as runs leave them."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import faig_lab
from faig_lab.__main__ import main

SPECIFICITY = {"faig": 0.3, "signed_share": 0.7}


def leave_run(folder, seed, state="done"):
    (folder / "tables").mkdir(parents=True)
    config = {"seed": seed, "network": {"_target_": "x.SRResNet"}, "attribution": {"name": "faig"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "status.json").write_text(json.dumps({"state": state, "error": None if state == "done" else "disk full"}))
    lines = [
        f"{method},{percent},{masked},{own + 0.1 + seed / 10},0.1,{own + seed / 10},0.0"
        for method, own in SPECIFICITY.items()
        for percent in (1.0, 3.0)
        for masked in ("blur", "noise")
    ]
    head = "method,percent,masked,own,other,specificity,specificity_std"
    (folder / "tables" / "specificity.csv").write_text("\n".join([head, *lines]) + "\n")
    metrics = {"psnr/target/blur": 22.0 + seed, "prediction/accuracy": 0.9}
    if seed == 2:
        metrics["only/last"] = 1 / 3
    (folder / "metrics.json").write_text(json.dumps(metrics))
    psnr = [
        f"{name},{d},a,{20 + 2 * i},0.8" for i, name in enumerate(("baseline", "target")) for d in ("blur", "noise")
    ]
    (folder / "tables" / "restoration.csv").write_text("\n".join(["network,degradation,image,psnr,ssim", *psnr]) + "\n")


@pytest.fixture
def sweep(tmp_path):
    for seed in range(3):
        leave_run(tmp_path / "outputs" / "sweep" / str(seed), seed)
    leave_run(tmp_path / "outputs" / "sweep" / "3", 3, state="failed")
    return "outputs/sweep"


def table(folder, name):
    with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def mean_of_faig(folder):
    """The row of means.csv about FAIG at 1 %."""
    found = [row for row in table(folder, "means") if (row["method"], row["percent"]) == ("faig", "1.0")]
    (row,) = [row for row in found if row["masked"] == "mean"]
    return row


def test_tables_page_and_words(sweep, tmp_path, capsys):
    assert main(["task=compare", f"runs={sweep}"]) == 0
    shown = capsys.readouterr().out
    (folder,) = (tmp_path / "outputs" / "blur_noise").iterdir()
    assert folder.name.startswith("compare-")
    assert shown.splitlines()[0] == "left out: outputs/sweep/3: failed: disk full"
    assert shown.splitlines()[-1] == f"comparison    {folder / 'compare.html'}"
    assert (
        "SRResNet, 1 % of the filters, specificity over 3 runs: FAIG 0.40 (0.15 to 0.65) and signed share 0.80" in shown
    )
    assert "note: These runs have no isolation" in shown
    assert "No order of the methods follows from these runs: the number of scenes is not known." in shown

    tidy = table(folder, "comparison")
    measures = ["isolation", "clean_change", "own", "other", "specificity", "harm"]
    assert list(tidy[0]) == ["run", "seed", "network", "method", "percent", "masked", *measures]
    assert len(tidy) == 3 * 2 * 2 * 2
    means = mean_of_faig(folder)
    assert float(means["specificity"]) == pytest.approx(0.4)
    # 0.3, 0.4, 0.5: s = 0.1, t = 4.302653 for two degrees of freedom
    assert float(means["specificity_high"]) == pytest.approx(0.4 + 4.302653 * 0.1 / 3**0.5, abs=1e-6)
    assert (means["specificity_n"], means["interval"]) == ("3", "t")
    assert (means["isolation"], means["isolation_n"]) == ("", "0")
    assert not (folder / "distances.csv").exists()
    differences = table(folder, "differences")
    assert [row["percent"] for row in differences] == ["1.0", "3.0"]
    assert all(float(row["specificity"]) == pytest.approx(0.4) for row in differences)
    assert {row["gain"] for row in table(folder, "gains")} == {"2.0"}
    assert 'href="../../sweep/0' not in (folder / "compare.html").read_text()  # these runs have no report


def test_the_comparison_of_a_sweep_lies_in_the_sweep_and_names_runs_that_repeat(sweep, tmp_path, capsys):
    (tmp_path / sweep / "multirun.yaml").touch()
    leave_run(tmp_path / sweep / "4", 1)
    leave_run(tmp_path / sweep / "5", 1)
    for _ in range(2):  # again: the folder of the comparison is no run
        assert main(["task=compare", f"runs={sweep}"]) == 0
        shown = capsys.readouterr().out
        repeat = (
            "outputs/sweep/4 and outputs/sweep/5 repeat outputs/sweep/1: same settings, same seed; not counted twice."
        )
        assert f"note: {repeat}" in shown
        assert shown.count("left out:") == 1
        page = tmp_path / sweep / "compare" / "compare.html"
        assert repeat in page.read_text(encoding="utf-8")
        assert f"comparison    {page}" in shown
    assert not (tmp_path / "outputs" / "blur_noise").exists()
    page.unlink()
    # Several sweeps are compared in a folder of their own, as is a sweep with `hydra.run.dir`.
    assert main(["task=compare", f"runs=[{sweep},{sweep}/1]"]) == 0
    assert main(["task=compare", f"runs={sweep}", "hydra.run.dir=here"]) == 0
    assert Path("here/compare.html").is_file()
    assert not page.exists()
    assert {row["specificity_n"] for row in table(tmp_path / sweep / "compare", "means")} == {"3"}


def test_isolation_is_compared_where_it_was_measured(sweep, tmp_path, capsys):
    """Three runs with isolation, 12 scenes and a learned mask: tables, words and distances follow it."""
    for seed in range(3):
        tables = tmp_path / "outputs" / "sweep" / str(seed) / "tables"
        shift = seed / 100
        rows = [
            f"{method},{q},{masked},{isolation + shift},-0.25"
            for method, isolation in {"faig": 0.5, "signed_share": 0.75, "learned_mask": 1.0}.items()
            for q in (1.0, 3.0)
            for masked in ("blur", "noise")
        ]
        (tables / "isolation.csv").write_text("\n".join(["method,percent,masked,isolation,clean_change", *rows]) + "\n")
        (tables / "comparison.csv").write_text("method,percent,photographs\nfaig,1.0,12\n")
        with (tables / "specificity.csv").open("a") as file:
            file.writelines(f"learned_mask,{q},{m},0.9,0.1,0.8,0.0\n" for q in (1.0, 3.0) for m in ("blur", "noise"))
    assert main(["task=compare", f"runs={sweep}", "hydra.run.dir=here"]) == 0
    shown = capsys.readouterr().out
    assert "isolation over 3 runs: FAIG 0.51 (0.49 to 0.53), signed share 0.76" in shown
    assert "Above FAIG: signed share by 0.25 (0.25 to 0.25) and learned mask by 0.50" in shown
    assert "note:" not in shown
    rows = {(row["method"], row["percent"]): row for row in table(tmp_path / "here", "distances")}
    assert set(rows) == {(method, percent) for method in ("faig", "signed_share") for percent in ("1.0", "3.0")}
    assert float(rows["faig", "1.0"]["isolation"]) == pytest.approx(-0.5)
    assert rows["faig", "1.0"]["minus"] == "learned_mask"
    means = mean_of_faig(tmp_path / "here")
    assert float(means["isolation_high"]) == pytest.approx(0.51 + 4.302653 * 0.01 / 3**0.5, abs=1e-5)
    assert float(means["clean_change"]) == -0.25


def test_a_damaged_isolation_leaves_the_run_out(sweep, tmp_path, capsys):
    tables = tmp_path / "outputs" / "sweep" / "0" / "tables"
    (tables / "isolation.csv").write_text("method,percent,masked,isolation,clean_change\nfaig,1.0,blur,what?,0\n")
    (tmp_path / "outputs" / "sweep" / "1" / "tables" / "isolation.csv").write_text("method,percent\nfaig,1.0\n")
    assert main(["task=compare", f"runs={sweep}", "hydra.run.dir=here"]) == 0
    shown = capsys.readouterr().out
    assert "left out: outputs/sweep/0: tables/isolation.csv is damaged" in shown
    assert "left out: outputs/sweep/1: tables/isolation.csv is empty or of another version" in shown


def test_every_metric_over_the_seeds(sweep, tmp_path):
    """Mean, t-interval and the value of each seed; an experiment of another network has rows of its own."""
    leave_run(tmp_path / "outputs" / "other", 7)
    config = tmp_path / "outputs" / "other" / "config.yaml"
    config.write_text(config.read_text().replace("x.SRResNet", "x.SRCNNStyle"))
    assert main(["task=compare", f"runs=[{sweep},outputs/other]", "hydra.run.dir=here"]) == 0
    rows = {(row["group"], row["metric"]): row for row in table(tmp_path / "here", "metrics")}
    assert len(rows) == 3 + 2
    row = rows["SRResNet", "psnr/target/blur"]
    assert (row["n"], row["mean"]) == ("3", "23.0")
    half = 4.302653 / 3**0.5  # as above, with s = 1
    assert (float(row["low"]), float(row["high"])) == pytest.approx((23 - half, 23 + half), abs=1e-4)
    assert [row[f"seed {seed}"] for seed in (0, 1, 2, 7)] == ["22.0", "23.0", "24.0", ""]
    exact = rows["SRResNet", "prediction/accuracy"]
    assert (exact["low"], exact["mean"], exact["high"]) == ("0.9", "0.9", "0.9")
    alone = rows["SRResNet", "only/last"]
    assert (alone["n"], alone["low"], alone["seed 2"], alone["seed 1"]) == ("1", "", "0.333333", "")
    assert rows["SRCNNStyle", "psnr/target/blur"]["seed 7"] == "29.0"


@pytest.mark.parametrize("runs", ["outputs/sweep/*", "[outputs/sweep/0,outputs/sweep/1]", "outputs"])
def test_runs_are_named_in_several_ways(sweep, runs, tmp_path):
    assert main(["task=compare", f"runs={runs}", "hydra.run.dir=here", "compare.reference=signed_share"]) == 0
    assert {row["minus"] for row in table(tmp_path / "here", "differences")} == {"signed_share"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "runs: folders are required by task=compare"),
        (["runs=outputs/swep"], "runs: outputs/swep: no such folder; did you mean outputs/sweep?"),
        (["runs=outputs/sweep/x*"], "runs: outputs/sweep/x* matches no folder; outputs/sweep holds no such folder"),
        (["runs=outputs/sweep/3"], "runs: none of 1 folders holds a finished run"),
        (
            ["runs=outputs", "compare.reference=fiag"],
            "compare.reference: no run has the method fiag; did you mean faig?",
        ),
        (["runs=3"], "runs: 3: no such folder"),
    ],
)
def test_refusals(sweep, arguments, expected, capsys):
    assert main(["task=compare", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {expected}")


def test_no_torch_is_needed(sweep, tmp_path):
    """It reads files of finished runs, also on a machine that has nothing to compute with."""
    code = (
        "import sys; sys.modules['torch'] = None; from faig_lab.__main__ import main; "
        f"sys.exit(main(['task=compare', 'runs={sweep}', 'hydra.run.dir=here']))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(faig_lab.__file__).resolve().parents[1])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / "compare.html").is_file()
