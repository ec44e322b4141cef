"""A network of colours: every filter passes one colour on, so that what an intervention does is known exactly."""

from dataclasses import replace

import torch
from study_case import context_of
from torch import nn

from faig_lab.attribution import Attribution
from faig_lab.data import PairedImage

NAMES = ("blur", "noise")
PERCENT = 2.3
"""One filter of 45."""


class Pointwise(nn.Module):
    """A 1×1 convolution whose output the last layer reads, so that features are weighted colours of the input."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1, bias=False)
        self.last = nn.Conv2d(3, 12, 1, bias=False)

    def forward(self, lr):
        return nn.functional.pixel_shuffle(self.last(self.first(lr)), 2)


def passing(*colours):
    """Weights with which the colours of these channels are passed on, each to its own channel of the output."""
    own = torch.zeros(3)
    own[list(colours)] = 1
    return {
        "first.weight": torch.diag(own)[..., None, None],
        "last.weight": torch.eye(3).repeat_interleave(4, 0)[..., None, None],
    }


def coloured_context(images, baseline, target):
    """Two states and held-out images. FAIG has the filter of red for blur, and that of green for noise."""
    context = context_of(make=Pointwise)
    problem = replace(context.problem, baseline=baseline, target=target)
    layout = context.attribution.layout
    scores = torch.zeros(1, 2, len(layout), dtype=torch.float64)
    scores[0, 0, layout.index("first.weight", 0, 0)] = scores[0, 1, layout.index("first.weight", 1, 1)] = 1
    attribution = Attribution({"faig": scores, "random": scores.flip(1)}, NAMES, layout)
    data = replace(context.data, held_out=tuple(images))
    return replace(context, problem=problem, attribution=attribution, data=data, headline=PERCENT, percents=(PERCENT,))


def layered(seed):
    """Clean input is blue; blur adds red and noise adds green, each a texture of its own."""
    generator = torch.Generator().manual_seed(seed)
    texture = torch.rand(3, 8, 8, generator=generator)
    only = [torch.zeros(3, 8, 8).index_copy(0, torch.tensor([k]), texture[k : k + 1]) for k in range(3)]
    lr = {"clean": only[2], "blur": only[2] + only[0], "noise": only[2] + only[1]}
    return PairedImage(f"image{seed}", torch.rand(3, 16, 16, generator=generator), lr)
