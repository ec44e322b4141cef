"""The sentences of page and console, the closing text of a run, and the run's own word for the ranked units."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from tiny_case import figures_of

from faig_lab.files import write_json
from faig_lab.granularity import UNITS
from faig_lab.plotting.style import write_figure
from faig_lab.plotting.words import ABSENT, MEANINGS
from faig_lab.report import figures, texts
from faig_lab.report.figures import write_figures
from faig_lab.report.report import write_report
from faig_lab.report.texts import added, summary
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import read_table, records, write_table
from faig_lab.studies.section import sections

MakeRun = Callable[..., Path]
ISOLATED = {"faig": 0.66, "signed_share": 0.72, "random": 0.1}


def page_of(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


def change(run: Path, table: str, cells: Callable[[dict[str, object]], dict[str, object]]) -> None:
    """Change cells of every row of a table."""
    path = run / "tables" / f"{table}.csv"
    write_table(path, [row | cells(row) for row in records(read_table(path))])


# The closing text


@pytest.mark.parametrize(
    ("record", "shown", "hidden"),
    [
        (None, [], ["wandb", "csv"]),
        (
            SimpleNamespace(folder=Path("a run/wandb/offline-run-1"), url=None, folders={"csv": Path("csv")}),
            ["wandb leet 'a run/wandb/offline-run-1'", "wandb sync 'a run/wandb/offline-run-1'", "csv/metrics.csv"],
            ["tensorboard"],
        ),
        (
            SimpleNamespace(folder=Path("wandb/run-1"), url="https://wandb.ai/x", folders={"tensorboard": Path("a b")}),
            ["https://wandb.ai/x", "tensorboard --logdir 'a b'"],
            ["sync"],
        ),
    ],
)
def test_numbers_report_and_commands(make_run: MakeRun, record: object, shown: list[str], hidden: list[str]) -> None:
    run = make_run()
    assert f"run folder    {run}" in summary(run, None)
    (run / "report.html").touch()
    text = summary(run, record)  # type: ignore[arg-type]
    assert text.startswith("\nMasking 1 % of the filters (122 of 12,240) found by FAIG")
    assert "deblurring filters remove   85 % of deblurring    22 % of denoising" in text
    assert "gain over baseline, dB" in text
    assert "+4.50" in text
    assert f"report        {run / 'report.html'}" in text
    assert max(map(len, text.splitlines())) <= 110 + len(str(run))
    assert all(part in text for part in shown)
    assert not [part for part in hidden if part in text]
    assert ABSENT not in summary(make_run(methods=(), degradations=("blur",)), None).splitlines()[0]


def test_intervals_are_a_column_if_there_are_any(make_run: MakeRun) -> None:
    assert "95 % interval" not in summary(make_run(), None)
    assert "range over photographs" in summary(make_run(intervals=0.1, photographs=9), None)
    text = summary(make_run(intervals=0.1, photographs=10), None)
    (line,) = [line for line in text.splitlines() if line.startswith("  signed share")]
    assert "95 % interval over photographs" in text
    assert "range" not in text
    assert line.endswith("0.78 to 0.98")


def test_an_added_study_has_its_question_its_numbers_and_its_files(make_run: MakeRun) -> None:
    run = make_run()
    rows = [
        {"masked": masked, "degradation": masked, "strength": strength, "psnr": 20.0 + 10 * strength, "image": "a"}
        for masked in ("blur", "noise")
        for strength in (0.0, 0.5, 1.0)
    ]
    write_table(run / "tables" / "modulation.csv", rows)
    first, second = added(run, ["modulation", "mine"]).splitlines()
    (section,) = [section for section in sections() if section.name == "modulation"]
    assert first.startswith(f"added         modulation: {RunFolder(run).worded(section.title)}")
    assert "(tables/modulation.csv)" in first
    assert "{" not in first
    assert second == "added         mine"  # a study of the user without a section


def test_the_console_begins_with_isolation(make_run: MakeRun) -> None:
    folder = make_run(isolated=ISOLATED)
    text = summary(folder, None)
    assert text.startswith("\nIsolation after masking 1 % of the filters (122 of 12,240), 5 images:")
    (line,) = [line for line in text.splitlines() if line.startswith("  signed share  ")][:1]
    assert line.split()[2:] == ["0.72", "0.62", "to", "0.82", "0.14", "0.07", "0.07", "−0.09"]
    assert text.index("Isolation") < text.index("filters remove")
    assert max(map(len, text.splitlines())) <= 110 + len(str(folder))
    one = make_run(degradations=("blur",), isolated=ISOLATED)
    assert "others" not in summary(one, None).split("\n\n")[0]
    assert "solation" not in summary(make_run(), None)


# Page and console


@pytest.mark.parametrize(
    ("photographs", "words"), [(1, ""), (3, "range over 3 scenes"), (24, "95 % interval over 24 scenes")]
)
def test_page_and_console_have_the_same_numbers_of_every_set(make_run: MakeRun, photographs: int, words: str) -> None:
    """Isolation with its interval and parts, and removed shares, to the last digit that is shown."""
    run = make_run(isolated=ISOLATED, photographs=photographs)
    text, page = summary(run, None), page_of(run)
    assert ("range over" in text, "95 % interval" in text) == ("range" in words, "95 %" in words)
    finding = page[page.index('class="finding"') : page.index("<nav")]
    assert "<h3>Masking 1 % (122 of 12,240) deblurring filters</h3>" in finding
    between = f" ({words}: 0.56 to 0.76)" if words else ""
    assert re.findall(r"<span>(.*?)</span> <strong>(.*?)</strong>", finding)[:4] == [
        (f"isolation{between}", "0.66"),
        ("− distance to the baseline on blurred input", "0.17"),
        ("− side effect on noisy input", "0.08"),
        ("− side effect on clean input (−0.11 dB)", "0.08"),
    ]
    for function in ("deblurring", "denoising"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {function} (FAIG)")]
        assert line.removeprefix(f"  {function} (FAIG)").split()[0] == "0.66"
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {function}") and " remove " in line]
        (said,) = re.findall(rf"{function} filters</h3>.*?<p>removes (.*?)</p>", finding, flags=re.DOTALL)
        shares = re.findall(r"\d+ % of \w+", line)
        assert len(shares) == 2
        assert all(share in said for share in shares)


def test_one_degradation_has_no_side_effect_on_others(make_run: MakeRun) -> None:
    page = page_of(make_run(degradations=("blur",), isolated=ISOLATED))
    assert "− side effect on clean input" in page
    assert "− side effect on  input" not in page


def test_the_target_s_cost_on_clean_input_is_told(make_run: MakeRun) -> None:
    folder, psnr = make_run(isolated=ISOLATED), {"target": 20.0, "baseline": 20.31}

    def clean(row: dict[str, object]) -> dict[str, object]:
        known = row["degradation"] == "clean" and row["network"] in psnr
        return {"psnr": psnr[str(row["network"])]} if known else {}

    change(folder, "restoration", clean)
    assert texts.clean_cost(RunFolder(folder)) == "On clean input the target is 0.31 dB below the baseline."
    (line,) = [line for line in summary(folder, None).splitlines() if line.startswith("  clean ")]
    assert line.split()[1:] == ["20.31", "20.00", "−0.31"]
    assert page_of(folder).count("0.31 dB below the baseline") == 1


def test_harm_is_told_and_shares_are_clipped(make_run: MakeRun) -> None:
    folder = make_run(isolated=ISOLATED, own={"faig": 2.04, "signed_share": 0.9, "random": 0.0})
    change(folder, "isolation", lambda row: {"harm": 1.04 * ((row["masked"], row["method"]) == ("noise", "faig"))})
    text, page = summary(folder, None), page_of(folder)
    assert "denoising 2.04 (harm 1.04)" in text
    assert "harm 1.04" in page
    assert "204 %" not in text + page


@pytest.mark.parametrize("share", [0.9, 0.1])
def test_a_single_run_orders_no_methods_whatever_its_numbers(make_run: MakeRun, share: float) -> None:
    own, other = dict.fromkeys(ISOLATED, share), dict.fromkeys(ISOLATED, 1 - share)
    folder = make_run(own=own, other=other, intervals=0.001, photographs=50)
    page = page_of(folder)
    top = page[page.index("<main>") : page.index('id="contents"')]
    words = ("ahead", "most specific", "beats", "beaten", "better", "worse", "claim", "chance", "confirmed")
    assert not [word for word in words if word in top + summary(folder, None)]


@pytest.mark.parametrize(("target", "told"), [(27.2, "only 0.20 dB above"), (26.0, "1.00 dB below")])
def test_a_small_gain_is_a_warning(make_run: MakeRun, target: float, told: str) -> None:
    folder = make_run()
    rows = [
        {"network": network, "degradation": "blur", "image": "a", "psnr": psnr, "psnr_y": psnr, "ssim": 0.9}
        for network, psnr in (("baseline", 27.0), ("target", target))
    ]
    write_table(folder / "tables" / "restoration.csv", rows)
    (warning,) = texts.warnings(RunFolder(folder))
    assert told in warning
    assert warning in summary(folder, None)


def test_the_learned_mask_is_the_reference_of_all_methods(make_run: MakeRun) -> None:
    found = {"faig": 0.95, "signed_share": 0.75, "learned_mask": 0.9, "random": -0.25}
    run = make_run(methods=tuple(found), own=found, other=found, isolated=found)
    sentence = texts.reference(RunFolder(run))
    assert sentence == (
        "Learned mask (reference) at 1 %: isolation 0.90, mean over the masked sets. Distance to the learned mask at "
        "equal count: FAIG \N{MINUS SIGN}0.05, signed share 0.15 and random filters 1.15."
    )
    assert sentence in page_of(run)
    assert texts.reference(RunFolder(make_run(isolated=ISOLATED))) == ""


@pytest.mark.parametrize(
    ("photographs", "expected"),
    [
        (1, "There are no intervals"),
        (2, "Below a specificity: the range over the 2 held-out photographs for this"),
        (9, "Below a specificity: the range over the 9 held-out photographs for this"),
        (10, "Below a specificity: the 95 % interval over the 10 held-out photographs for this"),
    ],
)
def test_what_intervals_show_and_do_not_show(make_run: MakeRun, photographs: int, expected: str) -> None:
    run = make_run(intervals=0.1, photographs=photographs)
    text = texts.intervals(RunFolder(run))
    assert text.startswith(expected)
    assert ("not how much it depends on the training." in text) == (photographs > 1)
    assert ("is too narrow" in text) == (1 < photographs < 10)
    assert texts.intervals(RunFolder(make_run())) == ""  # a run of an earlier version


def test_the_page_has_intervals_and_their_figure(make_run: MakeRun) -> None:
    run = make_run(intervals=0.1, isolated=ISOLATED)
    with figures_of("methods", "isolation"):
        write_figures(run, [])
    html = page_of(run)
    assert "Below a specificity: the range over the 3 held-out photographs" in html
    assert "<small>0.78 to 0.98</small>" in html
    assert "<td>0.72 <small>0.62 to 0.82</small></td>" in html
    assert "minus FAIG" in html
    assert "a panel per method beside FAIG" in html
    assert 'alt="Area charts of isolation' in html


# Facts


def test_command_line_and_total_time_of_the_stages(make_run: MakeRun) -> None:
    run = make_run()
    status, metrics = (json.loads((run / f"{name}.json").read_text()) for name in ("status", "metrics"))
    timed = {"seconds/data": 2.0, "seconds/training": 60.5, "seconds/attribution": 30.0}
    studies = {"seconds/analysis": 1.5, "seconds/analysis/masking": 40.0, "seconds/analysis/modulation": 4.0}
    untimed = {"seconds/attribution/path_integral": 25.0, "seconds/expected": 300.0}
    write_json(run / "metrics.json", metrics | timed | studies | untimed)
    write_json(run / "status.json", status | {"command": "python -m faig_lab experiment=blur_noise 'name=<a>'"})
    assert texts.total_seconds(RunFolder(run)) == 138.0
    assert texts.seconds(RunFolder(run))["of the attribution: path_integral"] == 25.0
    page = page_of(run)
    assert "Command: <code>python -m faig_lab experiment=blur_noise &#39;name=&lt;a&gt;&#39;</code>" in page
    assert "Total time: 2 min 18 s." in page
    write_json(run / "metrics.json", {key: n for key, n in metrics.items() if not key.startswith("seconds/")})
    write_json(run / "status.json", status)
    page = page_of(run)
    assert "Command:" not in page
    assert "Total time" not in page


# The run's own word


def layout_of(run: Path, **changes: object) -> RunFolder:
    path = run / "attribution" / "layout.json"
    write_json(path, json.loads(path.read_text()) | changes)
    return RunFolder(run)


@pytest.mark.parametrize("granularity", ["layer", "input_channel"])
def test_page_figures_and_console_have_the_run_s_own_word(
    make_run: MakeRun, granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = layout_of(make_run(intervals=0.1, isolated={"faig": 0.5, "random": 0.0}), granularity=granularity)
    drawn: list[Figure] = []
    monkeypatch.setattr(
        figures, "write_figure", lambda path, figure: drawn.append(figure) or write_figure(path, figure)
    )
    write_figures(run.path, [])
    read = re.sub(
        r"<(script|style|pre)\b.*?</\1>|(?<=data:)[^\"]*|data-marks='[^']*'", "", page_of(run.path), flags=re.DOTALL
    )
    paper = ("Filter attribution by", "Finding Discriminative Filters", "of the filters)", "denoising filters")
    for kept in (*paper, "random filters", "Random filters"):  # the last two name a method
        read = read.replace(kept, "")
    assert not re.findall(r"[^<>]*\bfilters?\b[^<>]*", read, flags=re.IGNORECASE)
    assert f"deblurring {UNITS[granularity]}" in read
    assert f"1 % of the {UNITS[granularity]} (122 of" in summary(run.path, None)
    assert "filter" not in summary(run.path, None).replace("random filters", "")
    assert len(drawn) == 6
    for figure in drawn:
        shown = {text.get_text() for text in figure.findobj(Text)}  # type: ignore[attr-defined]
        assert not [text for text in shown - {"random filters"} if "filter" in text.lower()]
    for section in sections():
        told = [section.title, section.method, section.alt, section.caption, section.note]
        told += [section.strips.alt, section.strips.caption] if section.strips else []
        assert not [text for text in told if "filter" in run.worded(text, input="blurred").lower()]


@pytest.mark.parametrize("granularity", UNITS)
def test_the_glossary_defines_the_unit_and_a_note_names_other_parameters(make_run: MakeRun, granularity: str) -> None:
    folder = make_run()
    older = RunFolder(folder)
    assert (older.units, older.worded("{Units}: one {unit}")) == ("filters", "Filters: one filter")
    assert texts.warnings(older) == []
    assert texts.meaning(layout_of(folder, granularity=granularity)) == MEANINGS[granularity]
    both = layout_of(folder, layers=[{"out": 3}, {"shape": [4]}])
    assert (texts.meaning(both) != MEANINGS[granularity]) == (granularity != "layer")
    (note,) = texts.warnings(both)
    assert note.startswith("Biases and all other parameters are ranked")
