"""Insertion and pruning: both ends are known exactly, and a filter that carries everything is the last to go."""

import pytest
import torch
from analysis_case import subject_of

from faig_lab.filters import apply_patches, make_patch, mask
from faig_lab.studies.patches import fewest, idle_orders, magnitudes, patches, shares


@pytest.fixture(scope="module")
def subject():
    return subject_of(("blur", "noise"))


@pytest.fixture(scope="module")
def tables(subject):
    return patches(subject, percents=[10, 100], kept=[100, 50, 1]).tables


def test_the_ends_of_insertion(subject, tables):
    rows = tables["patches"]
    assert len(rows) == 2 * 3 * 3 * 2  # biases × percents with 0 × sets × inputs
    for row in rows:
        baseline, target, _ = subject.judge.bounds(row["degradation"])
        if row["percent"] == 0 and not row["biases"]:
            assert (row["psnr"], row["carried"], row["filters"]) == (baseline, 0, 0)
        if row["percent"] == 100 and row["biases"]:
            assert (row["psnr"], row["carried"]) == (target, 1)
            assert row["filters"] == len(subject.attribution.layout)
    without = [row for row in rows if row["percent"] == 100 and not row["biases"]]
    assert all(row["psnr"] != subject.judge.bounds(row["degradation"])[1] for row in without)


def test_patches_grow_with_their_filters_and_biases(tables):
    size = {(r["patched"], r["percent"], r["biases"]): r["kilobytes"] for r in tables["patches"]}
    for name in ("blur", "noise", "blur+noise"):
        assert 0 < size[name, 0, 0] < size[name, 10, 0] < size[name, 100, 0] < size[name, 100, 1] < 20


def test_a_patch_is_masking_seen_from_the_other_end(subject):
    """Putting a set onto the baseline is masking with the networks exchanged."""
    filters = torch.tensor([3, 17, 99])
    layout = subject.attribution.layout
    patched = apply_patches(subject.baseline, make_patch(subject.target, subject.baseline, layout, filters))
    exchanged = mask(subject.baseline, subject.target, layout, filters)
    assert all(torch.equal(patched[name], value) for name, value in exchanged.items())


def test_the_ends_of_pruning(subject, tables):
    rows = tables["pruning"]
    orders = set(idle_orders(subject))
    assert {row["order"] for row in rows} == orders
    for row in rows:
        if row["percent"] == 100:
            assert (row["psnr"], row["lost"]) == (subject.judge.bounds(row["degradation"])[1], 0)
    assert {row["order"] for row in tables["pruning_layers"]} == orders
    for row in tables["pruning_layers"]:
        assert row["share"] == row["kept"] / row["filters"]


def test_orders_are_rankings_from_most_to_least(subject):
    count = len(subject.attribution.layout)
    orders = idle_orders(subject)
    assert all(sorted(order.tolist()) == list(range(count)) for order in orders.values())
    change = {n: (subject.target[n] - v).abs() for n, v in subject.baseline.items()}
    sizes = subject.attribution.layout.gather(change)[orders["weight_change"]]
    assert (sizes.diff() <= 0).all()
    assert torch.equal(orders["random"], idle_orders(subject)["random"])


def test_shares_and_magnitudes_are_shares(subject):
    integral = subject.problem.integral
    assert torch.allclose(magnitudes(integral).sum(1), torch.ones(2, dtype=torch.float64))
    assert torch.allclose(shares(integral) * integral.loss_change.sum(0)[:, None], integral.signed.sum(0))


def test_a_filter_that_did_not_change_goes_first():
    subject = subject_of(("blur", "noise"))
    subject.problem.target["conv_hr.weight"][2, 1] = subject.problem.baseline["conv_hr.weight"][2, 1]
    subject.problem.__dict__.pop("integral", None)
    idle = subject.attribution.layout.index("conv_hr.weight", 2, 1)
    orders = idle_orders(subject)
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
    tables = patches(subject_of(("blur",)), percents=[10], kept=[90]).tables
    assert {row["patched"] for row in tables["patches"]} == {"blur"}
