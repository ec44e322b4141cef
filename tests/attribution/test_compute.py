"""Tiles, several points at once and compiled networks give what the plain way gives."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import odd_networks as odd
import pytest
import torch
import torch.nn.functional as F
from odd_networks import SmallUNet
from torch import nn

from faig_lab.attribution import Compute, Problem, integrate, quadrature
from faig_lab.attribution.compute import GIGABYTE
from faig_lab.attribution.methods import faig, input_gradients
from faig_lab.attribution.path import LossPath
from faig_lab.attribution.tiling import ReceptiveField, cut, whole
from faig_lab.data import CLEAN, PairedImage
from faig_lab.errors import UserError
from faig_lab.networks import SRResNet

RULE = quadrature("gauss_legendre", 3)


class Strided(nn.Module):
    """Down by 2 and up by 4: tiles have to start on even pixels."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(6, 3, 8, stride=4, padding=2)

    def forward(self, lr):
        return self.up(F.relu(self.down(lr)))


def ends(network, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    baseline = {n: v.to(dtype) for n, v in network.state_dict().items()}
    target = {n: v + 0.1 * torch.randn(v.shape, generator=generator).to(v) for n, v in baseline.items()}
    return baseline, target


def image(height, width, dtype=torch.float64, scale=2):
    generator = torch.Generator().manual_seed(1)
    lr = torch.rand(1, 3, height, width, generator=generator).to(dtype)
    return lr, torch.rand(1, 3, scale * height, scale * width, generator=generator).to(dtype)


def in_tiles(monkeypatch, most):
    """Let a tile read so many pixels, whatever memory says; returns the list of what was cut."""
    seen = []

    def tiles(self, network, state, lr, scale):
        from faig_lab.attribution.tiling import measure_receptive_field

        sees = measure_receptive_field(network, state, scale)
        if self.memory is None:
            return whole(*lr.shape[-2:], scale)
        seen.append(cut(*lr.shape[-2:], scale, sees, most))
        return seen[-1]

    monkeypatch.setattr(Compute, "tiles", tiles)
    return seen


@pytest.mark.parametrize(
    ("network", "most"), [(SRResNet(features=3, blocks=2), 500), (Strided(), 200)], ids=["SRResNet", "stride 2"]
)
@pytest.mark.parametrize("size", [(40, 52), (64, 33)])
def test_tiles_add_up_to_the_image(monkeypatch, network, most, size):
    seen = in_tiles(monkeypatch, most)
    height, width = (side // 2 * 2 for side in size)
    arguments = network, *ends(network), *image(height, width), RULE
    one, many = integrate(*arguments), integrate(*arguments, Compute(memory=1))
    assert len(seen[0]) > 4
    assert many.loss_target == pytest.approx(one.loss_target, rel=1e-12)
    assert many.loss_baseline == pytest.approx(one.loss_baseline, rel=1e-12)
    for name, expected in one.attributions.items():
        torch.testing.assert_close(many.attributions[name], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", [faig, input_gradients])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_tiles_give_the_same_scores(monkeypatch, method, dtype, tolerance):
    seen, network, (lr, hr) = in_tiles(monkeypatch, 500), SRResNet(features=3, blocks=1), image(40, 44, dtype)
    probe = (PairedImage("a", hr[0], {CLEAN: lr[0], "blur": lr[0].square(), "noise": lr[0].sqrt()}),)
    problem = Problem(network, *ends(network, dtype), probe, ("blur", "noise"), RULE)
    one, many = (method(replace(problem, compute=compute)) for compute in (Compute(), Compute(memory=1)))
    assert len(seen[0]) > 4
    assert float((many - one).norm() / one.norm()) < tolerance


@pytest.mark.parametrize("together", [2, 3, 5])
def test_points_together_are_the_points_one_by_one(together):
    network = SRResNet(features=3, blocks=1)
    arguments = network, *ends(network), *image(10, 12), quadrature("trapezoid", 5)
    one, many = integrate(*arguments), integrate(*arguments, Compute(points_per_batch=together))
    assert many.loss_change == pytest.approx(one.loss_change, rel=1e-12)
    for name, expected in one.attributions.items():
        torch.testing.assert_close(many.attributions[name], expected, rtol=1e-9, atol=1e-12)


def test_points_together_in_tiles_and_low_precision(monkeypatch):
    in_tiles(monkeypatch, 500)
    network = SRResNet(features=3, blocks=1)
    arguments = network, *ends(network, torch.float32), *image(30, 30, torch.float32), RULE
    plain, all_at_once = (
        integrate(*arguments, Compute(torch.bfloat16)),
        integrate(*arguments, Compute(torch.bfloat16, memory=1, points_per_batch=3)),
    )
    total = sum(float(a.abs().sum()) for a in plain.attributions.values())
    off = sum(float((a - all_at_once.attributions[n]).abs().sum()) for n, a in plain.attributions.items())
    assert off < 0.05 * total


def apart(one, other):
    total = sum(float(a.abs().sum()) for a in one.attributions.values())
    return sum(float((a - other.attributions[n]).abs().sum()) for n, a in one.attributions.items()) / total


def wrong_at_once(monkeypatch, factor):
    """A processor on which the gradients at several points at once are so many times the right ones."""
    right, calls = LossPath._at_once, []

    def wrong(self, batch):
        calls.append(len(batch))
        for gradients in right(self, batch):
            yield {n: factor * v for n, v in gradients.items()}

    monkeypatch.setattr(LossPath, "_at_once", wrong)
    return calls


@pytest.mark.parametrize(
    ("dtype", "autocast", "factor"),
    [(torch.float64, None, 1.002), (torch.float32, None, 1.002), (torch.float32, torch.bfloat16, 1.1)],
)
def test_points_together_are_not_used_where_they_are_wrong(monkeypatch, caplog, dtype, autocast, factor):
    calls = wrong_at_once(monkeypatch, factor)
    network = SRResNet(features=3, blocks=1)
    arguments = network, *ends(network, dtype), *image(12, 12, dtype), quadrature("midpoint", 6)
    one, many = integrate(*arguments, Compute(autocast)), integrate(*arguments, Compute(autocast, points_per_batch=3))
    assert calls == [3]  # once for a network and a size
    assert "points per batch: gradients at 3 points at once are wrong by" in caplog.text
    assert all(torch.equal(a, many.attributions[n]) for n, a in one.attributions.items())


def test_rounding_does_not_keep_points_from_being_together(monkeypatch, caplog):
    calls = wrong_at_once(monkeypatch, 1 + 1e-6)
    network = SRResNet(features=3, blocks=1)
    integrate(network, *ends(network), *image(12, 12), quadrature("midpoint", 6), Compute(points_per_batch=3))
    assert calls == [3, 3, 3]
    assert not caplog.text


def test_points_that_a_network_cannot_take_at_once_are_taken_one_by_one(caplog):
    class Choosy(SRResNet):
        def forward(self, lr):
            return super().forward(lr) * (2 if self.conv_first.weight.sum() > 0 else 1)

    network = Choosy(features=3, blocks=1)
    arguments = network, *ends(network), *image(8, 8), RULE
    assert apart(integrate(*arguments), integrate(*arguments, Compute(points_per_batch=3))) == 0
    assert "3 points cannot be evaluated at once" in caplog.text


WITHOUT_LOWER_PRECISION = """
import torch
from test_compute import RULE, Compute, SRResNet, apart, ends, image, integrate

network = SRResNet(features=8, blocks=1)
arguments = network, *ends(network, torch.float32), *image(16, 16, torch.float32), RULE
for dtype in (torch.bfloat16, torch.float16):
    print(apart(*(integrate(*arguments, Compute(dtype, points_per_batch=count)) for count in (1, 3))))
"""


def test_points_together_are_right_on_processors_without_lower_precision():
    """oneDNN is told which instructions not to use, which it reads once: a process of its own."""
    folder = Path(__file__).parent
    paths = os.pathsep.join([str(folder), str(folder.parent), *sys.path])
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": paths}
    command = [sys.executable, "-c", WITHOUT_LOWER_PRECISION]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    bfloat16, float16 = map(float, done.stdout.split())
    assert max(bfloat16, float16) < 0.02


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it imports its compiler
def test_a_compiled_network_gives_the_same():
    network = SRResNet(features=3, blocks=1)
    arguments = network, *ends(network, torch.float32), *image(16, 16, torch.float32), RULE
    one, compiled = integrate(*arguments), integrate(*arguments, Compute(compile="default"))
    assert one.attributions.keys() == {name for name, _ in network.named_parameters()}
    torch.testing.assert_close(compiled.attributions, one.attributions, rtol=1e-3, atol=1e-4)


def test_memory_decides_on_tiles():
    network = SRResNet(features=4, blocks=1)
    state, (lr, _) = network.state_dict(), image(200, 300, torch.float32)
    assert Compute().tiles(network, state, lr, 2) == whole(200, 300, 2)
    assert Compute(memory=3).tiles(network, state, lr, 2) == whole(200, 300, 2)
    numbers = [len(Compute(memory=m / 1000).tiles(network, state, lr, 2)) for m in (80, 40, 20, 10)]
    assert numbers == sorted(numbers)
    assert numbers[-1] > numbers[0] >= 1
    halved = len(Compute(memory=0.01, autocast=torch.bfloat16).tiles(network, state, lr, 2))
    assert halved < numbers[-1]
    assert len(Compute(memory=0.01, points_per_batch=2).tiles(network, state, lr, 2)) > numbers[-1]


def test_what_a_forward_saves_is_counted():
    """One convolution and a ReLU save the convolution's input and the ReLU's output."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
    lr, _ = image(100, 100, torch.float32)
    expected = 4 * (3 + 8)
    found = Compute(memory=1)._saved_per_pixel(network, network.state_dict(), lr)
    assert found == pytest.approx(expected)


def test_a_network_that_cannot_be_cut_is_named_with_what_would_do():
    network = SmallUNet().eval()
    lr, _ = image(128, 128, torch.float32)
    with pytest.raises(UserError, match=r"^memory: 0\.001 GB .* SmallUNet sees too far .* GB$"):
        Compute(memory=0.001).tiles(network, network.state_dict(), lr, 2)
    assert Compute(memory=4).tiles(network, network.state_dict(), lr, 2) == whole(128, 128, 2)


def test_memory_for_not_even_one_tile_says_how_much_would_do():
    with pytest.raises(UserError, match=r"^memory: too little .* 21×21 LR pixels .*: 4\.5 times"):
        cut(100, 100, 2, ReceptiveField(10, 1), 100)


WRAPPED = [odd.Circular, odd.Rolled, odd.Coordinates, odd.CornersAligned, odd.Compares]


@pytest.mark.parametrize("make", WRAPPED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_networks_whose_tiles_differ_from_the_image_are_not_cut(make, dtype):
    torch.manual_seed(0)
    network = make().eval().to(dtype)
    state, (lr, _) = network.state_dict(), image(160, 200, dtype)
    whole_image = Compute(memory=4).tiles(network, state, lr, 2)
    assert len(whole_image) == 1
    message = rf"^memory: 0\.001 GB .* {make.__name__} cannot be cut into tiles: .* GB$"
    for _ in range(2):  # also when it is remembered
        with pytest.raises(UserError, match=message):
            Compute(memory=0.001).tiles(network, state, lr, 2)


@pytest.mark.parametrize(
    ("make", "memory"),
    [(odd.Small, 3e-4), (Strided, 3e-4), (lambda: SRResNet(features=6, blocks=2), 1e-3), (odd.IndexFirst, 1e-3)],
)
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_networks_whose_tiles_are_the_image_are_cut(make, memory, autocast):
    network = make().eval()
    lr, _ = image(160, 200, torch.float32)
    assert len(Compute(autocast, memory).tiles(network, network.state_dict(), lr, 2)) > 1


@pytest.mark.parametrize("size", [(24, 400), (400, 24), (97, 203)])
def test_tiles_are_compared_at_any_shape(size):
    lr, _ = image(*size, torch.float32)
    network = odd.Small().eval()
    assert len(Compute(memory=3e-4).tiles(network, network.state_dict(), lr, 2)) > 1
    network = odd.Circular().eval()
    with pytest.raises(UserError, match="cannot be cut into tiles"):
        Compute(memory=3e-4).tiles(network, network.state_dict(), lr, 2)


def test_a_network_that_refuses_small_images_is_not_cut():
    class Picky(SRResNet):
        def forward(self, lr):
            if lr.shape[-1] < 100:
                raise RuntimeError("too small")
            return super().forward(lr)

    network = Picky(features=2, blocks=1)
    lr, _ = image(120, 120, torch.float32)
    assert Compute(memory=0.001).tiles(network, network.state_dict(), lr, 2) == whole(120, 120, 2)


@pytest.mark.parametrize("size", [(1, 1), (37, 64), (128, 50)])
@pytest.mark.parametrize("reach", [ReceptiveField(0, 1), ReceptiveField(5, 1), ReceptiveField(6, 4)])
def test_cores_cover_the_image_once_and_see_enough(size, reach):
    height, width = size
    counted = torch.zeros(height, width)
    for tile in cut(height, width, 3, reach, 1100):
        assert (tile.rows.stop - tile.rows.start) * (tile.columns.stop - tile.columns.start) <= 1100
        tile_core = counted[tile.rows.low : tile.rows.high, tile.columns.low : tile.columns.high]
        tile_core += 1
        for span, side in ((tile.rows, height), (tile.columns, width)):
            assert span.start == 0 or span.low - span.start >= reach.radius
            assert span.stop == side or span.stop - span.high >= reach.radius
            assert span.start % reach.period == span.low % reach.period == 0
    assert (counted == 1).all()


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="memory must be > 0"):
        Compute(memory=0)
    with pytest.raises(ValueError, match="points_per_batch must be > 0"):
        Compute(points_per_batch=0)
    assert GIGABYTE == 2**30
