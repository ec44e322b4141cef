"""The two ingredients between FAIG and the signed share, on problems whose integrals are known in closed form."""

import dataclasses

import pytest
import torch
from torch import nn

from faig_lab.attribution import Problem, quadrature
from faig_lab.attribution.methods import faig, faig_shares, signed_share, signed_sum
from faig_lab.data import PairedImage

X = {"blur": torch.tensor([0.3, 0.1]), "noise": torch.tensor([0.2, 0.9]), "jpeg": torch.tensor([0.5, 0.6])}
TRUTH = 0.4
W_BASELINE, W_TARGET = torch.tensor([0.1, 0.5]), torch.tensor([0.9, 0.2])


class Sum(nn.Module):
    """The output is w_0 x_0 + w_1 x_1 for each pixel, in all three channels."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 1, bias=False)

    def forward(self, lr):
        return self.conv(lr[:, :2]).expand(-1, 3, -1, -1)


def problem(kinds=("blur", "noise"), scale=1.0):
    """One LR pixel; the loss is 3 (w·x − truth)², so every integral is exact by the midpoint rule with one point."""
    lr = {k: torch.tensor([*(X[k] * scale).tolist(), 0.0]).view(3, 1, 1).double() for k in kinds}
    lr["clean"] = torch.zeros(3, 1, 1)
    image = PairedImage("pixel", torch.full((3, 1, 1), TRUTH * scale), lr)
    ends = [{"conv.weight": w.view(1, 2, 1, 1).double()} for w in (W_BASELINE, W_TARGET)]
    return Problem(Sum().double(), *ends, (image,), kinds, quadrature("midpoint", 1))


def by_hand(kind, scale=1.0):
    """(2,) a_j = (w_j − w̄_j) · 6 · mean residual · x_j, and ΔL."""
    x = X[kind].double() * scale
    truth = TRUTH * scale
    before, after = (float(w.double() @ x) - truth for w in (W_BASELINE, W_TARGET))
    change = 3 * (after**2 - before**2)
    return (W_TARGET - W_BASELINE).double() * 6 * (before + after) / 2 * x, change


def close(ours, expected):
    torch.testing.assert_close(ours, expected.expand_as(ours), rtol=1e-6, atol=1e-12)


def test_the_case_has_losses_that_rise_and_fall_and_weights_against_each_other():
    changes = {kind: by_hand(kind)[1] for kind in X}
    assert min(changes.values()) < 0 < max(changes.values())
    assert any(bool(by_hand(kind)[0].prod() < 0) for kind in X)
    for kind in X:
        parts, change = by_hand(kind)
        assert float(parts.sum()) == pytest.approx(change)


def test_all_four_are_one_form_with_two_ingredients():
    p, kinds = problem(), ("blur", "noise")
    parts = torch.stack([by_hand(kind)[0] for kind in kinds])
    change = torch.tensor([by_hand(kind)[1] for kind in kinds], dtype=torch.float64)[:, None]
    values = {
        faig: parts.abs(),
        faig_shares: parts.abs() / change.abs(),
        signed_sum: change.sign() * parts,
        signed_share: parts / change,
    }
    for method, value in values.items():
        close(method(p)[0], value - value.abs().flip(0))
    scores = [method(p) for method in values]
    assert not any(torch.allclose(a, b) for i, a in enumerate(scores) for b in scores[:i])


def test_with_three_degradations_the_others_are_averaged_or_their_largest_counts():
    kinds = tuple(X)
    p = problem(kinds)
    parts = torch.stack([by_hand(kind)[0] for kind in kinds])
    change = torch.tensor([by_hand(kind)[1] for kind in kinds], dtype=torch.float64)[:, None]
    for method, value in ((faig_shares, parts.abs() / change.abs()), (signed_sum, change.sign() * parts)):
        for k in range(3):
            rest = value.abs()[[i for i in range(3) if i != k]]
            close(method(p)[0, k], value[k] - rest.mean(0))
            close(method(p, contrast="max")[0, k], value[k] - rest.amax(0))


@pytest.mark.parametrize("method", [faig, faig_shares, signed_sum, signed_share])
def test_only_shares_are_free_of_the_unit_of_the_loss(method):
    """The loss is quadratic in the brightness: sums grow by its square and shares stay."""
    factor = 1 if method in (faig_shares, signed_share) else 4
    close(method(problem(scale=2.0)), factor * method(problem()))


def test_a_degradation_without_a_change_of_the_loss_has_nothing_to_share():
    p = problem()
    same = dataclasses.replace(p, target=dict(p.baseline))
    for method in (faig_shares, signed_sum):
        assert torch.equal(method(same), torch.zeros(1, 2, 2).double())


def test_one_degradation_has_no_contrast():
    p = problem(("noise",))
    parts, change = by_hand("noise")
    close(faig_shares(p)[0, 0], parts.abs() / abs(change))
    close(signed_sum(p)[0, 0], parts * (1 if change > 0 else -1))
