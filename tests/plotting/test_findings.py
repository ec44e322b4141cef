"""Numbers computed from tables, against values worked out by hand; and words that follow the numbers."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from faig_lab.plotting import findings
from faig_lab.report import texts
from faig_lab.report.report import write_report
from faig_lab.report.texts import summary
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import records, write_table
from faig_lab.studies.masking import PARTS

MakeRun = Callable[..., Path]
OWN = ("faig", "signed_share", "random")


def test_random_draws_become_a_mean_and_a_spread(make_run: MakeRun) -> None:
    run = RunFolder(make_run())
    rows = [
        row
        for row in records(run.table("masking"))
        if row["method"] == "random"
        and row["percent"] == 1
        and row["masked"] == "blur"
        and row["degradation"] == "noise"
    ]
    shares = [float(row["removed"] or 0) for row in rows]
    cell = findings.masking(run, "random", 1, "blur", "noise")
    assert cell.draws == len(shares) == 10
    assert cell.mean == pytest.approx(sum(shares) / 10)
    assert cell.std == pytest.approx(math.sqrt(sum((share - sum(shares) / 10) ** 2 for share in shares) / 10))


def test_the_runs_method_is_first_and_random_last(make_run: MakeRun) -> None:
    run = RunFolder(make_run(methods=("random", "signed_share", "faig")))
    assert run.methods == ["signed_share", "faig", "random"]
    assert run.degradations == ["blur", "noise"]


def test_a_single_run_orders_no_methods_whatever_its_numbers(make_run: MakeRun) -> None:
    for own, other in ((0.9, 0.0), (0.1, 0.9)):
        folder = make_run(own=dict.fromkeys(OWN, own), other=dict.fromkeys(OWN, other), intervals=0.001, photographs=50)
        page = write_report(folder).read_text(encoding="utf-8")
        top = page[page.index("<main>") : page.index('id="contents"')]
        words = ("ahead", "most specific", "beats", "beaten", "better", "worse", "claim", "chance", "confirmed")
        assert not [word for word in words if word in top + summary(folder, None)]


def test_one_degradation_has_no_specificity(make_run: MakeRun) -> None:
    (result,) = findings.method_results(RunFolder(make_run(("blur",), methods=("faig",))), 1)
    assert result.own == pytest.approx(0.85)
    assert math.isnan(result.other)
    assert math.isnan(result.specificity)


@pytest.mark.parametrize(("target", "said"), [(27.2, "only 0.20 dB above"), (26.0, "1.00 dB below")])
def test_a_small_gain_is_a_warning(make_run: MakeRun, target: float, said: str) -> None:
    folder = make_run()
    rows = [
        {"network": network, "degradation": "blur", "image": "a", "psnr": psnr, "psnr_y": psnr, "ssim": 0.9}
        for network, psnr in (("baseline", 27.0), ("target", target))
    ]
    write_table(folder / "tables" / "restoration.csv", rows)
    run = RunFolder(folder)
    (warning,) = texts.warnings(run)
    assert said in warning
    assert warning in summary(folder, None)


def test_changes_that_cancel_leave_a_gap_larger_than_any_image_s(make_run: MakeRun) -> None:
    """Gaps of the images: 1 % and 2.2 %; of the probe 0.1 / 1 = 10 %, since their changes cancel."""
    folder = make_run()
    rows = [
        {"image": name, "degradation": "blur", "loss_change": change, "attribution_sum": total,
         "gap": abs(total - change) / abs(change)}
        for name, change, total in (("a", -10.0, -10.1), ("b", 9.0, 9.2))
    ]  # fmt: skip
    write_table(folder / "tables" / "completeness.csv", rows)
    assert findings.gaps(RunFolder(folder), "blur") == (pytest.approx(0.1), pytest.approx(0.2 / 9))


def test_where_the_sets_sit_beside_random_ones(make_run: MakeRun) -> None:
    assert findings.DEPTHS == PARTS
    found = findings.depths(RunFolder(make_run()))
    assert {name: row["last_third"] for name, row in found.items()} == {"blur": 0.6, "noise": 0.6, "random": 0.33}
    assert list(findings.depths(RunFolder(make_run(methods=("faig",))))) == ["blur", "noise"]


def test_the_page_shows_where_they_sit_and_of_an_older_run_the_map_alone(make_run: MakeRun) -> None:
    run = make_run()
    assert "<td>60 %</td>" in write_report(run).read_text(encoding="utf-8")
    (run / "tables" / "depth.csv").unlink()
    older = write_report(run).read_text(encoding="utf-8")
    assert "<td>60 %</td>" not in older
    assert 'id="layers"' in older


SHARES = (
    ("blur", "a.weight", "kernel", 90.0, 0.7),
    ("blur", "a.bias", "other", 4.0, 0.1),
    ("blur", "b.weight", "kernel", 10.0, 0.2),
    ("noise", "a.weight", "kernel", 90.0, 1.5),
    ("noise", "a.bias", "other", 4.0, -0.5),
    ("noise", "b.weight", "kernel", 10.0, 0.0),
)


def test_shares_of_kernels_and_others_are_added_up_for_each_input(make_run: MakeRun) -> None:
    folder = make_run()
    columns = ("degradation", "parameter", "kind", "weights", "share")
    write_table(folder / "tables" / "shares.csv", [dict(zip(columns, row, strict=True)) for row in SHARES])
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
