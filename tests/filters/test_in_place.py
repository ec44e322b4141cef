"""Networks overwrite their own activations: the same bits as without, and nothing that reads them is misled."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, vmap

from faig_lab.networks import SRCNNStyle, SRResNet, TwoBranchSRResNet

NETWORKS = {
    "SRResNet": lambda: SRResNet(features=5, blocks=3),
    "SRResNet x4": lambda: SRResNet(4, features=4, blocks=1),
    "SRCNNStyle": lambda: SRCNNStyle(widths=(4, 6)),
    "TwoBranchSRResNet": lambda: TwoBranchSRResNet(features=5, blocks=2, predictor_features=3),
}


@pytest.fixture(params=NETWORKS, ids=str)
def network(request):
    torch.manual_seed(0)
    made = NETWORKS[request.param]()
    for parameter in made.parameters():  # also those that are zero at the start, and kernels small enough to vanish
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


@pytest.fixture
def lr():
    return torch.rand(2, 3, 7, 6, generator=torch.Generator().manual_seed(1))


def loss(network, state, lr):
    return functional_call(network, state, (lr,)).square().sum()


def gradients(network, lr):
    value = loss(network, dict(network.named_parameters()), lr)
    return torch.autograd.grad(value, list(network.parameters()), materialize_grads=True)  # logits are not in the loss


@pytest.mark.parametrize("autocast", [None, torch.bfloat16], ids=str)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=str)
def test_output_and_gradients_are_those_of_out_of_place_operations(network, lr, autocast, memory, monkeypatch):
    network, lr = network.to(memory_format=memory), lr.contiguous(memory_format=memory)
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        output, own = network(lr), gradients(network, lr)

    relu, leaky = F.relu, F.leaky_relu
    monkeypatch.setattr(F, "relu", lambda x, inplace=False: relu(x))
    monkeypatch.setattr(F, "leaky_relu", lambda x, slope, inplace=False: leaky(x, slope))
    monkeypatch.setattr(torch.Tensor, "__iadd__", lambda self, other: self + other, raising=False)
    for module in network.modules():
        if isinstance(module, nn.LeakyReLU):
            module.inplace = False
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        assert torch.equal(network(lr), output)
        for one, other in zip(gradients(network, lr), own, strict=True):
            assert torch.equal(one, other)


def test_the_input_is_left_alone(network, lr):
    before = lr.clone()
    with torch.no_grad():
        network(lr)
    assert torch.equal(lr, before)


def test_gradients_are_those_of_finite_differences(network, lr):
    network, lr = network.double(), lr[:1, :, :4, :4].double()
    state = {name: value.detach() for name, value in network.named_parameters()}
    direction = {name: torch.randn_like(value) for name, value in state.items()}
    moved = [loss(network, {n: v + h * direction[n] for n, v in state.items()}, lr) for h in (1e-6, -1e-6)]
    slope = sum((g * direction[n]).sum() for n, g in grad(lambda s: loss(network, s, lr))(state).items())
    torch.testing.assert_close((moved[0] - moved[1]) / 2e-6, slope, rtol=1e-5, atol=1e-6)


def test_several_networks_at_once(network, lr):
    network = network.double()
    states = [{n: v.detach() + 0.01 * i for n, v in network.named_parameters()} for i in range(3)]
    together = vmap(grad(lambda state: loss(network, state, lr.double())))(
        {name: torch.stack([state[name] for state in states]) for name in states[0]}
    )
    for i, state in enumerate(states):
        for name, value in grad(lambda own: loss(network, own, lr.double()))(state).items():
            torch.testing.assert_close(together[name][i], value)


def test_only_some_weights_at_once(network, lr):
    state = {name: value.detach() for name, value in network.named_parameters()}
    for name, value in state.items():
        stacked = torch.stack([value, value + 0.1])
        outputs = vmap(lambda own, name=name: functional_call(network, state | {name: own}, (lr,)))(stacked)
        torch.testing.assert_close(outputs[0], network(lr).detach(), rtol=1e-4, atol=1e-5)


def test_images_at_once(network, lr):
    state = {name: value.detach() for name, value in network.named_parameters()}
    each = vmap(grad(lambda own, image: loss(network, own, image[None])), in_dims=(None, 0))(state, lr)
    for name, value in grad(lambda own: loss(network, own, lr))(state).items():
        torch.testing.assert_close(each[name].sum(0), value, rtol=1e-3, atol=1e-3)
