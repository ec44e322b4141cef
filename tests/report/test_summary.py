"""What is printed at the end of a run."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from faig_lab.plotting.words import ABSENT
from faig_lab.report.report import write_report
from faig_lab.report.texts import added, summary
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import write_table
from faig_lab.studies.section import sections

MakeRun = Callable[..., Path]


def test_numbers_report_and_commands(make_run: MakeRun) -> None:
    run = make_run()
    (run / "report.html").touch()
    text = summary(run, SimpleNamespace(folder=Path("a run/wandb/offline-run-1"), url=None, folders={}))
    assert text.startswith("\nMasking 1 % of the filters (122 of 12,240) found by FAIG")
    assert "deblurring filters remove   85 % of deblurring    22 % of denoising" in text
    assert "FAIG" in text
    assert "+4.50" in text
    assert str(run / "report.html") in text
    assert "wandb leet 'a run/wandb/offline-run-1'" in text
    assert "wandb sync 'a run/wandb/offline-run-1'" in text
    assert max(map(len, text.splitlines())) <= 110 + len(str(run))


def test_intervals_are_a_column_where_there_are_any(make_run: MakeRun) -> None:
    assert "95 % interval" not in summary(make_run(), None)
    assert "range over photographs" in summary(make_run(intervals=0.1, photographs=9), None)
    text = summary(make_run(intervals=0.1, photographs=10), None)
    (line,) = [line for line in text.splitlines() if line.startswith("  signed share")]
    assert "95 % interval over photographs" in text
    assert "range" not in text
    assert line.endswith("0.78 to 0.98")


def test_an_online_run_has_a_page_and_nothing_to_sync(make_run: MakeRun) -> None:
    text = summary(make_run(), SimpleNamespace(folder=Path("wandb/run-1"), url="https://wandb.ai/x", folders={}))
    assert "https://wandb.ai/x" in text
    assert "sync" not in text


def test_without_a_record_and_without_results(make_run: MakeRun) -> None:
    text = summary(make_run(methods=(), degradations=("blur",)), None)
    assert "wandb" not in text
    assert ABSENT not in text.splitlines()[0]


def test_an_analysis_is_told_with_its_question_its_numbers_and_its_files(make_run: MakeRun) -> None:
    run = make_run()
    rows = [
        {"masked": masked, "degradation": masked, "strength": strength, "psnr": 20.0 + 10 * strength, "image": "a"}
        for masked in ("blur", "noise")
        for strength in (0.0, 0.5, 1.0)
    ]
    write_table(run / "tables" / "modulation.csv", rows)
    told = added(run, ["modulation", "mine"]).splitlines()
    (section,) = [section for section in sections() if section.name == "modulation"]
    assert told[0].startswith(f"added         modulation: {RunFolder(run).worded(section.title)}")
    assert "(tables/modulation.csv)" in told[0]
    assert "{" not in told[0]
    assert told[1] == "added         mine"  # a study of the user without a section


def test_the_gain_says_over_what_it_is(make_run: MakeRun) -> None:
    assert "gain over baseline, dB" in summary(make_run(), None)


def test_terminal_and_page_say_the_same_of_every_set(make_run: MakeRun) -> None:
    """Isolation and removed shares, to the last digit that is shown; and both name the same number of filters."""
    run = make_run(isolated={"faig": 0.4, "signed_share": 0.7, "random": 0.0})
    write_report(run)
    page = re.sub(r"<[^>]+>|\s+", " ", (run / "report.html").read_text(encoding="utf-8"))
    page = " ".join(page.split())
    said = summary(run, None)
    for masked, function in (("blur", "deblurring"), ("noise", "denoising")):
        (row,) = [line for line in said.splitlines() if line.startswith(f"  {function} (FAIG)")]
        isolation = row.removeprefix(f"  {function} (FAIG)").split()[0]
        (block,) = re.findall(
            rf"Masking 1 % \(122 of 12,240\) {function} filters (.*?) removes (.*?) (?:Masking|<|Isolation)", page
        )
        assert f" {isolation} " in f" {block[0]} "
        (line,) = [line for line in said.splitlines() if line.startswith(f"  {function}") and " remove " in line]
        shares = re.findall(r"(\d+ %) of (\w+)", line)
        assert len(shares) == 2
        assert all(f"{share} of {name}" in block[1] for share, name in shares), (masked, block)
