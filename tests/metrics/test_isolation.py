"""Isolation and its parts: the ends that are known exactly, a plain reference, and networks broken on purpose."""

import pytest
import reference
import torch

from faig_lab.filters import evaluate
from faig_lab.metrics import EditSums, as_image, back, edit_sums, isolation, off, psnr, removed_share, side
from faig_lab.networks import SRResNet

KINDS = {1: ("blur",), 2: ("blur", "noise"), 3: ("blur", "noise", "jpeg")}


def images(seed, names, count=2, low=-0.2, high=1.2):
    """input → (count, 3, 6, 5) float64 outputs, some of them outside of [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3, 6, 5)
    return {n: low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64) for n in names}


def sums_of(masked, baseline, target):
    """input → sums over all images."""
    found = {n: edit_sums(masked[n], baseline[n], target[n]) for n in target}
    return {n: EditSums(*(values.sum() for values in sums)) for n, sums in found.items()}


def isolation_of(masked, baseline, target, names, own="blur"):
    sums = sums_of(masked, baseline, target)
    return isolation(sums[own], [sums[n] for n in names if n != own], sums.get("clean"))


@pytest.fixture(params=KINDS)
def names(request):
    return KINDS[request.param]


@pytest.fixture
def ends(names):
    return images(1, (*names, "clean")), images(2, (*names, "clean"))


def test_doing_nothing_is_exactly_zero(names, ends):
    baseline, target = ends
    for own in names:
        assert float(isolation_of(target, baseline, target, names, own)) == 0
    for sums in sums_of(target, baseline, target).values():
        assert (float(back(sums)), float(off(sums))) == (0, 0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_the_ideal_edit_is_one(names, ends, dtype, tolerance):
    baseline, target = ({n: v.to(dtype) for n, v in outputs.items()} for outputs in ends)
    for own in names:
        ideal = target | {own: baseline[own]}
        assert float(isolation_of(ideal, baseline, target, names, own)) == pytest.approx(1, abs=tolerance)
        sums = sums_of(ideal, baseline, target)[own]
        assert (float(back(sums)), float(off(sums))) == pytest.approx((1, 0), abs=tolerance)


def test_half_way_back_is_three_quarters():
    """Own: ‖y_m − y_b‖² is a quarter of the energy. Beyond: as far on the other side of the baseline as 1.5."""
    baseline, target = images(1, ("blur",), low=0.1, high=0.9), images(2, ("blur",), low=0.1, high=0.9)
    for step, expected in ((0.5, 0.75), (0.0, 0.0), (1.0, 1.0)):
        masked = {"blur": target["blur"] + step * (baseline["blur"] - target["blur"])}
        assert float(isolation_of(masked, baseline, target, ("blur",))) == pytest.approx(expected, abs=1e-12)
        assert float(back(sums_of(masked, baseline, target)["blur"])) == pytest.approx(step, abs=1e-12)


def test_it_agrees_with_the_plain_reference(names, ends):
    baseline, target = ends
    masked = images(3, (*names, "clean"))
    sums = sums_of(masked, baseline, target)
    for own in names:
        others = [n for n in names if n != own]
        expected, backs, offs, sides = reference.edit(masked, baseline, target, own, others, "clean")
        assert float(isolation_of(masked, baseline, target, names, own)) == pytest.approx(expected, rel=1e-11)
        for name in (*names, "clean"):
            assert float(back(sums[name])) == pytest.approx(backs[name], rel=1e-10)
            assert float(off(sums[name])) == pytest.approx(offs[name], rel=1e-10)
            assert float(side(sums[name], sums[own])) == pytest.approx(sides[name], rel=1e-11)


def test_without_clean_input_there_is_no_clean_term(ends, names):
    baseline, target = ({n: v for n, v in outputs.items() if n != "clean"} for outputs in ends)
    masked = images(3, names)
    expected = reference.edit(masked, baseline, target, "blur", list(names[1:]))[0]
    assert float(isolation_of(masked, baseline, target, names)) == pytest.approx(expected, rel=1e-11)


def test_outputs_are_clipped_and_not_rounded():
    """What is outside of [0, 1] does not count; a step of 1/1000, less than one of 8 bits, does."""
    baseline, target = (torch.full((1, 3, 2, 2), v, dtype=torch.float64) for v in (-5.0, 0.5))
    sums = edit_sums(torch.full((1, 3, 2, 2), 0.501, dtype=torch.float64), baseline, target)
    assert float(sums.energy) == pytest.approx(12 * 0.25)
    assert float(sums.moved) == pytest.approx(12 * 1e-6)
    assert float(edit_sums(torch.full((1, 3, 2, 2), 7.0), baseline, target).moved) == pytest.approx(12 * 0.25)


def test_sums_add_up_over_images(ends):
    baseline, target = (outputs["blur"] for outputs in ends)
    masked = images(3, ("blur",))["blur"]
    whole = edit_sums(masked, baseline, target)
    assert all(values.shape == (2,) and values.dtype == torch.float64 for values in whole)
    side_by_side = edit_sums(*(torch.cat(list(x[:, None]), 3) for x in (masked, baseline, target)))
    for joined, single in zip(side_by_side, whole, strict=True):
        assert float(joined) == pytest.approx(float(single.sum()), rel=1e-12)


def test_arrays_and_tensors_give_the_same_numbers(names, ends):
    baseline, target = ends
    sums = sums_of(images(3, (*names, "clean")), baseline, target)
    arrays = {n: EditSums(*(v.numpy() for v in s)) for n, s in sums.items()}
    others = names[1:]
    found = [isolation(s["blur"], [s[n] for n in others], s["clean"]) for s in (sums, arrays)]
    assert float(found[0]) == pytest.approx(float(found[1]), rel=1e-14)


# Networks


@pytest.fixture(scope="module")
def pair():
    """A network, two states that differ by a little noise, and degraded and clean LR in float64."""
    torch.manual_seed(0)
    network = SRResNet(features=6, blocks=2).double().eval()
    baseline = {n: v.clone() for n, v in network.state_dict().items()}
    target = {n: v + 0.02 * torch.randn_like(v) for n, v in baseline.items()}
    lr = {n: torch.rand(2, 3, 12, 12, dtype=torch.float64) for n in ("blur", "noise", "clean")}
    return network, baseline, target, lr


def outputs_of(pair, state):
    network, _, _, lr = pair
    with torch.no_grad():
        return {n: evaluate(network, state, x) for n, x in lr.items()}


def judged(pair, state):
    """Isolation for blur, and its removed share where the target's own output is the ground truth."""
    baseline, target, masked = (outputs_of(pair, s) for s in (pair[1], pair[2], state))
    truth = as_image(target["blur"])
    values = [psnr(as_image(o["blur"]), truth + 0.02).mean().item() for o in (target, masked, baseline)]
    return float(isolation_of(masked, baseline, target, ("blur", "noise"))), removed_share(*values)


@pytest.mark.parametrize("break_it", ["scaled", "noise"])
def test_a_broken_network_has_removed_more_than_all_and_isolation_below_zero(pair, break_it):
    target = pair[2]
    torch.manual_seed(2)
    broken = {n: 1.5 * v if break_it == "scaled" else v + 0.1 * torch.randn_like(v) for n, v in target.items()}
    found, removed = judged(pair, broken)
    assert removed is not None
    assert removed > 1
    assert found < 0
