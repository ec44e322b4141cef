"""Random images, and problems whose target is the baseline with every parameter moved at random."""

import torch

from faig_lab.attribution import Problem, quadrature
from faig_lab.data import CLEAN, PairedImage
from faig_lab.filters import under_every_name

TWO = ("blur", "noise")
THREE = ("blur", "noise", "jpeg")


def random_image(seed, kinds=TWO, size=(8, 8), dtype=torch.float32):
    """Independent noise for each input (LR of this size) and for the ground truth (twice the size)."""
    generator = torch.Generator().manual_seed(seed)
    lr = {name: torch.rand(3, *size, generator=generator, dtype=dtype) for name in (CLEAN, *kinds)}
    hr = torch.rand(3, 2 * size[0], 2 * size[1], generator=generator, dtype=dtype)
    return PairedImage(f"image{seed}", hr, lr)


def random_pair(network, kinds=TWO, change=0.1, probe=None, **options):
    """The target moves by `change` times normal numbers, of PyTorch's own generator; `options` are of the problem."""
    baseline = {name: value.clone() for name, value in network.state_dict().items()}
    moved = {n: baseline[n] + change * torch.randn_like(baseline[n]) for n, _ in network.named_parameters()}
    target = baseline | under_every_name(network, moved)
    options = {"rule": quadrature("midpoint", 2), "seed": 3} | options
    probe = probe or tuple(random_image(seed, kinds) for seed in (1, 2))
    return Problem(network, baseline, target, probe, kinds, **options)
