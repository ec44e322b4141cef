"""Insertion and pruning: both ends are known exactly, and a filter that carries everything is the last to go."""

import pytest
import torch
from study_case import context_of, grid, stored

from faig_lab.attribution.scores import shares
from faig_lab.filters import apply_patches, make_patch, mask
from faig_lab.studies.patches import SECTION, fewest, idle_orders, magnitudes, patches


@pytest.fixture(scope="module")
def context():
    return context_of(("blur", "noise"))


@pytest.fixture(scope="module")
def tables(context):
    found = patches(context, percents=[10, 100], kept=[100, 50, 1])
    return {name: found.rows(name) for name in found.tables}


def test_the_ends_of_insertion(context, tables):
    rows = tables["patches"]
    assert len(rows) == 2 * 3 * 3 * 2  # biases × percents with 0 × sets × inputs
    for row in rows:
        baseline, target = context.evaluator.bounds(row["degradation"])
        if row["percent"] == 0 and not row["biases"]:
            assert (row["psnr"], row["carried"], row["filters"]) == (baseline, 0, 0)
        if row["percent"] == 100 and row["biases"]:
            assert (row["psnr"], row["carried"]) == (target, 1)
            assert row["filters"] == len(context.attribution.layout)
    without = [row for row in rows if row["percent"] == 100 and not row["biases"]]
    assert all(row["psnr"] != context.evaluator.bounds(row["degradation"])[1] for row in without)


def test_patches_grow_with_their_filters_and_biases(tables):
    size = {(r["patched"], r["percent"], r["biases"]): r["kilobytes"] for r in tables["patches"]}
    for name in ("blur", "noise", "blur+noise"):
        assert 0 < size[name, 0, 0] < size[name, 10, 0] < size[name, 100, 0] < size[name, 100, 1] < 20


def test_a_patch_is_masking_seen_from_the_other_end(context):
    """Putting a set onto the baseline is masking with the networks exchanged."""
    filters = torch.tensor([3, 17, 99])
    layout = context.attribution.layout
    patched = apply_patches(context.baseline, make_patch(context.target, context.baseline, layout, filters))
    exchanged = mask(context.baseline, context.target, layout, filters)
    assert all(torch.equal(patched[name], value) for name, value in exchanged.items())


def test_the_ends_of_pruning(context, tables):
    rows = tables["pruning"]
    orders = set(idle_orders(context))
    assert {row["order"] for row in rows} == orders
    for row in rows:
        if row["percent"] == 100:
            assert (row["psnr"], row["lost"]) == (context.evaluator.bounds(row["degradation"])[1], 0)
    assert {row["order"] for row in tables["pruning_layers"]} == orders
    for row in tables["pruning_layers"]:
        assert row["share"] == row["kept"] / row["filters"]


def test_orders_are_rankings_from_most_to_least(context):
    count = len(context.attribution.layout)
    orders = idle_orders(context)
    assert all(sorted(order.tolist()) == list(range(count)) for order in orders.values())
    change = {n: (context.target[n] - v).abs() for n, v in context.baseline.items()}
    sizes = context.attribution.layout.gather(change)[orders["weight_change"]]
    assert (sizes.diff() <= 0).all()
    assert torch.equal(orders["random"], idle_orders(context)["random"])


def test_shares_and_magnitudes_are_shares(context):
    integral = context.problem.integral
    assert torch.allclose(magnitudes(integral).sum(1), torch.ones(2, dtype=torch.float64))
    signed = shares(integral.signed, integral.loss_change)
    assert torch.allclose(signed * integral.loss_change.sum(0)[:, None], integral.signed.sum(0))


def test_a_filter_that_did_not_change_goes_first():
    context = context_of(("blur", "noise"))
    context.problem.target["conv_hr.weight"][2, 1] = context.problem.baseline["conv_hr.weight"][2, 1]
    context.problem.__dict__.pop("integral", None)
    idle = context.attribution.layout.index("conv_hr.weight", 2, 1)
    orders = idle_orders(context)
    for name in ("signed_share", "faig", "weight_change"):
        assert int(orders[name][-1]) == idle


