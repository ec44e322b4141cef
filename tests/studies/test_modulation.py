"""The sweep of modulation adds up, and its section."""

import pytest
import torch
from PIL import Image
from study_case import context_of, grid, stored, written

from faig_lab.evaluation.evaluator import Example, images_to_show
from faig_lab.report.figures import write_strips
from faig_lab.studies.modulation import SECTION, modulation


@pytest.mark.parametrize("degradations", [("blur",), ("blur", "noise"), ("blur", "noise", "jpeg")])
def test_the_sweep(degradations):
    context = context_of(degradations)
    found = modulation(context, strengths=[0, 0.5, 1], pictured=[0, 1], percent=10, image=1)
    rows = found.rows("modulation")
    names = [*degradations, "+".join(degradations)] if len(degradations) > 1 else list(degradations)
    assert list(dict.fromkeys(row["modulated"] for row in rows)) == names
    assert len(rows) == len(names) * 3 * (len(degradations) + 1)  # clean input, too
    for row in rows:
        _, target = context.evaluator.bounds(row["degradation"])
        if row["strength"] == 1:
            assert row["psnr"] == target
            assert row["back"] == 0
        if row["degradation"] == "clean":
            assert row["removed"] is None
        elif row["strength"] == 1:
            assert row["removed"] == 0
        assert row["filters"] <= len(context.attribution.layout) * 0.1 * len(degradations)
    assert {e.degradation for e in found.examples} == set(degradations)
    for example in found.examples:
        assert example.image == context.data.held_out[1].name
        assert set(example.restored) == {f"{name}/{strength}" for name in names for strength in (0, 1)}
        target = context.evaluator.outputs(context.target, example.degradation)[1]
        assert torch.equal(example.restored[f"{names[0]}/1"], target)
    assert set(found.metrics) == {f"best_strength/{name}/{shown}" for name in names for shown in degradations}


def test_without_a_choice_a_colour_photograph_is_pictured():
    context = context_of(("blur", "noise"))
    found = modulation(context, strengths=[0, 1], pictured=[1], percent=10)
    first = images_to_show(context.data.held_out)[0]
    assert {example.image for example in found.examples} == {context.data.held_out[first].name}


def test_all_filters_at_zero_are_the_baseline_but_for_its_biases():
    context = context_of(("blur", "noise"))
    context.problem.target.update({n: v for n, v in context.problem.baseline.items() if n.endswith("bias")})
    rows = modulation(context, strengths=[0], percent=100).rows("modulation")
    assert len(rows) == 3 * 3
    for row in rows:
        assert row["psnr"] == context.evaluator.bounds(row["degradation"])[0]
        assert row["back"] == pytest.approx(1)
        assert row["removed"] == (None if row["degradation"] == "clean" else 1)


STRENGTHS = (0.0, 0.5, 1.0, 1.5)
RISING, BUMPY, FLAT, MOVING = (27.0, 29.0, 31.5, 31.0), (27.0, 26.5, 31.5, 31.9), (29.5,) * 4, (28.0, 29.0, 29.5, 29.5)


@pytest.fixture
def make(make_run):
    def write(own=RISING, other=FLAT):
        rows = grid(
            method="faig", percent=1.0, filters=122, modulated=["blur", "noise", "blur+noise"], strength=STRENGTHS,
            degradation=["blur", "noise"], removed=0.0,
            psnr=lambda row: (own if row["degradation"] in row["modulated"] else other)[
                STRENGTHS.index(row["strength"])
            ],
        )  # fmt: skip
        return stored(make_run(), modulation=rows)

    return write


def test_psnr_at_both_ends_of_every_set(make):
    assert SECTION.sentence(make()) == (
        "Between λ = 0 and λ = 1 PSNR changes from 27.00 to 31.50 dB on blurred input (deblurring, 122 filters) and "
        "from 27.00 to 31.50 dB on noisy input (denoising, 122 filters)."
    )
    assert not any(word in SECTION.sentence(make(BUMPY, MOVING)) for word in ("steadily", "highest", "best"))


def test_table_and_figure_have_every_set_on_every_input(make):
    run = make(BUMPY, MOVING)
    table, panels = SECTION.table(run), SECTION.figure(run).axes
    assert table.head == ["PSNR in dB at λ =", "0", "0.5", "1", "1.5"]
    assert table.rows[0] == ["deblurring, blurred input", "27.00", "26.50", "31.50", "31.90"]
    assert table.rows[1] == ["deblurring, noisy input", "28.00", "29.00", "29.50", "29.50"]
    assert table.rows[4][0] == "all together, blurred input"
    assert [panel.get_title() for panel in panels] == [
        *("modulated: deblurring", "modulated: denoising", "modulated: all together")
    ]
    drawn = [line for line in panels[0].lines if len(line.get_xdata()) == len(STRENGTHS)]
    assert [list(line.get_ydata()) for line in drawn] == [list(BUMPY), list(MOVING)]


def test_pictures_are_in_the_report(make):
    run, truth = make(), torch.rand(3, 128, 128)
    keys = [f"{name}/{strength:g}" for name in ("blur", "noise", "blur+noise") for strength in STRENGTHS]
    examples = [
        Example("a", name, truth[:, ::2, ::2], truth, dict.fromkeys(keys, truth), dict.fromkeys(keys, 30.0))
        for name in ("blur", "noise")
    ]
    write_strips(run.path, "modulation", examples)
    write_strips(run.path, "masking", examples)  # an analysis without a section draws nothing
    pictures = sorted(run.path.glob("figures/modulation_*.png"))
    assert [path.stem for path in pictures] == ["modulation_blur", "modulation_noise"]
    for path in pictures:
        with Image.open(path) as image:
            assert image.width == 1400
    _, _, page = written(SECTION, run.path)
    start = page.index('<section aria-labelledby="modulation">')
    section = page[start : page.index("</section>", start)]
    assert section.count("<img") == 1 + 2 * 3 * len(STRENGTHS)
    assert "Pictures of one photograph with blurred input" in section
    assert section.count("<tbody>") == 1 + 2
