"""Operations before the first masked layer, against counts by hand, and the claim that features before it are equal."""

import pytest
import torch
from torch import nn

from benchmarks.shared_prefix import operations_before, shared
from faig_lab.attribution import Attribution
from faig_lab.evaluation.prediction import layer_input
from faig_lab.filters import FilterLayout, mask
from faig_lab.networks import SRResNet

SIDE = 8
LR = torch.zeros(1, 3, SIDE, SIDE)


def operations(channels_in, channels_out, pixels=SIDE**2):
    return 2 * 9 * channels_in * channels_out * pixels


def test_operations_before_each_layer_are_those_of_the_layers_before_it(plain):
    before, total = operations_before(plain, LR)
    assert before == {"first.weight": 0, "last.weight": operations(3, 4)}
    assert total == operations(3, 4) + operations(4, 12)


def test_the_tail_has_four_times_the_pixels(network):
    before, total = operations_before(network, LR)
    assert before["upconv1.weight"] == operations(3, 4) + 2 * operations(4, 4)
    assert before["conv_last.weight"] - before["conv_hr.weight"] == operations(4, 4, 4 * SIDE**2)
    assert total - before["conv_last.bias"] == operations(4, 3, 4 * SIDE**2)
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_layer_that_is_called_twice_counts_from_its_first_call():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.shared, self.idle = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)

        def forward(self, lr):
            return self.shared(self.shared(self.head(lr)))

    before, total = operations_before(Twice(), LR)
    assert before["shared.weight"] == operations(3, 3) // 9
    assert "idle.weight" not in before
    assert total == operations(3, 3) // 9 + 2 * operations(3, 3)


def attribution_of(network, *scores):
    """One draw of one degradation for each method: `scores` are filters, the best first, by method."""
    layout = FilterLayout.of(network)
    rows = {}
    for number, best in enumerate(scores):
        rows[f"method{number}"] = torch.zeros(1, 1, len(layout), dtype=torch.float64)
        rows[f"method{number}"][0, 0, best] = torch.arange(len(best), 0, -1, dtype=torch.float64)
    return Attribution(rows, ("blur",), layout)


def test_the_first_masked_layer_decides(plain):
    """Filters 0 to 11 are in the first layer, 12 to 59 in the last; 5 % are three filters, 1 % is none."""
    attribution = attribution_of(plain, [12, 40, 59, 3], [12, 3, 59])
    found = shared(attribution, [1, 5, 10], *operations_before(plain, LR))
    last = operations(3, 4) / (operations(3, 4) + operations(4, 12))
    assert found["method"].tolist() == ["method0", "method0", "method0", "method1", "method1"]
    assert found["percent"].tolist() == [1, 5, 10, 5, 10]
    assert found["shared"].tolist() == pytest.approx([1, last, 0, 0, 0], abs=0)


def test_equal_sets_are_one_network(plain):
    attribution = attribution_of(plain, [12, 40, 59], [59, 40, 12])
    assert len(shared(attribution, [5], *operations_before(plain, LR))) == 1


def test_features_before_the_first_masked_layer_are_those_of_the_target():
    torch.manual_seed(0)
    network = SRResNet(features=4, blocks=2).eval()
    layout = FilterLayout.of(network)
    target = {name: value.clone() for name, value in network.state_dict().items()}
    baseline = {name: value + 1 for name, value in target.items()}
    state = mask(target, baseline, layout, torch.tensor([layout.index("body.1.conv2.weight", 0, 0)]))
    image = torch.rand(3, SIDE, SIDE)
    read = {
        layer: [layer_input(network, weights, image, layer) for weights in (target, state)]
        for layer in ("body.1.conv2", "upconv1")
    }
    assert torch.equal(*read["body.1.conv2"])
    assert not torch.equal(*read["upconv1"])