def rows_of(lost):
    return [
        {"order": "faig", "percent": percent, "degradation": name, "lost": value}
        for percent, values in lost.items()
        for name, value in zip(("blur", "noise"), values, strict=True)
    ]


def test_fewest_stops_at_the_first_step_beyond_the_tolerance_of_the_worst_input():
    rows = rows_of({90: (0.01, 0.0), 80: (-0.1, 0.05), 70: (0.0, 0.06), 60: (0.0, 0.0)})
    assert fewest(rows, "faig", 0.05) == 80
    assert fewest(rows, "faig", 0.2) == 60
    assert fewest(rows_of({90: (0.5, 0.0)}), "faig", 0.05) is None
    assert fewest(rows_of({90: (None, 0.0)}), "faig", 0.05) == 90


def test_one_degradation_has_one_set():
    rows = patches(context_of(("blur",)), percents=[10], kept=[90]).rows("patches")
    assert {row["patched"] for row in rows} == {"blur"}


@pytest.fixture
def make(make_run):
    def write(carried, lost, kept=None):
        inserted = grid(
            method="faig", biases=[0, 1], percent=[0, 1, 10, 100], filters=lambda row: round(122.4 * row["percent"]),
            patched=["blur", "noise", "blur+noise"], kilobytes=lambda row: 1 + 4.2 * row["percent"],
            degradation=["blur", "noise"], psnr=30.0,
            carried=lambda row: 1.0 if row["percent"] == 100 and row["biases"] else carried * (row["percent"] > 0),
        )  # fmt: skip
        pruned = grid(
            order=["faig", "random"], percent=[90, 50, 20], filters=lambda row: 122 * row["percent"],
            degradation=["blur", "noise"], psnr=30.0, lost=lambda row: lost[row["degradation"]],
        )  # fmt: skip
        tables = {"patches": inserted, "pruning": pruned}
        if kept is not None:
            tables["pruning_layers"] = grid(
                order="faig", percent=kept, depth=list(range(10)), layer=lambda row: f"body.{row['depth']}", filters=10,
                kept=lambda row: row["depth"], share=lambda row: row["depth"] / 10,
            )  # fmt: skip
        return stored(make_run(), {"filters_needed/faig": kept}, **tables)

    return write


def test_small_patches_and_nothing_idle(make):
    run = make(0.1, {"blur": 0.25, "noise": 0.5})
    assert SECTION.sentence(run) == (
        "On the baseline, patches of 1 % of the filters restore 10 % of deblurring and 10 % of denoising; in the "
        "target, none by FAIG and none by random filters can be set back before an input loses 5 %."
    )
    table = SECTION.table(run)
    assert table.head == [
        *("Patch", "filters", "kB", "blurred", "noisy", "blurred, with biases", "noisy, with biases"),
    ]
    assert table.rows[1] == ["deblurring, 100 %", "12,240", "421", "10 %", "10 %", "100 %", "100 %"]
    panels = SECTION.figure(run).axes
    assert len(panels) == 3  # two inputs, and pruning without layers
    worst = panels[2].lines[0].get_xydata().tolist()
    assert worst == [[20, 0.5], [50, 0.5], [90, 0.5], [100, 0]]


def test_large_patches_and_half_idle(make):
    run = make(0.8, {"blur": 0.01, "noise": 0.01}, kept=50.0)
    text = SECTION.sentence(run)
    assert "restore 80 % of deblurring and 80 % of denoising; in the target, 50 % by FAIG and none" in text
    panel = SECTION.figure(run).axes[-1]
    assert panel.get_title() == "50 % kept by FAIG, by layer"
    assert [label.get_text() for label in panel.get_yticklabels()] == [f"body.{n}" for n in range(10)]
