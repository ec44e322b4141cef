"""Numbers computed from tables, against values worked out by hand."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from faig_lab.plotting import findings
from faig_lab.report.report import write_report
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import select, write_table
from faig_lab.studies.masking import PARTS

MakeRun = Callable[..., Path]


def test_random_draws_become_a_mean_and_a_standard_deviation(make_run: MakeRun) -> None:
    run = RunFolder(make_run(methods=("random", "signed_share", "faig")))
    assert (run.methods, run.degradations) == (["signed_share", "faig", "random"], ["blur", "noise"])
    shares = select(run.table("masking"), 1, method="random", masked="blur", degradation="noise")["removed"].clip(0, 1)
    cell = findings.masking(run, "random", 1, "blur", "noise")
    assert cell.draws == len(shares) == 10
    assert (cell.mean, cell.std) == pytest.approx((np.mean(shares), np.std(shares)))
    assert math.isnan(findings.masking(run, "random", 2, "blur", "noise").mean)


def test_one_degradation_has_no_specificity(make_run: MakeRun) -> None:
    (result,) = findings.method_results(RunFolder(make_run(("blur",), methods=("faig",))), 1)
    assert result.own == pytest.approx(0.85)
    assert math.isnan(result.other)
    assert math.isnan(result.specificity)


def test_changes_that_cancel_leave_a_gap_larger_than_that_of_any_image(make_run: MakeRun) -> None:
    """Gaps of the images: 1 % and 2.2 %; of the probe 0.1 / 1 = 10 %, since their changes cancel."""
    folder = make_run()
    rows = [
        {"image": name, "degradation": "blur", "loss_change": change, "attribution_sum": total,
         "gap": abs(total - change) / abs(change)}
        for name, change, total in (("a", -10.0, -10.1), ("b", 9.0, 9.2))
    ]  # fmt: skip
    write_table(folder / "tables" / "completeness.csv", rows)
    assert findings.gaps(RunFolder(folder), "blur") == (pytest.approx(0.1), pytest.approx(0.2 / 9))


def test_depths_of_the_sets_beside_random_sets(make_run: MakeRun) -> None:
    assert findings.DEPTHS == PARTS
    folder = make_run()
    found = findings.depths(RunFolder(folder))
    assert {name: row["last_third"] for name, row in found.items()} == {"blur": 0.6, "noise": 0.6, "random": 0.33}
    assert "<td>60 %</td>" in write_report(folder).read_text(encoding="utf-8")
    (folder / "tables" / "depth.csv").unlink()
    older = write_report(folder).read_text(encoding="utf-8")
    assert "<td>60 %</td>" not in older
    assert 'id="layers"' in older
    assert list(findings.depths(RunFolder(make_run(methods=("faig",))))) == ["blur", "noise"]


def test_shares_of_kernels_and_others_are_added_up_for_each_input(make_run: MakeRun) -> None:
    folder = make_run()
    rows = (
        ("blur", "a.weight", "kernel", 90.0, 0.7),
        ("blur", "a.bias", "other", 4.0, 0.1),
        ("blur", "b.weight", "kernel", 10.0, 0.2),
        ("noise", "a.weight", "kernel", 90.0, 1.5),
        ("noise", "a.bias", "other", 4.0, -0.5),
        ("noise", "b.weight", "kernel", 10.0, 0.0),
    )
    columns = ("degradation", "parameter", "kind", "weights", "share")
    write_table(folder / "tables" / "shares.csv", [dict(zip(columns, row, strict=True)) for row in rows])
    run = RunFolder(folder)
    assert findings.shares(run) == {
        "a.weight": (90, [0.7, 1.5]),
        "a.bias": (4, [0.1, -0.5]),
        "b.weight": (10, [0.2, 0]),
    }
    assert findings.kinds(run) == {
        "kernel": (100, [pytest.approx(0.9), 1.5]), "other": (4, [pytest.approx(0.1), -0.5])
    }  # fmt: skip
    page = write_report(folder).read_text(encoding="utf-8")
    assert "all other parameters, biases above all</th><td>4</td><td>10 %</td><td>−50 %</td>" in page


def test_isolation_is_that_of_the_tables(make_run: MakeRun) -> None:
    run = RunFolder(make_run(isolated={"faig": 0.66, "signed_share": 0.72, "random": 0.1}))
    _, found = findings.of_sets(run)
    assert (found.masked, found.ends) == ("noise", "0.56 to 0.76")
    parts = (found.isolation, found.own_left, found.side, found.side_clean)
    assert parts == pytest.approx((0.66, 0.17, 0.085, 0.085))
    means = findings.of_methods(run, 1)
    assert list(means) == ["faig", "signed_share", "random"]
    assert (means["random"].std, means["faig"].std) == (0.02, None)
    older = RunFolder(make_run())
    assert (findings.of_sets(older), findings.of_methods(older, 1), findings.ends_are(older)) == ([], {}, "")


def test_distances_to_the_learned_mask_at_equal_count(make_run: MakeRun) -> None:
    found = {"faig": 0.95, "signed_share": 0.75, "learned_mask": 0.9, "random": -0.25}
    run = RunFolder(make_run(methods=tuple(found), own=found, other=found, isolated=found))
    assert findings.distances(run, 1.0) == pytest.approx({"faig": -0.05, "signed_share": 0.15, "random": 1.15})
    assert findings.distances(run, 2.0) == {}
    assert findings.distances(RunFolder(make_run(isolated={"faig": 0.5})), 1.0) == {}
