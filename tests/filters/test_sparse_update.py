"""Sparse patches: what goes in comes out to the last bit, and a patch that does not fit is refused."""

import pytest
import torch
from torch import nn

from faig_lab.errors import UserError
from faig_lab.filters import FilterLayout, apply_patches, load_patch, make_patch, patch_bytes, save_patch
from faig_lab.networks import SRResNet


class Odd(nn.Module):
    """Kernels of several sizes, groups, a linear layer, a transposed convolution."""

    def __init__(self):
        super().__init__()
        self.grouped = nn.Conv2d(4, 6, (1, 5), groups=2)
        self.up = nn.ConvTranspose2d(3, 2, 2)
        self.norm = nn.BatchNorm2d(2)
        self.linear = nn.Linear(5, 3)


@pytest.fixture(params=[lambda: SRResNet(features=4, blocks=1), Odd], ids=["srresnet", "odd"])
def pair(request):
    torch.manual_seed(0)
    network = request.param()
    baseline = {n: v.clone() for n, v in network.state_dict().items()}
    target = {n: v + torch.randn(v.shape).to(v.dtype) for n, v in baseline.items()}
    return target, baseline, FilterLayout.of(network)


def same(one, other):
    return list(one) == list(other) and all(torch.equal(one[n], other[n]) for n in one)


def test_the_baseline_is_not_changed_and_no_filters_change_nothing(pair):
    """What a patch of some filters sets is compared in test_layout.py, for every kind of unit."""
    target, baseline, layout = pair
    before = {n: v.clone() for n, v in baseline.items()}
    filters = torch.tensor([7, 0, len(layout) - 1, 3])
    assert not same(apply_patches(baseline, make_patch(target, baseline, layout, filters)), baseline)
    assert same(baseline, before)
    assert same(apply_patches(baseline), baseline)
    assert same(apply_patches(baseline, make_patch(target, baseline, layout, filters[:0])), baseline)


def test_a_filter_that_the_network_does_not_have_is_refused(pair):
    target, baseline, layout = pair
    with pytest.raises(IndexError, match="out of bounds"):
        make_patch(target, baseline, layout, torch.tensor([0, len(layout)]))


@pytest.mark.parametrize("rest", [False, True])
def test_round_trip_is_bit_for_bit(pair, tmp_path, rest):
    target, baseline, layout = pair
    patch = make_patch(target, baseline, layout, torch.tensor([5, 2, 11]), name="blur", rest=rest)
    save_patch(tmp_path / "blur.npz", patch)
    read = load_patch(tmp_path / "blur.npz", baseline, layout)
    assert (read.name, read.layout, read.baseline) == (patch.name, patch.layout, patch.baseline)
    assert torch.equal(read.filters, torch.tensor([2, 5, 11]))
    assert read.values.dtype == patch.values.dtype
    assert torch.equal(read.values, patch.values)
    assert same(read.rest, patch.rest)
    assert same(apply_patches(baseline, read), apply_patches(baseline, patch))
    assert (tmp_path / "blur.npz").read_bytes() == patch_bytes(patch)


def test_patches_in_any_order_and_their_union_are_one(pair):
    target, baseline, layout = pair
    one, two = torch.tensor([0, 1, 9]), torch.tensor([4, 12])
    first, second = (make_patch(target, baseline, layout, f, rest=True) for f in (one, two))
    both = apply_patches(baseline, first, second)
    assert same(both, apply_patches(baseline, second, first))
    assert same(both, apply_patches(baseline, make_patch(target, baseline, layout, torch.cat([one, two]), rest=True)))
    overlapping = make_patch(target, baseline, layout, torch.tensor([1, 4]), rest=True)
    assert same(both, apply_patches(baseline, first, second, overlapping))


def test_patches_that_disagree_are_refused(pair):
    target, baseline, layout = pair
    other = {n: v + 1 for n, v in target.items()}
    blur = make_patch(target, baseline, layout, torch.tensor([0, 1, 2]), name="blur")
    noise = make_patch(other, baseline, layout, torch.tensor([1, 2, 3]), name="noise")
    with pytest.raises(UserError, match=r"patch noise: sets 2 filters of .* to other values than patch blur; use one"):
        apply_patches(baseline, blur, noise)
    rests = [make_patch(t, baseline, layout, torch.tensor([i]), rest=True) for i, t in enumerate((target, other))]
    with pytest.raises(UserError, match="to other values than the patch before it"):
        apply_patches(baseline, *rests)


def test_a_patch_for_other_weights_is_refused(pair, tmp_path):
    target, baseline, layout = pair
    patch = make_patch(target, baseline, layout, torch.tensor([1]), name="blur")
    other = {n: v + 1 for n, v in baseline.items()}
    with pytest.raises(UserError, match="patch blur: is for the baseline"):
        apply_patches(other, patch)
    path = tmp_path / "blur.npz"
    save_patch(path, patch)
    with pytest.raises(UserError, match=r"blur\.npz is for another baseline of this network"):
        load_patch(path, other, layout)
    network = SRResNet(features=5, blocks=1)
    with pytest.raises(UserError, match=r"blur\.npz is for another network: its .* is .*, this network's"):
        load_patch(path, network.state_dict(), FilterLayout.of(network))


def test_files_that_are_no_patch_are_refused_in_one_line(pair, tmp_path):
    target, baseline, layout = pair
    with pytest.raises(UserError, match="export: no file"):
        load_patch(tmp_path / "absent.npz", baseline, layout, key="export")
    content = patch_bytes(make_patch(target, baseline, layout, torch.tensor([1, 3])))
    broken = content.replace(b"values.npy", b"valuez.npy")
    for number, data in enumerate([b"", b"text", content[: len(content) // 2], content[:-40], broken]):
        path = tmp_path / f"{number}.npz"
        path.write_bytes(data)
        with pytest.raises(UserError, match="is damaged or no patch") as caught:
            load_patch(path, baseline, layout)
        assert "\n" not in str(caught.value)


def test_every_flipped_byte_is_noticed_or_harmless(pair, tmp_path):
    """The zip's checksums guard the numbers: a damaged file never gives other values."""
    target, baseline, layout = pair
    patch = make_patch(target, baseline, layout, torch.tensor([1, 3]))
    content = patch_bytes(patch)
    path = tmp_path / "p.npz"
    for place in range(0, len(content), 37):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            read = load_patch(path, baseline, layout)
        except UserError:
            continue
        assert same(apply_patches(baseline, read), apply_patches(baseline, patch))


def test_a_patch_of_a_few_filters_is_kilobytes():
    torch.manual_seed(0)
    network = SRResNet(features=24, blocks=8)
    baseline = network.state_dict()
    layout = FilterLayout.of(network)
    filters = torch.randperm(len(layout))[:122]
    target = {n: v + 0.1 * torch.randn_like(v) for n, v in baseline.items()}
    assert len(patch_bytes(make_patch(target, baseline, layout, filters))) < 9 * 4 * 122 + 2500
