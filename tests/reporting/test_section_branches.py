"""The section on one branch against two says what the tables say, whoever wins."""

import pytest

from faig_lab.files import write_json
from faig_lab.reporting.report import write_report
from faig_lab.reporting.run_files import read_run
from faig_lab.reporting.sections.branches import SECTION
from faig_lab.reporting.style import write_figure
from faig_lab.reporting.tables import write_table

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
    return " ".join(SECTION.sentences(read_run(folder)))


def test_who_competes_and_what_it_costs(make):
    text = said(make())
    assert "One branch has 110,691 parameters, two branches have 110,665 (−0.02 %)." in text
    assert (
        "Both were trained for 3,000 and 3,000 iterations (baseline and target); a step takes 20.0 ms with one branch "
        "and 30.0 ms with two, measured in turn, the whole training 2 min 0 s and 3 min 0 s."
    ) in text
    assert "a step takes" not in said(make(timed=False))


def test_given_weights_are_no_equal_budget(make):
    text = said(make(trained=False))
    assert "was given, not trained here" in text
    assert "Both were trained" not in text


def test_differences_are_numbers_whoever_has_more(make):
    text = said(make(psnr={"noise": (-0.2, -0.3, -0.1), "blur": (0.4, 0.2, 0.6)}, ssim={"clean": (0.02, 0.01, 0.03)}))
    assert (
        "PSNR, one branch minus two (in brackets: 95 % interval over photographs): clean input +0.01 dB (−0.05 to "
        "+0.07), blurred input +0.40 dB (+0.20 to +0.60), noisy input −0.20 dB (−0.30 to −0.10) and"
    ) in text
    assert (
        "SSIM, one branch minus two (in brackets: 95 % interval over photographs): clean input +0.020 (+0.010" in text
    )
    assert not any(word in text for word in ("better", "reaches", "decided"))


def test_few_photographs_have_a_range_that_is_called_so(make):
    folder = make()
    table = folder / "tables" / "branches.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{head},interval", *(f"{row},range" for row in rows)]) + "\n")
    assert "PSNR, one branch minus two (in brackets: range over photographs): clean" in said(folder)


def test_one_photograph_has_no_interval(make):
    text = said(make(psnr={"noise": (-0.9, -1.0, -0.8)}, photographs=1))
    assert "PSNR, one branch minus two; one held-out photograph has no interval: clean input +0.01 dB, blurred" in text
    assert "noisy input −0.90 dB and" in text


def test_seeds(make):
    assert "One seed: how much the difference would move" in said(make())
    text = said(make(seeds=3, turned=("noise", "clean")))
    assert "Over 3 seeds the difference runs from −0.30 to +0.30 dB on clean input" in text


def test_the_predictor_and_what_it_carries(make):
    text = said(make())
    assert (
        "judges blur in 97 % (90 % to 100 %), noise in 100 % (100 % to 100 %) and everything at once in 95 % "
        "(90 % to 99 %) of 96 held-out inputs rightly"
    ) in text
    assert "set back to the baseline's values costs 20 % of deblurring and 20 % of denoising." in text


def test_a_rival_without_a_predictor(make):
    text = said(make(two=False))
    assert "judges" not in text
    assert "costs" not in text


def test_what_the_filters_of_both_networks_remove(make):
    text = said(make())
    assert (
        "Masking the top 1 % of the filters removes of their own function (of the other): by FAIG deblurring 90 % "
        "(10 %) and denoising 90 % (10 %) in one branch; deblurring 70 % (10 %) and denoising 70 % (10 %) in two "
        "branches; by signed share deblurring 90 % (10 %)"
    ) in text
    assert "iscriminative" not in text


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
    assert [row[0] for row in table.rows] == ["clean", "blurred", "noisy", "blurred and noisy"]
    assert all(len(row) == len(table.head) for row in table.rows)
    assert ("(−0.05 to +0.07)" in table.rows[0][3]) == (photographs > 1)
