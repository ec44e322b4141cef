"""Isolation in console, report and figure: read from the tables, said with its parts, absent in older runs."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from tiny_case import figures_of

from faig_lab.plotting import findings
from faig_lab.plotting.style import INK
from faig_lab.report import texts
from faig_lab.report.figures import isolation as figure
from faig_lab.report.figures import methods as methods_figure
from faig_lab.report.figures import write_figures
from faig_lab.report.report import write_report
from faig_lab.report.texts import summary
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import read_table, records, write_table

MakeRun = Callable[..., Path]
ISOLATED = {"faig": 0.66, "signed_share": 0.72, "random": 0.1}


def test_numbers_are_those_of_the_tables(make_run: MakeRun) -> None:
    run = RunFolder(make_run(isolated=ISOLATED))
    found = findings.of_set(run, "signed_share", 1, "noise")
    assert found is not None
    assert (found.isolation, found.own_left, found.side, found.side_clean) == pytest.approx((0.72, 0.14, 0.07, 0.07))
    assert found.ends == "0.62 to 0.82"
    means = findings.of_methods(run, 1)
    assert list(means) == ["faig", "signed_share", "random"]
    assert (means["random"].std, means["faig"].std) == (0.02, None)
    assert findings.of_set(run, "signed_share", 2, "noise") is None


@pytest.mark.parametrize(
    ("photographs", "words"), [(1, ""), (3, "range over 3 scenes"), (24, "95 % interval over 24 scenes")]
)
def test_a_range_is_called_range(make_run: MakeRun, photographs: int, words: str) -> None:
    folder = make_run(isolated=ISOLATED, photographs=photographs)
    assert findings.ends_are(RunFolder(folder)) == words
    text = summary(folder, None)
    assert ("range over" in text, "95 % interval" in text) == ("range" in words, "95 %" in words)
    page = write_report(folder).read_text(encoding="utf-8")
    assert "<h3>Masking 1 % (122 of 12,240) deblurring filters</h3>" in page
    between = f" ({words}: 0.56 to 0.76)" if words else ""
    assert f"<span>isolation{between}</span> <strong>0.66</strong>" in page


def test_the_console_begins_with_isolation(make_run: MakeRun) -> None:
    folder = make_run(isolated=ISOLATED)
    text = summary(folder, None)
    assert text.startswith("\nIsolation after masking 1 % of the filters (122 of 12,240), 5 images:")
    (line,) = [line for line in text.splitlines() if line.startswith("  signed share  ")][:1]
    assert line.split()[2:] == ["0.72", "0.62", "to", "0.82", "0.14", "0.07", "0.07", "−0.09"]
    (line,) = [line for line in text.splitlines() if line.startswith("  denoising (FAIG)")]
    assert "0.66" in line
    assert text.index("Isolation") < text.index("filters remove")
    assert max(map(len, text.splitlines())) <= 110 + len(str(folder))


def test_the_target_s_cost_on_clean_input_is_said(make_run: MakeRun) -> None:
    folder = make_run(isolated=ISOLATED)
    rows = records(read_table(folder / "tables" / "restoration.csv"))
    for row in rows:
        if (row["network"], row["degradation"]) == ("target", "clean"):
            row["psnr"] = 20.0
        if (row["network"], row["degradation"]) == ("baseline", "clean"):
            row["psnr"] = 20.31
    write_table(folder / "tables" / "restoration.csv", rows)
    assert texts.clean_cost(RunFolder(folder)) == "On clean input the target is 0.31 dB below the baseline."
    (line,) = [line for line in summary(folder, None).splitlines() if line.startswith("  clean ")]
    assert line.split()[1:] == ["20.31", "20.00", "−0.31"]
    assert write_report(folder).read_text(encoding="utf-8").count("0.31 dB below the baseline") == 1


def test_harm_is_said_and_shares_are_clipped(make_run: MakeRun) -> None:
    folder = make_run(isolated=ISOLATED, own={"faig": 2.04, "signed_share": 0.9, "random": 0.0})
    rows = records(read_table(folder / "tables" / "isolation.csv"))
    for row in rows:
        row["harm"] = 1.04 if (row["masked"], row["method"]) == ("noise", "faig") else 0.0
    write_table(folder / "tables" / "isolation.csv", rows)
    text = summary(folder, None)
    assert "204 %" not in text
    assert "denoising 2.04 (harm 1.04)" in text
    page = write_report(folder).read_text(encoding="utf-8")
    assert "harm 1.04" in page
    assert "204 %" not in page


def test_the_report_leads_with_isolation(make_run: MakeRun) -> None:
    folder = make_run(isolated=ISOLATED)
    with figures_of("isolation"):
        write_figures(folder, [])
    page = write_report(folder).read_text(encoding="utf-8")
    finding = page[page.index('class="finding"') : page.index("<nav")]
    cards = re.findall(r"<span>(.*?)</span> <strong>(.*?)</strong>", finding)
    assert cards[:4] == [
        ("isolation (range over 3 scenes: 0.56 to 0.76)", "0.66"),
        ("− distance to the baseline on blurred input", "0.17"),
        ("− side effect on noisy input", "0.08"),
        ("− side effect on clean input (−0.11 dB)", "0.08"),
    ]
    assert "removes 85 % of deblurring and 22 % of denoising" in finding
    assert "<td>0.72 <small>0.62 to 0.82</small></td>" in page
    assert (folder / "figures" / "isolation.png").is_file()
    assert 'alt="Area charts of isolation' in page


def test_a_single_degradation_has_no_other_to_disturb(make_run: MakeRun) -> None:
    folder = make_run(degradations=("blur",), isolated=ISOLATED)
    page = write_report(folder).read_text(encoding="utf-8")
    assert "− side effect on clean input" in page
    assert "− side effect on  input" not in page
    assert "others" not in summary(folder, None).split("\n\n")[0]
    assert figure(RunFolder(folder)) is not None


@pytest.mark.parametrize("methods", [3, 7])
def test_the_figure_has_a_panel_per_method_and_set(make_run: MakeRun, methods: int) -> None:
    names = ("faig", "signed_share", "ig", "taylor", "fisher", "weight_change", "random")[7 - methods :]
    shares = dict.fromkeys(names, 0.5)
    run = make_run(methods=names, own=shares, other=shares, isolated={name: 0.1 * k for k, name in enumerate(names)})
    drawn = figure(RunFolder(run))
    assert drawn is not None
    panels = [panel for panel in drawn.axes if panel.axison]
    assert len(panels) == 2 * methods
    assert panels[1].get_lines()[0].get_ydata()[2] == pytest.approx(0.1)  # the second method, blur, 1 %


REFERENCE = "learned mask (reference)"
FOUND = {"faig": 0.5, "signed_share": 0.75, "learned_mask": 0.9, "random": -0.25}
EVEN = dict.fromkeys(FOUND, 0.5)


def test_distances_to_the_learned_mask_at_equal_count(make_run: MakeRun) -> None:
    run = RunFolder(make_run(methods=tuple(FOUND), own=EVEN, other=EVEN, isolated=FOUND))
    assert findings.distances(run, 1.0) == pytest.approx({"faig": 0.4, "signed_share": 0.15, "random": 1.15})
    assert findings.distances(run, 2.0) == {}
    assert texts.reference(run) == (
        "Learned mask (reference) at 1 %: isolation 0.90, mean over the masked sets. Distance to the learned mask at "
        "equal count: FAIG 0.40, signed share 0.15 and random filters 1.15."
    )
    assert texts.reference(run) in write_report(run.path).read_text(encoding="utf-8")


def test_a_method_above_the_learned_mask_has_a_negative_distance(make_run: MakeRun) -> None:
    run = RunFolder(make_run(methods=tuple(FOUND), own=EVEN, other=EVEN, isolated=FOUND | {"faig": 0.95}))
    assert "FAIG \N{MINUS SIGN}0.05," in texts.reference(run)


def test_nothing_is_said_without_a_reference(make_run: MakeRun) -> None:
    others = {method: value for method, value in FOUND.items() if method != "learned_mask"}
    run = RunFolder(make_run(methods=tuple(others), own=EVEN, other=EVEN, isolated=others))
    assert (findings.distances(run, 1.0), texts.reference(run)) == ({}, "")


def test_every_panel_but_its_own_has_the_reference_line(make_run: MakeRun) -> None:
    run = RunFolder(make_run(methods=tuple(FOUND), own=EVEN, other=EVEN, isolated=FOUND, intervals=0.1))
    drawn = figure(run)
    assert drawn is not None
    lines = {panel.get_title(): [line.get_label() for line in panel.lines] for panel in drawn.axes[:4]}
    assert [name for name, labels in lines.items() if REFERENCE not in labels] == ["learned mask"]
    compared = methods_figure(run)
    assert compared is not None
    for panel in compared.axes:
        if panel.axison:
            (line,) = [line for line in panel.lines if line.get_label() == REFERENCE]
            assert (to_hex(line.get_color()), line.get_linestyle()) == (INK, "-.")
    assert [text.get_text() for text in compared.legends[0].get_texts()] == ["FAIG", REFERENCE]


def test_runs_from_before_say_what_they_have(make_run: MakeRun) -> None:
    folder = make_run()
    run = RunFolder(folder)
    assert (findings.of_sets(run), findings.of_methods(run, 1), figure(run)) == ([], {}, None)
    assert "solation" not in summary(folder, None)
    assert "removes 85 % of deblurring" in write_report(folder).read_text(encoding="utf-8")
