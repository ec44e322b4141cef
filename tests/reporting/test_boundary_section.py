"""The section on the boundary says what the table says: where the gain ends, and what carries it."""

import pytest

from faig_lab.reporting.report import write_report
from faig_lab.reporting.run_files import read_run
from faig_lab.reporting.sections.boundary import SECTION
from faig_lab.reporting.style import write_figure
from faig_lab.reporting.tables import write_table

SEVERITIES, TRAINED = (0.5, 1.0, 2.0, 4.0), 2.0


@pytest.fixture
def make(make_run):
    def write(gains=(-1.0, 0.1, 3.0, 0.5), shares=(None, None, 0.6, 0.2), degradations=("blur",), interval=0.3):
        folder = make_run(degradations)
        psnrs, rows = [], []
        for name in degradations:
            for severity, gain, share in zip(SEVERITIES, gains, shares, strict=True):
                what = {
                    "method": "faig", "percent": 1.0, "degradation": name, "parameter": "sigma",
                    "severity": severity, "in_training": int(severity == TRAINED),
                }  # fmt: skip
                levels = {"bicubic": 24.0, "baseline": 25.0, "target": 25 + gain, "masked": 25 + gain * 0.4}
                psnrs += [what | {"network": network, "psnr": psnr} for network, psnr in levels.items()]
                ends = {
                    f"{key}_{end}": None if value is None or interval is None else value + sign * interval
                    for key, value in (("gain", gain), ("share", share))
                    for end, sign in (("low", -1), ("high", 1))
                }
                rows.append(what | {"gain": gain, "share": share} | ends)
        write_table(folder / "tables" / "boundary.csv", psnrs)
        write_table(folder / "tables" / "boundary_gain.csv", rows)
        return folder

    return write


def said(folder):
    return " ".join(SECTION.sentences(read_run(folder)))


def test_where_the_gain_is_and_where_it_ends(make):
    text = said(make())
    assert "Where it was trained, on blurred input, the target gains +3.00 dB at sigma = 2" in text
    assert "which is the most of all measured" in text
    assert "at the ends of the sweep it gains −1.00 dB at sigma = 0.5 and +0.50 dB at sigma = 4" in text
    assert not any(word in text for word in ("worse", "beats"))


def test_a_gain_that_is_largest_elsewhere(make):
    text = said(make(gains=(1.0, 2.0, 3.0, 4.5), shares=(0.1, 0.3, 0.6, 0.7)))
    assert "most at sigma = 4 (+4.50 dB)" in text


def test_what_carries_the_gain(make):
    text = said(make(gains=(1.0, 2.0, 3.0, 4.5), shares=(0.1, 0.3, 0.6, 0.7)))
    assert "The discovered filters carry 60 % of the gain at sigma = 2; at other severities between 10 %" in text
    assert "(sigma = 0.5) and 70 % (sigma = 4)." in text
    assert "elsewhere the gain is too small" in said(make(shares=(None, None, 0.6, None)))
    assert "nowhere large enough" in said(make(shares=(None,) * 4))


@pytest.mark.parametrize("degradations", [("blur",), ("blur", "noise"), ("blur", "noise", "jpeg")])
@pytest.mark.parametrize("interval", [0.3, None])
def test_figure_table_and_report(make, degradations, interval, tmp_path):
    folder = make(degradations=degradations, interval=interval)
    files = read_run(folder)
    write_figure(tmp_path / "boundary.png", SECTION.figure(files))
    table = SECTION.table(files)
    assert len(table.rows) == len(degradations) * len(SEVERITIES)
    assert all(len(row) == len(table.head) for row in table.rows)
    assert 'id="boundary"' in write_report(folder).read_text(encoding="utf-8")
