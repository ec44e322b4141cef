"""Networks that cannot be attributed are refused with one line before any work."""

import odd_networks as odd
import pytest
import torch
from torch import nn

from faig_lab.errors import UserError
from faig_lab.filters import FilterLayout
from faig_lab.filters.trial import try_gradient, try_output
from faig_lab.networks import SRResNet

LR = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))


def output_of(network, lr=LR):
    return try_output(network.eval(), network.state_dict(), lr)


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda y: (y, y), "returns a tuple"),
        (lambda y: [y], "returns a list"),
        (lambda y: {"sr": y}, "returns a dict"),
        (lambda y: None, "returns a NoneType"),
        (lambda y: y[:, :1], r"makes torch.float32 \(1, 1, 40, 48\) of LR \(1, 3, 20, 24\)"),
        (lambda y: y[0], r"makes torch.float32 \(3, 40, 48\)"),
        (lambda y: (255 * y).byte(), r"makes torch.uint8 \(1, 3, 40, 48\)"),
        (lambda y: torch.cat([y, y[:, :1]], 1), r"makes torch.float32 \(1, 4, 40, 48\)"),
    ],
)
def test_what_is_no_image_is_refused(wrap, words):
    with pytest.raises(UserError, match=rf"^network: Returning {words}"):
        output_of(odd.Returning(wrap))


def test_what_is_an_image_is_returned():
    assert output_of(odd.Small()).shape == (1, 3, 40, 48)
    assert output_of(SRResNet(scale=3, features=2, blocks=1)).shape == (1, 3, 60, 72)


def test_a_forward_that_fails_is_one_line():
    with pytest.raises(UserError, match=r"^network: Linear fails on LR \(1, 3, 20, 24\): mat1 and mat2"):
        output_of(nn.Linear(5, 5))


def test_a_lack_of_memory_is_not_the_networks_fault():
    class Large(odd.Small):
        def forward(self, lr):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    with pytest.raises(RuntimeError, match="allocate"):
        output_of(Large())
    with pytest.raises(RuntimeError, match="allocate"):
        try_gradient(Large(), odd.Small().state_dict(), LR)


@pytest.mark.parametrize("make", [odd.WithoutGradients, odd.ForInference])
def test_an_output_without_gradient_is_refused(make):
    network = make().eval()
    with pytest.raises(UserError, match=rf"^network: the output of {make.__name__} has no gradient"):
        try_gradient(network, network.state_dict(), LR)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_network_that_refuses_small_images_is_not_tried():
    class Picky(odd.Small):
        def forward(self, lr):
            if lr.shape[-1] < 65:
                raise RuntimeError("too small")
            return super().forward(lr)

    network = Picky().eval()
    try_gradient(network, network.state_dict(), torch.rand(1, 3, 80, 80))
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.LazyConv2d(3, 3), "1.weight"),
        (nn.LazyConvTranspose2d(3, 3), "1.weight"),
        (nn.LazyLinear(3), "1.weight"),
        (nn.LazyBatchNorm2d(), "1.weight"),
        (nn.LazyBatchNorm2d(affine=False), "1.running_mean"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")  # torch's own word on them
def test_lazy_layers_are_named(module, name):
    with pytest.raises(ValueError, match=rf"^{name} has no shape before its first input"):
        FilterLayout.of(nn.Sequential(nn.Conv2d(3, 3, 3), module))


@pytest.mark.parametrize("make", [odd.Checkpointed])
def test_activations_that_are_computed_again_are_refused(make):
    torch.manual_seed(0)
    network = make().eval()
    with pytest.raises(UserError, match=rf"^network: {make.__name__} has other gradients .* \(checkpointing\)"):
        try_gradient(network, network.state_dict(), LR)


def test_checkpointing_in_the_old_way_is_named():
    class Inner(odd.Small):
        def forward(self, lr):
            x = odd.checkpoint(self.between, self.first(lr), use_reentrant=True)
            return nn.functional.pixel_shuffle(self.last(x), 2)

    network = Inner().eval()
    with pytest.raises(UserError, match=r"^network: Inner cannot be differentiated .*; switch checkpointing off$"):
        try_gradient(network, network.state_dict(), LR)


@pytest.mark.parametrize(
    "make",
    [
        *(odd.Small, odd.Unused, odd.Detached, odd.IndexFirst, odd.MaskFirst),
        *(odd.Noisy, odd.Tied, odd.WritesIntoInput, odd.MultipliesInput, odd.SmallUNet),
    ],
)
def test_gradients_are_compared_without_changing_network_or_random_numbers(make):
    torch.manual_seed(0)
    network = make().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    try_gradient(network, network.state_dict(), LR)
    if make is not odd.Noisy:
        assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
