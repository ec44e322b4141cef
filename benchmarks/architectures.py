"""Tiny instances of published architectures: spandrel's classes where it is installed, and minimal forms of our own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module, util
from typing import Any

from torch import nn

from benchmarks import minimal


@dataclass(frozen=True)
class Architecture:
    """A tiny instance.

    Attributes:
        name: of the architecture.
        make: makes the network with fresh weights.
        scale: its upscaling factor.
        spandrel: whether the class is spandrel's, so that spandrel has to detect its weights.
    """

    name: str
    make: Callable[[], nn.Module]
    scale: int
    spandrel: bool


SWIN: dict[str, Any] = {"img_size": 16, "embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8}
SWIN |= {"mlp_ratio": 2.0, "upscale": 2, "upsampler": "pixelshuffledirect"}
SHUFFLE: dict[str, Any] = {"upsampler": "pixelshuffle"}
SPLIT: dict[str, Any] = {"img_size": 16, "embed_dim": 16, "depth": [2], "num_heads": [2], "split_size": [8, 8]}

SPANDREL: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "RRDB (ESRGAN)": ("ESRGAN", "ESRGAN", 2, {"num_filters": 8, "num_blocks": 1, "scale": 2}),
    "SRVGG (Compact)": ("Compact", "Compact", 2, {"num_feat": 8, "num_conv": 2, "upscale": 2}),
    "SwinIR": ("SwinIR", "SwinIR", 2, SWIN),
    "Swin2SR": ("Swin2SR", "Swin2SR", 2, SWIN),
    "HAT": ("HAT", "HAT", 2, SWIN | SHUFFLE | {"num_feat": 16, "squeeze_factor": 4}),
    "DAT": ("DAT", "DAT", 2, SPLIT | {"expansion_factor": 2.0}),
    "RGT": ("RGT", "RGT", 2, SPLIT | {"mlp_ratio": 2.0}),
    "ATD": ("ATD", "ATD", 2, SWIN | {"category_size": 32, "num_tokens": 8}),
    "DRCT": ("DRCT", "DRCT", 2, SWIN | SHUFFLE | {"gc": 4}),
    "SPAN": ("SPAN", "SPAN", 2, {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2}),
    "PLKSR": ("PLKSR", "PLKSR", 2, {"dim": 8, "n_blocks": 2, "upscaling_factor": 2, "kernel_size": 5}),
    "RealPLKSR": ("PLKSR", "RealPLKSR", 2, {"dim": 16, "n_blocks": 2, "upscaling_factor": 2, "kernel_size": 5}),
    "MoSR": ("MoSR", "MoSR", 2, {"n_block": 2, "dim": 16, "upscale": 2}),
    "OmniSR": ("OmniSR", "OmniSR", 2, {"num_feat": 16, "res_num": 1, "up_scale": 2}),
    "RCAN": ("RCAN", "RCAN", 2, {"scale": 2, "n_resgroups": 1, "n_resblocks": 2, "n_feats": 8, "reduction": 4}),
    "SAFMN": ("SAFMN", "SAFMN", 2, {"dim": 8, "n_blocks": 2, "upscaling_factor": 2}),
    "DITN": ("DITN", "DITN", 2, {"dim": 12, "ITL_blocks": 1, "SAL_blocks": 1, "upscale": 2}),
    "CRAFT": ("CRAFT", "CRAFT", 2, {"embed_dim": 12, "depths": [2], "num_heads": [2], "upscale": 2}),
    "SeemoRe": ("SeemoRe", "SeemoRe", 2, {"scale": 2, "num_experts": 2, "num_layers": 1, "embedding_dim": 8}),
    "FDAT": ("FDAT", "FDAT", 2, {"scale": 2, "embed_dim": 16, "num_groups": 1, "num_heads": 2, "mid_dim": 16}),
    "NAFNet": ("NAFNet", "NAFNet", 1, {"width": 4, "enc_blk_nums": [1], "dec_blk_nums": [1]}),
    "DnCNN (grey)": ("DnCNN", "DnCNN", 1, {"nc": 8, "nb": 9, "act_mode": "R"}),
    "DRUNet": ("DRUNet", "DRUNet", 1, {"in_nc": 4, "out_nc": 3, "nc": [4, 8, 8, 8], "nb": 2}),
}
"""Name → module below `spandrel.architectures`, class, scale, arguments."""

OWN: dict[str, tuple[type[nn.Module], int]] = {
    "EDSR": (minimal.EDSR, 2),
    "U-Net": (minimal.UNet, 1),
    "Restormer-like": (minimal.Restormer, 1),
    "window attention (minimal)": (minimal.Windowed, 2),
    "merged kernels (minimal)": (minimal.Reparameterised, 2),
    "in-place channels (minimal)": (minimal.InPlace, 2),
}
"""Name → class, scale."""


def architectures() -> Iterator[Architecture]:
    """Yield all instances; without spandrel only our own."""
    if util.find_spec("spandrel") is not None:
        for name, (module, kind, scale, arguments) in SPANDREL.items():
            cls = getattr(import_module(f"spandrel.architectures.{module}"), kind)
            yield Architecture(name, partial(cls, **arguments), scale, spandrel=True)
    for name, (own, scale) in OWN.items():
        yield Architecture(name, own, scale, spandrel=False)
