"""Networks that are not ours: every kind of convolution and parameter that attribution must cope with."""

import torch
import torch.nn.functional as F
from torch import nn


class SmallUNet(nn.Module):
    """Down by a strided convolution, dilated, grouped and squeezed at the bottom, up by transposed ones, ×2 in all.

    Smooth everywhere, so that integrals along a path converge fast.
    """

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.down = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.batch_norm = nn.BatchNorm2d(8)
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.grouped = nn.Conv2d(8, 8, (1, 3), padding=(0, 1), groups=4)
        self.squeeze = nn.Linear(8, 2)
        self.excite = nn.Linear(2, 8, bias=False)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2)
        self.mix = nn.Conv2d(8, 4, 1)
        self.out = nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1)

    def forward(self, lr):
        top = F.silu(self.norm(self.stem(lr)))
        x = F.silu(self.batch_norm(self.down(top)))
        x = self.grouped(F.silu(self.dilated(x))) + x
        x = x * torch.sigmoid(self.excite(F.silu(self.squeeze(x.mean((2, 3))))))[..., None, None]
        return self.out(F.silu(self.mix(torch.cat([self.up(x), top], 1))))


class Tied(nn.Module):
    """A convolution used twice and under two names, a weight that two convolutions share, a scalar; ×2 in all."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = self.first.weight
        self.again = self.first
        self.gain = nn.Parameter(torch.tensor(0.7))
        self.last = nn.Conv2d(3, 12, 1)

    def forward(self, lr):
        x = self.again(torch.tanh(self.second(self.first(lr)))) * self.gain
        return F.pixel_shuffle(self.last(torch.tanh(x)), 2)
