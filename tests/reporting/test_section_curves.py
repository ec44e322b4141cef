"""The section on curves says what its tables say, whoever wins."""

from collections.abc import Callable, Mapping
from pathlib import Path

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


def test_it_names_ends_and_differences(make_run: MakeRun) -> None:
    text = text_of(write(make_run()))
    assert "with all 10,000 filters at the baseline's values, which still restores −3 % of deblurring" in text
    assert (
        "Deletion, own against other functions: the two areas over log q of FAIG are 0.33 (0.28 to 0.38) apart. Minus "
        "that, paired by photograph (95 % interval over photographs): signed share (+0.25, 0.22 to 0.28), random "
        "filters (−0.30, −0.40 to −0.20) and random, layer-matched (+0.01, −0.10 to 0.10)."
    ) in text
    assert not any(word in text for word in ("better", "worse", "told apart", "lowest"))


def test_a_range_is_called_so(make_run: MakeRun) -> None:
    files = write(make_run())
    for row in files.table("curves_compared"):
        row["interval"] = "range"
    assert "paired by photograph (range over photographs): signed share" in text_of(files)


def test_what_the_headline_leaves_and_gives(make_run: MakeRun) -> None:
    files = write(make_run())
    for row in files.table("curves"):
        if row["method"] == "faig" and row["percent"] == 1:
            row["restored"] = 0.1 if row["curve"] == "deletion" else 0.9
    sentence = next(sentence for sentence in SECTION.sentences(files) if sentence.startswith("FAIG at 1 %"))
    assert sentence == (
        "FAIG at 1 %: deleting its sets leaves 10 % of deblurring and 10 % of denoising; inserting nothing but them "
        "restores 90 % of deblurring and 90 % of denoising."
    )


def test_harm_is_told(make_run: MakeRun) -> None:
    text = text_of(write(make_run(), dip=-1.5))
    assert "Insertion, lowest points below −25 %: signed share (−150 % of deblurring at q = 10 %)." in text
    assert "Deletion, lowest" not in text


def test_curves_with_different_ends_are_described_as_such(make_run: MakeRun) -> None:
    text = text_of(write(make_run(), left=(0.4, 0.0)))
    assert "still restores 40 % of deblurring and 40 % of denoising; insertion" in text
    assert "starts at 0 % of deblurring" in text


def test_the_worth_of_biases(make_run: MakeRun) -> None:
    files = write(make_run())
    assert "but its own biases" not in text_of(files)
    files.metrics.update({"restored_without_target_biases/blur": 0.07, "restored_without_target_biases/noise": 0.95})
    assert "but its own biases, restores 7 % of deblurring and 95 % of denoising." in text_of(files)


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
