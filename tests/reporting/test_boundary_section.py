"""The section on the boundary says what the table says: where the gain ends, and what carries it."""

import pytest

from faig_lab.plotting.style import write_figure
from faig_lab.report.report import write_report
from faig_lab.runs.run_files import read_run
from faig_lab.runs.tables import write_table
from faig_lab.studies.boundary import SECTION

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
    return SECTION.sentence(read_run(folder))


def test_what_carries_the_gain_in_training(make):
    assert said(make(degradations=("blur", "noise"))) == (
        "At the severity in training, the top 1 % of FAIG carry 60 % of the gain of +3.00 dB on blurred input "
        "(sigma = 2) and 60 % of the gain of +3.00 dB on noisy input (sigma = 2)."
    )
    assert "carry \N{EN DASH} of the gain" in said(make(shares=(None,) * 4))


def test_the_table_has_every_severity_with_its_interval(make):
    rows = SECTION.table(read_run(make())).rows
    assert rows[2] == ["blurred, sigma = 2 (trained)", "+3.00 (+2.70 to +3.30)", "60 % (30 % to 90 %)"]
    assert rows[0][1:] == ["−1.00 (−1.30 to −0.70)", "\N{EN DASH}"]


def test_what_is_left_of_the_gain_is_drawn_below(make):
    above, below = SECTION.figure(read_run(make())).axes
    gain, left = [line.get_ydata() for line in below.lines if len(line.get_xdata()) == len(SEVERITIES)]
    assert list(gain) == pytest.approx([-1.0, 0.1, 3.0, 0.5])
    assert list(left) == pytest.approx([0.4 * g for g in gain])
    assert len({line.get_color() for line in above.lines[:4]}) == 1  # a degradation's colour, a line style per network
    assert len({line.get_linestyle() for line in above.lines[:4]}) == 4


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
