"""The section on modulation says what the table says, whichever way it comes out."""

import pytest
import torch
from PIL import Image

from faig_lab.evaluation.examples import Example
from faig_lab.plotting.style import write_figure
from faig_lab.report.figures import write_strips
from faig_lab.report.report import write_report
from faig_lab.runs.run_files import read_run
from faig_lab.runs.tables import write_table
from faig_lab.studies.modulation import SECTION

STRENGTHS = (0.0, 0.5, 1.0, 1.5)
RISING, BUMPY, FLAT, MOVING = (27.0, 29.0, 31.5, 31.0), (27.0, 26.5, 31.5, 31.9), (29.5,) * 4, (28.0, 29.0, 29.5, 29.5)


@pytest.fixture
def make(make_run):
    def write(own=RISING, other=FLAT, degradations=("blur", "noise")):
        folder = make_run(degradations)
        sets = [*degradations, "+".join(degradations)] if len(degradations) > 1 else list(degradations)
        rows = [
            {
                "method": "faig", "percent": 1.0, "filters": 122, "modulated": name, "strength": strength,
                "degradation": shown, "psnr": psnr, "removed": 0.0,
            }
            for name in sets
            for shown in degradations
            for strength, psnr in zip(STRENGTHS, own if shown in name.split("+") else other, strict=True)
        ]  # fmt: skip
        write_table(folder / "tables" / "modulation.csv", rows)
        return folder

    return write


def said(folder):
    return SECTION.sentence(read_run(folder))


def test_psnr_at_both_ends_of_every_set(make):
    assert said(make()) == (
        "Between λ = 0 and λ = 1 PSNR goes from 27.00 to 31.50 dB on blurred input (deblurring, 122 filters) and from "
        "27.00 to 31.50 dB on noisy input (denoising, 122 filters)."
    )
    assert not any(word in said(make(BUMPY, MOVING)) for word in ("steadily", "highest", "best"))


def test_the_table_has_every_set_on_every_input(make):
    table = SECTION.table(read_run(make(BUMPY, MOVING)))
    assert table.head == ["PSNR in dB at λ =", "0", "0.5", "1", "1.5"]
    assert table.rows[0] == ["deblurring, blurred input", "27.00", "26.50", "31.50", "31.90"]
    assert table.rows[1] == ["deblurring, noisy input", "28.00", "29.00", "29.50", "29.50"]
    assert table.rows[4][0] == "all together, blurred input"


@pytest.mark.parametrize("degradations", [("blur",), ("blur", "noise"), ("blur", "noise", "jpeg")])
def test_figure_table_and_pictures_are_in_the_report(make, degradations):
    folder = make(degradations=degradations)
    truth = torch.rand(3, 128, 128)
    keys = [f"{name}/{strength:g}" for name in (*degradations, "+".join(degradations)) for strength in STRENGTHS]
    examples = [
        Example("a", name, truth[:, ::2, ::2], truth, dict.fromkeys(keys, truth), dict.fromkeys(keys, 30.0))
        for name in degradations
    ]
    write_strips(folder, "modulation", examples)
    write_strips(folder, "masking", examples)  # an analysis without a section draws nothing
    figure = SECTION.figure(read_run(folder))
    assert figure is not None
    write_figure(folder / "figures" / "modulation.png", figure)
    pictures = sorted(folder.glob("figures/modulation_*.png"))
    assert [path.stem for path in pictures] == sorted(f"modulation_{name}" for name in degradations)
    for path in pictures:
        with Image.open(path) as image:
            assert image.width == 1400
    page = write_report(folder).read_text(encoding="utf-8")
    start = page.index('<section aria-labelledby="modulation">')
    section = page[start : page.index("</section>", start)]
    rows = len(set(degradations) | {"+".join(degradations)})
    assert section.count("<img") == 1 + len(degradations) * rows * len(STRENGTHS)
    assert "Pictures of one photograph with blurred input" in section
    assert section.count("<tbody>") == 1 + len(degradations)
