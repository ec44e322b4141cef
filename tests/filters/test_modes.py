"""Modules without gradients in evaluation mode: those of the same function stay in training mode, no others."""

import copy

import odd_networks as odd
import pytest
import torch
from torch import nn

from benchmarks import minimal
from faig_lab.attribution import Problem, attribute, integrate, quadrature
from faig_lab.attribution.methods import faig
from faig_lab.data import PairedImage
from faig_lab.errors import UserError
from faig_lab.filters import FilterLayout, evaluate
from faig_lab.filters.trial import differentiable, try_gradient

MENDED = {"merged": minimal.Reparameterised, "in place": minimal.InPlace, "the network itself": odd.PartlyInPlace}


def made(kind, dtype=torch.float64):
    torch.manual_seed(0)
    return kind().to(dtype)


def moved(state, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {n: v + 0.1 * torch.randn(v.shape, generator=generator).to(v) for n, v in state.items()}


LR = torch.rand(1, 3, 12, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
HR = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("name", MENDED)
def test_the_integral_is_that_of_training_mode_and_complete(name):
    network, twin = differentiable(made(MENDED[name])).eval(), made(MENDED[name]).train()
    baseline = network.state_dict()
    target = moved(baseline)
    rule = quadrature("gauss_legendre", 64)
    own, expected = (integrate(one, baseline, target, LR, HR, rule) for one in (network, twin))
    assert own.gap < 1e-3
    for key, value in own.attributions.items():
        assert torch.equal(value, expected.attributions[key])
    silent = [key for key, value in own.attributions.items() if not value.any()]
    assert all("eval_conv" in key for key in silent)


@pytest.mark.parametrize("name", MENDED)
def test_the_output_is_that_of_evaluation_mode(name):
    network, plain = differentiable(made(MENDED[name])).eval(), made(MENDED[name]).eval()
    state = moved(network.state_dict())
    with torch.no_grad():
        plain.load_state_dict(state)
        torch.testing.assert_close(evaluate(network, state, LR), plain(LR), rtol=1e-12, atol=1e-12)


def problem_of(network, *rule):
    image = PairedImage("a", HR[0], dict.fromkeys(("clean", "blur", "noise"), LR[0]))
    baseline = network.state_dict()
    return Problem(network, baseline, moved(baseline), (image,), ("blur", "noise"), quadrature(*rule))


def test_without_that_the_merged_kernels_have_no_gradient():
    with pytest.raises(UserError, match=r"^network: body\.0\.0\.wide\.weight .* gets no gradient"):
        attribute(problem_of(made(minimal.Reparameterised).eval(), "midpoint", 2), {"faig": faig})


def test_merged_copies_are_no_units_and_the_trained_kernels_are():
    network = differentiable(made(minimal.Reparameterised))
    layout = FilterLayout.of(network)
    names = {layer.name for layer in layout.layers}
    assert {"body.0.0.wide.weight", "body.1.1.narrow.weight", "head.weight"} <= names
    assert not [name for name in names if "eval_conv" in name]
    assert "body.0.0.eval_conv.weight" in {other.name for other in layout.others}
    ranked = FilterLayout.of(network, "filter", rank_others=True)
    assert {other.name.split(".")[-2] for other in ranked.others} == {"eval_conv"}
    assert len(FilterLayout.of(copy.deepcopy(network))) == len(layout)


def test_changed_copies_are_not_pointed_out_as_unranked():
    problem = problem_of(differentiable(made(minimal.Reparameterised)).eval(), "gauss_legendre", 64)
    assert attribute(problem, {"faig": faig}).warnings == ()


def test_the_modes_of_all_other_modules_follow():
    class Mixed(minimal.Reparameterised):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.dropout = nn.Dropout(0.5)

        def forward(self, lr):
            return super().forward(self.dropout(self.norm(lr)))

    network = differentiable(made(Mixed))
    merged = [module for module in network.modules() if isinstance(module, minimal.Merged)]
    for mode in (True, False, True, False):
        network.train(mode)
        assert all(module.training for module in merged)
        assert {network.training, network.norm.training, network.dropout.training, merged[0].wide.training} == {mode}
    assert type(merged[0]).__name__ == "Merged"
    assert torch.equal(network(LR), network(LR))


def test_the_mode_of_the_network_stays():
    assert differentiable(made(minimal.Reparameterised)).training
    assert not differentiable(made(minimal.Reparameterised).eval()).training


@pytest.mark.parametrize("kind", [minimal.Windowed, minimal.EDSR, odd.SmallUNet, odd.Noisy])
def test_networks_that_need_nothing_stay_as_they_are(kind):
    network = made(kind)
    kinds, state = [type(m) for m in network.modules()], copy.deepcopy(network.state_dict())
    differentiable(network).eval()
    assert [type(m) for m in network.modules()] == kinds
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_another_function_in_training_mode_is_no_replacement():
    class Different(odd.PartlyInPlace):
        def between(self, x):
            return 1.01 * super().between(x) if self.training else super().between(x)

    network = differentiable(made(Different)).eval()
    assert not network.training
    with pytest.raises(UserError, match=r"^network: Different cannot be differentiated in evaluation mode"):
        try_gradient(network, network.state_dict(), LR)


def test_random_paths_beside_merged_kernels_stay_in_evaluation_mode():
    class Dropping(minimal.Reparameterised):
        def __init__(self):
            super().__init__()
            self.drop = minimal.DropPath()

        def forward(self, lr):
            return super().forward(self.drop(lr))

    network = differentiable(made(Dropping)).eval()
    assert not network.drop.training
    assert [m.training for m in network.modules() if isinstance(m, minimal.Merged)] == [True] * 4
    assert torch.equal(network(LR), network(LR))


def test_a_network_that_refuses_the_trial_image_is_left_alone():
    class Picky(minimal.Reparameterised):
        def forward(self, lr):
            raise ValueError("only images of 48 by 48")

    network = differentiable(made(Picky))
    assert type(network) is Picky
