"""The section on curves says what its tables say, whoever wins."""

from collections.abc import Callable, Mapping
from pathlib import Path

from faig_lab.report.report import write_report
from faig_lab.runs.run_files import RunFiles, read_run
from faig_lab.runs.tables import write_table
from faig_lab.studies.curves import SECTION

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


def test_what_the_headline_leaves_and_gives(make_run: MakeRun) -> None:
    files = write(make_run())
    for row in files.table("curves"):
        if row["method"] == "faig" and row["percent"] == 1:
            row["restored"] = 0.1 if row["curve"] == "deletion" else 0.9
    assert SECTION.sentence(files) == (
        "FAIG at 1 %: deleting its sets leaves 10 % of deblurring and 10 % of denoising; inserting nothing but them "
        "restores 90 % of deblurring and 90 % of denoising."
    )


def test_paired_differences_are_columns_of_the_table(make_run: MakeRun) -> None:
    table = SECTION.table(write(make_run()))
    assert table is not None
    assert table.head[-2:] == [f"{curve}, own against others, minus FAIG" for curve in ("deletion", "insertion")]
    rows = {row[0]: row[-2:] for row in table.rows}
    assert rows["signed share, log q"] == ["+0.25 (+0.22 to +0.28)"] * 2
    assert rows["random, layer-matched, log q"][0] == "+0.01 (−0.10 to +0.10)"
    assert rows["FAIG, log q"] == rows["signed share, linear q"] == ["", ""]


def test_a_curve_below_the_panel_is_marked(make_run: MakeRun) -> None:
    figure = SECTION.figure(write(make_run(), dip=-1.5))
    assert figure is not None
    assert {text.get_text() for axes in figure.axes for text in axes.texts} == {"▾ −150 %"}


def test_one_degradation_has_no_others(make_run: MakeRun) -> None:
    files = write(make_run(degradations=("blur",)), degradations=("blur",))
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
        *("FAIG", "signed share", "random sets", "random, layer-matched")
    ]
    table = SECTION.table(files)
    assert table is not None
    assert table.rows[0][:2] == ["FAIG, log q", "0.33 (0.28 to 0.38)"]
    assert {len(row) for row in table.rows} == {len(table.head)}
    assert len(table.rows) == 2 * len(METHODS)
    page = write_report(run).read_text()
    assert 'id="curves"' in page
    assert SECTION.title.format(units="filters") in page


def test_three_degradations(make_run: MakeRun) -> None:
    names = ("blur", "noise", "jpeg")
    files = write(make_run(degradations=names), degradations=names)
    figure = SECTION.figure(files)
    assert figure is not None
    assert len(figure.axes) == 12
    assert "deblurring set deleted: the others, mean left" in {axes.get_title() for axes in figure.axes}
