"""Isolation in console, report and figure: read from the tables, said with its parts, absent in older runs."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from faig_lab.reporting import isolation
from faig_lab.reporting.figures import write_figures
from faig_lab.reporting.isolation_figure import isolation as figure
from faig_lab.reporting.report import write_report
from faig_lab.reporting.run_files import read_run
from faig_lab.reporting.summary import summary
from faig_lab.reporting.tables import read_table, write_table

MakeRun = Callable[..., Path]
ISOLATED = {"faig": 0.66, "signed_share": 0.72, "random": 0.1}


def test_numbers_are_those_of_the_tables(make_run: MakeRun) -> None:
    run = read_run(make_run(isolated=ISOLATED))
    found = isolation.of_set(run, "signed_share", 1, "noise")
    assert found is not None
    assert (found.isolation, found.own_left, found.side, found.side_clean) == pytest.approx((0.72, 0.14, 0.07, 0.07))
    assert found.ends == "0.62 to 0.82"
    means = isolation.of_methods(run, 1)
    assert list(means) == ["faig", "signed_share", "random"]
    assert (means["random"].std, means["faig"].std) == (0.02, None)
    assert isolation.of_set(run, "signed_share", 2, "noise") is None


@pytest.mark.parametrize(
    ("photographs", "words"), [(1, ""), (3, "range over 3 scenes"), (24, "95 % interval over 24 scenes")]
)
def test_a_range_is_called_range(make_run: MakeRun, photographs: int, words: str) -> None:
    folder = make_run(isolated=ISOLATED, photographs=photographs)
    assert isolation.ends_are(read_run(folder)) == words
    text = summary(folder, None)
    assert ("range over" in text, "95 % interval" in text) == ("range" in words, "95 %" in words)
    sentence = isolation.set_sentence(read_run(folder), isolation.of_sets(read_run(folder))[0])
    between = f" ({words}: 0.56 to 0.76)" if words else ""
    assert sentence == f"Masking 1 % (122 of 12,240) deblurring filters: isolation 0.66{between}."


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
    rows = read_table(folder / "tables" / "restoration.csv")
    for row in rows:
        if (row["network"], row["degradation"]) == ("target", "clean"):
            row["psnr"] = 20.0
        if (row["network"], row["degradation"]) == ("baseline", "clean"):
            row["psnr"] = 20.31
    write_table(folder / "tables" / "restoration.csv", rows)
    assert isolation.clean_cost(read_run(folder)) == "On clean input the target is 0.31 dB below the baseline."
    (line,) = [line for line in summary(folder, None).splitlines() if line.startswith("  clean ")]
    assert line.split()[1:] == ["20.31", "20.00", "−0.31"]
    assert write_report(folder).read_text(encoding="utf-8").count("0.31 dB below the baseline") == 2


def test_harm_is_said_and_shares_are_clipped(make_run: MakeRun) -> None:
    folder = make_run(isolated=ISOLATED, own={"faig": 2.04, "signed_share": 0.9, "random": 0.0})
    rows = read_table(folder / "tables" / "isolation.csv")
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
    write_figures(folder, [])
    page = write_report(folder).read_text(encoding="utf-8")
    finding = page[page.index('class="finding"') : page.index("<nav")]
    cards = re.findall(r"<span>(.*?)</span> <strong>(.*?)</strong>", finding)
    assert cards[:4] == [
        ("isolation", "0.66"),
        ("− distance to the baseline on blurred input", "0.17"),
        ("− side effect on noisy input", "0.08"),
        ("− side effect on clean input (−0.11 dB)", "0.08"),
    ]
    assert finding.index("isolation 0.66") < finding.index("removed shares")
    assert "<td>0.72 <small>0.62 to 0.82</small></td>" in page
    assert (folder / "figures" / "isolation.png").is_file()
    assert 'alt="Area charts of isolation' in page


def test_a_single_degradation_has_no_other_to_disturb(make_run: MakeRun) -> None:
    folder = make_run(degradations=("blur",), isolated=ISOLATED)
    page = write_report(folder).read_text(encoding="utf-8")
    assert "− side effect on clean input" in page
    assert "− side effect on  input" not in page
    assert "others" not in summary(folder, None).split("\n\n")[0]
    assert figure(read_run(folder)) is not None


def test_the_figure_has_a_row_per_method_and_a_column_per_set(make_run: MakeRun) -> None:
    drawn = figure(read_run(make_run(isolated=ISOLATED)))
    assert drawn is not None
    assert len(drawn.axes) == 3 * 2
    line = drawn.axes[2].get_lines()[0]
    assert line.get_ydata()[2] == pytest.approx(0.72)  # signed share, blur, 1 %


def test_runs_from_before_say_what_they_have(make_run: MakeRun) -> None:
    folder = make_run()
    run = read_run(folder)
    assert (isolation.of_sets(run), isolation.of_methods(run, 1), figure(run)) == ([], {}, None)
    assert "solation" not in summary(folder, None)
    assert "deblurring lost" in write_report(folder).read_text(encoding="utf-8")
