"""The section on curves says what its tables say, whoever wins."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from faig_lab.reporting.report import write_report
from faig_lab.reporting.run_files import RunFiles, read_run
from faig_lab.reporting.sections.curves import SECTION
from faig_lab.reporting.tables import write_table

MakeRun = Callable[..., Path]
PERCENTS = (0, 1, 10, 100)
METHODS = ("faig", "signed_share", "random", "layer_matched")
AREAS = {"faig": 0.33, "signed_share": 0.09, "random": 0.73, "layer_matched": 0.68}
APART = {"signed_share": (0.25, 0.22, 0.28), "random": (-0.3, -0.4, -0.2), "layer_matched": (0.01, -0.1, 0.1)}


def restored_at(curve: str, percent: float, left: float) -> float:
    """From 1 down to what is left, or back up."""
    height = {0: 1.0, 1: 0.5, 10: 0.2, 100: 0.0}[int(percent)]
    height = height if curve == "deletion" else 1 - height
    return left + (1 - left) * height


def write(
    run: Path,
    degradations: tuple[str, ...] = ("blur", "noise"),
    areas: Mapping[str, float] = AREAS,
    left: tuple[float, float] = (-0.03, -0.03),
    dip: float | None = None,
) -> RunFiles:
    rows = [
        {
            "curve": curve,
            "method": method,
            "draws": 1,
            "percent": percent,
            "filters": percent * 100,
            "masked": masked,
            "degradation": shown,
            "psnr": 30.0,
            "restored": dip
            if dip is not None and (curve, method, percent) == ("insertion", "signed_share", 10)
            else restored_at(curve, percent, left[curve == "insertion"]),
            "low": 0.0,
            "high": 1.0,
            "spread": 0.0,
        }
        for curve in ("deletion", "insertion")
        for method in METHODS
        for percent in PERCENTS
        for masked in degradations
        for shown in degradations
    ]
    write_table(run / "tables" / "curves.csv", rows)
    several = len(degradations) > 1
    write_table(
        run / "tables" / "curves_areas.csv",
        [
            {
                "curve": curve,
                "method": method,
                "masked": masked,
                "side": side,
                **{
                    f"{axis}{suffix}": None if side != "own" and not several else area + shift
                    for axis, area in (("area_log", areas[method]), ("area_linear", 1 - areas[method]))
                    for suffix, shift in (("", 0.0), ("_low", -0.05), ("_high", 0.05))
                },
            }
            for curve in ("deletion", "insertion")
            for method in METHODS
            for masked in (*degradations, "all")
            for side in ("own", "other", "difference")
        ],
    )
    numbers = [None] * 3
    write_table(
        run / "tables" / "curves_compared.csv",
        [
            {"curve": curve, "method": method, "against": "faig"}
            | dict(zip(("difference", "low", "high"), APART[method] if several else numbers, strict=True))
            for curve in ("deletion", "insertion")
            for method in METHODS[1:]
        ],
    )
    return read_run(run)


def text_of(files: RunFiles) -> str:
    return " ".join(SECTION.sentences(files))


def test_it_names_ends_winner_and_differences(make_run: MakeRun) -> None:
    text = text_of(write(make_run()))
    assert "with all 10,000 filters at the baseline's values, which still restores −3 % of deblurring" in text
    assert "Deletion, own function: the smallest area over log q" in text
    assert "signed share, 0.09 (0.04 to 0.14), beside FAIG, 0.33 (0.28 to 0.38), random filters, 0.73" in text
    assert "Insertion, own function: the largest area over log q" in text
    assert "Over linear q it is that of random filters." in text
    assert "signed share (+0.25, 0.22 to 0.28) is better" in text
    assert "random filters (−0.30, −0.40 to −0.20) is worse" in text
    assert "random, layer-matched (+0.01, −0.10 to 0.10) is not told apart" in text
    assert "far below" not in text


@pytest.mark.parametrize(
    ("deleted", "inserted", "verdict"),
    [
        (0.1, 0.9, "needed, and restore most"),
        (0.1, 0.1, "needed, but far from enough"),
        (0.9, 0.9, "others can stand in"),
        (0.9, 0.1, "neither needed nor enough"),
    ],
)
def test_needed_or_enough(make_run: MakeRun, deleted: float, inserted: float, verdict: str) -> None:
    files = write(make_run())
    for row in files.table("curves"):
        if row["method"] == "faig" and row["percent"] == 1:
            row["restored"] = deleted if row["curve"] == "deletion" else inserted
    assert verdict in next(sentence for sentence in SECTION.sentences(files) if sentence.startswith("FAIG at 1 %"))


def test_another_winner_gives_other_words(make_run: MakeRun) -> None:
    text = text_of(write(make_run(), areas=AREAS | {"random": 0.01}))
    assert "is that of random filters, 0.01" in text
    assert "Its interval overlaps" not in text_of(write(make_run(), areas=AREAS | {"random": -0.1}))
    assert "Its interval overlaps with that of signed share." in text


def test_harm_is_told(make_run: MakeRun) -> None:
    text = text_of(write(make_run(), dip=-1.5))
    assert "Insertion goes far below the baseline with signed share (−150 % of deblurring at q = 10 %)" in text
    assert "Deletion goes far below" not in text


def test_curves_with_different_ends_are_described_as_such(make_run: MakeRun) -> None:
    text = text_of(write(make_run(), left=(0.4, 0.0)))
    assert "still restores 40 % of deblurring and 40 % of denoising; insertion" in text
    assert "starts at 0 % of deblurring" in text


@pytest.mark.parametrize(
    ("restored", "expected"), [(0.07, "deblurring is not in the filters alone"), (0.97, "nearly everything")]
)
def test_the_worth_of_biases(make_run: MakeRun, restored: float, expected: str) -> None:
    files = write(make_run())
    files.metrics.update(
        {"restored_without_target_biases/blur": restored, "restored_without_target_biases/noise": 0.95}
    )
    assert expected in text_of(files)


def test_one_degradation_has_no_others(make_run: MakeRun) -> None:
    files = write(make_run(degradations=("blur",)), degradations=("blur",))
    text = text_of(files)
    assert "own against other" not in text
    figure = SECTION.figure(files)
    assert figure is not None
    assert len(figure.axes) == 2
    table = SECTION.table(files)
    assert table is not None
    assert table.head == ["Area under the curve", "deleted: own ↓", "inserted: own ↑"]


def test_figure_table_and_page(make_run: MakeRun) -> None:
    run = make_run()
    files = write(run)
    figure = SECTION.figure(files)
    assert figure is not None
    assert len(figure.axes) == 2 * 2 * 2
    assert [line.get_label() for line in figure.axes[0].lines[:4]] == [
        *("FAIG", "signed share", "random filters", "random, layer-matched")
    ]
    table = SECTION.table(files)
    assert table is not None
    assert table.rows[0][:2] == ["FAIG, log q", "0.33 (0.28–0.38)"]
    assert {len(row) for row in table.rows} == {len(table.head)}
    assert len(table.rows) == 2 * len(METHODS)
    page = write_report(run).read_text()
    assert 'id="curves"' in page
    assert SECTION.title in page


def test_three_degradations(make_run: MakeRun) -> None:
    names = ("blur", "noise", "jpeg")
    files = write(make_run(degradations=names), degradations=names)
    figure = SECTION.figure(files)
    assert figure is not None
    assert len(figure.axes) == 12
    assert "the others, mean left" in {axes.get_title() for axes in figure.axes}
