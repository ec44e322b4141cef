"""Numbers computed from tables, against values worked out by hand; and words that follow the numbers."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from faig_lab.analysis import interventions
from faig_lab.reporting import findings, run_files, sentences
from faig_lab.reporting.report import write_report
from faig_lab.reporting.run_files import read_run
from faig_lab.reporting.summary import summary
from faig_lab.reporting.tables import write_table

MakeRun = Callable[..., Path]
OWN = ("faig", "signed_share", "random")


def test_random_draws_become_a_mean_and_a_spread(make_run: MakeRun) -> None:
    run = read_run(make_run())
    rows = [
        row
        for row in run.table("masking")
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
    run = read_run(make_run(methods=("random", "signed_share", "faig")))
    assert run.methods == ["signed_share", "faig", "random"]
    assert run.degradations == ["blur", "noise"]


def test_the_means_are_numbers_beside_random_filters(make_run: MakeRun) -> None:
    run = read_run(make_run(own={"faig": 0.85, "signed_share": 0.5, "random": 0.06}, other=dict.fromkeys(OWN, 0.2)))
    text = sentences.means(run, findings.method_results(run, 1)) or ""
    assert text.startswith("Mean over the masked sets: FAIG removes 86 % of the own function and 20 % of the other")
    assert "specificity 0.65; random filters remove " in text
    assert "over 10 draws" in text
    assert "signed share" not in text


def test_a_single_run_orders_no_methods_whatever_its_numbers(make_run: MakeRun) -> None:
    for own, other in ((0.9, 0.0), (0.1, 0.9), (0.5, 0.5)):
        folder = make_run(own=dict.fromkeys(OWN, own), other=dict.fromkeys(OWN, other), intervals=0.001, photographs=50)
        page = write_report(folder).read_text(encoding="utf-8")
        top = page[page.index("<main>") : page.index('id="contents"')]
        words = ("ahead", "most specific", "beats", "beaten", "better", "worse", "claim", "chance", "confirmed")
        assert not [word for word in words if word in top + summary(folder, None)]


def test_one_degradation_has_no_specificity(make_run: MakeRun) -> None:
    run = read_run(make_run(("blur",), methods=("faig",)))
    text = sentences.means(run, findings.method_results(run, 1))
    assert text == "Mean over the masked sets: FAIG removes 85 % of the own function."


@pytest.mark.parametrize(("target", "said"), [(27.2, "only 0.20 dB above"), (26.0, "1.00 dB below")])
def test_a_small_gain_is_a_warning(make_run: MakeRun, target: float, said: str) -> None:
    folder = make_run()
    rows = [
        {"network": network, "degradation": "blur", "image": "a", "psnr": psnr, "psnr_y": psnr, "ssim": 0.9}
        for network, psnr in (("baseline", 27.0), ("target", target))
    ]
    write_table(folder / "tables" / "restoration.csv", rows)
    run = read_run(folder)
    (warning,) = sentences.warnings(run)
    assert said in warning
    assert warning in summary(folder, None)


@pytest.mark.parametrize(
    ("changes", "sums", "larger"),
    [((-10.0, 9.0), (-10.1, 9.2), True), ((-10.0, -9.0), (-10.1, -9.2), False), ((-10.0, 2.0), (-10.1, 2.1), False)],
)
def test_changes_that_cancel_explain_a_gap_larger_than_any_image_s(
    make_run: MakeRun, changes: tuple[float, float], sums: tuple[float, float], larger: bool
) -> None:
    """Gaps of the images: 1 % and 2.2 %; of the probe 0.1 / 1 = 10 % where their changes cancel."""
    folder = make_run()
    rows = [
        {"image": name, "degradation": "blur", "loss_change": change, "attribution_sum": total,
         "gap": abs(total - change) / abs(change)}
        for name, change, total in zip("ab", changes, sums, strict=True)
    ]  # fmt: skip
    write_table(folder / "tables" / "completeness.csv", rows)
    text = sentences.cancelling(read_run(folder))
    assert (text is not None) == larger
    assert not larger or str(text).startswith("With blurred input the gap over the probe is larger than that of any")


@pytest.mark.parametrize("share", [None, -0.5, 0.0, 0.3, 1.0, 1.7])
def test_the_report_clips_as_the_analyses_do(share: float | None) -> None:
    assert run_files.clipped(share) == interventions.clipped(share)
    assert run_files.harm(share) == interventions.harm(share)
