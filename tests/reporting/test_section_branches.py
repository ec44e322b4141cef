"""The section on one branch against two says what the tables say, whoever wins."""

import pytest

from faig_lab.files import write_json
from faig_lab.plotting.style import write_figure
from faig_lab.report.report import write_report
from faig_lab.runs.run_files import read_run
from faig_lab.runs.tables import write_table
from faig_lab.studies.branches import SECTION

INPUTS = ("clean", "blur", "noise", "blur+noise")
NOTHING = (0.01, -0.05, 0.07)
"""Difference, low, high."""


@pytest.fixture
def make(make_run):
    def write(psnr=(), ssim=(), seeds=1, turned=(), photographs=3, gap=0.6, lost=0.2, two=True, timed=True, **run):
        folder = make_run(**run)
        found = {"psnr": dict(psnr), "ssim": dict(ssim)}
        rows = []
        for measure, level in (("psnr", 25.0), ("psnr_y", 26.0), ("ssim", 0.8)):
            for name in INPUTS:
                difference, low, high = found.get(measure, {}).get(
                    name, NOTHING if measure != "ssim" else (0, -0.01, 0.01)
                )
                ends = {"low": low, "high": high} if photographs > 1 else {"low": None, "high": None}
                rows.append(
                    {"measure": measure, "degradation": name, "one_branch": level + difference, "two_branch": level}
                    | {"difference": difference, **ends, "seeds": seeds, "photographs": photographs, "images": 6}
                    | {
                        "lowest_seed": -0.3 if name in turned else difference,
                        "highest_seed": 0.3 if name in turned else difference,
                    }
                )
        write_table(folder / "tables" / "branches.csv", rows)
        filters = [
            {"seed": seed, "network": network, "method": method, "percent": 1.0, "filters": 122, "masked": masked}
            | {"own": own, "other": 0.1, "specificity": own - 0.1}
            for seed in range(seeds)
            for network, shift in (("one_branch", 0.9), ("two_branch", gap + 0.1))
            for method in ("faig", "signed_share")
            for masked, own in (("blur", shift), ("noise", shift))
        ]
        write_table(folder / "tables" / "branches_filters.csv", filters)
        if two:
            predicted = [("blur", 0.97, 0.9, 1.0), ("noise", 1.0, 1.0, 1.0), ("everything", 0.95, 0.9, 0.99)]
            columns = ("predicted", "value", "low", "high")
            rows = [dict(zip(columns, row, strict=True)) | {"inputs": 96} for row in predicted]
            write_table(folder / "tables" / "branches_prediction.csv", rows)
            rows = [{"seed": 0, "degradation": name, "removed": lost} for name in ("blur", "noise")]
            write_table(folder / "tables" / "branches_predictor.csv", rows)
        metrics = {"branches/parameters/one_branch": 110691.0, "branches/parameters/two_branch": 110665.0}
        if timed:
            metrics |= {"branches/step_seconds/one_branch": 0.02, "branches/step_seconds/two_branch": 0.03}
        write_json(folder / "metrics.json", metrics)
        return folder

    return write


def said(folder):
    return SECTION.sentence(read_run(folder))


def cells(folder, start):
    return next(list(row[1:]) for row in SECTION.table(read_run(folder)).rows if row[0].startswith(start))


def test_what_the_trainings_had_in_common(make):
    assert said(make()).startswith("Both were trained for 3,000 and 3,000 iterations (baseline and target); PSNR,")
    text = said(make(trained=False))
    assert text.startswith("The run's own network was given, not trained here; PSNR,")


def test_differences_are_numbers_whoever_has_more(make):
    found = {"noise": (-0.2, -0.3, -0.1), "blur": (0.4, 0.2, 0.6)}
    folder = make(psnr=found, ssim={"clean": (0.02, 0.01, 0.03)})
    assert (
        "PSNR, one branch minus two (in brackets the 95 % interval over photographs): +0.01 (−0.05 to +0.07) dB on "
        "clean input, +0.40 (+0.20 to +0.60) dB on blurred input, −0.20 (−0.30 to −0.10) dB on noisy input and"
    ) in said(folder)
    assert cells(folder, "SSIM, clean") == ["0.820", "0.800", "+0.020 (+0.010 to +0.030)"]
    assert not any(word in said(folder) for word in ("better", "reaches", "decided"))


def test_few_photographs_have_a_range_that_is_called_so(make):
    folder = make()
    table = folder / "tables" / "branches.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{head},interval", *(f"{row},range" for row in rows)]) + "\n")
    assert "(in brackets the range over photographs)" in said(folder)


def test_one_photograph_has_no_interval(make):
    text = said(make(psnr={"noise": (-0.9, -1.0, -0.8)}, photographs=1))
    assert "PSNR, one branch minus two: +0.01 dB on clean input" in text
    assert "−0.90 dB on noisy input and" in text


def test_the_table_has_predictor_sets_sizes_and_times(make):
    folder = make()
    assert cells(folder, "blur predicted") == ["", "97 % (90 % to 100 %)", ""]
    assert cells(folder, "everything predicted") == ["", "95 % (90 % to 99 %)", ""]
    assert cells(folder, "deblurring lost with the predictor") == ["", "20 %", ""]
    assert cells(folder, "deblurring removed by the set of FAIG") == ["90 % (10 %)", "70 % (10 %)", ""]
    assert cells(folder, "parameters") == ["110,691", "110,665", ""]
    assert cells(folder, "ms a step") == ["20.0", "30.0", ""]


def test_what_was_not_measured_has_no_row(make):
    heads = " ".join(row[0] for row in SECTION.table(read_run(make(two=False, timed=False))).rows)
    assert not any(word in heads for word in ("predict", "ms a step"))


def test_seeds_are_crosses(make):
    marks = [line for line in SECTION.figure(read_run(make(seeds=3, turned=("noise",)))).axes[0].lines
             if line.get_marker() == "x"]  # fmt: skip
    assert list(marks[2].get_xdata()) == [-0.3, 0.3]
    assert not [x for x in SECTION.figure(read_run(make())).axes[0].lines if x.get_marker() == "x"]


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("photographs", [1, 3])
@pytest.mark.parametrize("two", [True, False])
def test_stands_for_every_kind_of_run(make, seeds, photographs, two, tmp_path):
    folder = make(seeds=seeds, photographs=photographs, two=two)
    for name in ("one.png", "two.png"):
        write_figure(tmp_path / name, SECTION.figure(read_run(folder)))
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert SECTION.title in write_report(folder).read_text(encoding="utf-8")
    table = SECTION.table(read_run(folder))
    inputs = ("clean", "blurred", "noisy", "blurred and noisy")
    assert [row[0] for row in table.rows[:8]] == [f"{m}, {name} input" for m in ("PSNR", "SSIM") for name in inputs]
    assert all(len(row) == len(table.head) for row in table.rows)
    assert ("(−0.05 to +0.07)" in table.rows[0][3]) == (photographs > 1)
