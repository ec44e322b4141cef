"""Numbers computed from tables, against values worked out by hand; and words that follow the numbers."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from faig_lab.reporting import findings, sentences
from faig_lab.reporting.run_files import read_run
from faig_lab.reporting.summary import summary
from faig_lab.reporting.tables import write_table

MakeRun = Callable[..., Path]


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


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        (0.85, 0.2, "That is the paper's claim, seen on this run"),
        (0.6, 0.3, "supports the paper's claim in part"),
        (0.3, 0.15, "weak support"),
        (0.6, 0.58, "does not support the paper's claim"),
        (0.1, 0.9, "even more of the other function"),
    ],
)
def test_the_verdict_follows_the_numbers(make_run: MakeRun, own: float, other: float, expected: str) -> None:
    run = read_run(make_run(methods=("faig",), own={"faig": own}, other={"faig": other}))
    (result,) = findings.method_results(run, 1)
    assert expected in sentences.verdict(run, result)


def test_a_good_mean_does_not_hide_a_set_that_is_not_specific(make_run: MakeRun) -> None:
    folder = make_run(methods=("faig",))
    rows = [
        {
            "method": "faig",
            "percent": 1,
            "masked": masked,
            "own": own,
            "other": other,
            "specificity": own - other,
            "specificity_std": 0.0,
        }
        for masked, own, other in (("blur", 0.95, 0.05), ("noise", 0.9, 0.87))
    ]
    write_table(folder / "tables" / "specificity.csv", rows)
    run = read_run(folder)
    text = sentences.verdict(run, findings.method_results(run, 1)[0])
    assert "the denoising set is not specific" in text
    assert "seen on this run" not in text


def test_losing_to_random_is_said(make_run: MakeRun) -> None:
    run = read_run(make_run(own={"faig": 0.05, "signed_share": 0.05, "random": 0.3}))
    assert "no better than chance" in (sentences.against_random(run, findings.method_results(run, 1)) or "")


def test_close_methods_are_not_told_apart(make_run: MakeRun) -> None:
    shares = {"faig": 0.8, "signed_share": 0.82, "random": 0.0}
    run = read_run(make_run(own=shares, other=dict.fromkeys(shares, 0.1)))
    text = sentences.winner(run, findings.method_results(run, 1)) or ""
    assert "signed share is the most specific" in text
    assert "too close" in text


@pytest.mark.parametrize(("target", "said"), [(27.2, "only 0.20 dB above"), (26.0, "1.00 dB below")])
def test_a_small_gain_is_a_warning_and_no_claim_is_judged(make_run: MakeRun, target: float, said: str) -> None:
    folder = make_run()
    rows = [
        {"network": network, "degradation": "blur", "image": "a", "psnr": psnr, "psnr_y": psnr, "ssim": 0.9}
        for network, psnr in (("baseline", 27.0), ("target", target))
    ]
    write_table(folder / "tables" / "restoration.csv", rows)
    run = read_run(folder)
    (warning,) = sentences.warnings(run)
    assert said in warning
    verdict = sentences.verdict(run, findings.method_results(run, 1)[0])
    assert sentences.TOO_LITTLE in verdict
    assert "seen on this run" not in verdict
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
