"""Networks that are not ours: every kind of convolution and parameter that attribution must cope with."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from faig_lab.networks import SRResNet, TwoBranchSRResNet


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


class IndexFirst(SRResNet):
    """Whole numbers come first in the state dict, as the positions within a window do in HAT."""

    dtype = torch.int64

    def __init__(self, scale=2, features=4, blocks=1):
        super().__init__(scale, features, blocks)
        self.register_buffer("a_table", torch.tensor([0, 1, 1, 0], dtype=self.dtype))

    def upscale(self, x, lr):
        return super().upscale(x, lr) + self.a_table.sum() / 100


class MaskFirst(IndexFirst):
    """Truth values come first in the state dict."""

    dtype = torch.bool


class TwoBranchesIndexFirst(TwoBranchSRResNet):
    """Whole numbers come first in a network that predicts degradations."""

    def __init__(self):
        super().__init__(features=4, blocks=1, predictor_features=3)
        self.register_buffer("a_table", torch.tensor([2, 1]))


class Small(nn.Module):
    """Two convolutions, ×2, smooth; what the networks below do differently is in `between` or `forward`."""

    def __init__(self, scale=2):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 12, 3, padding=1)

    def between(self, x):
        return torch.tanh(x)

    def forward(self, lr):
        return F.pixel_shuffle(self.last(self.between(self.first(lr))), 2)


class WritesIntoInput(Small):
    """Takes the mean off its own input."""

    def forward(self, lr):
        return super().forward(lr.sub_(0.5)) + 0.5


class MultipliesInput(Small):
    """Scales its own input to another range, by an operator."""

    def forward(self, lr):
        lr *= 2
        return super().forward(lr)


class Detached(Small):
    """No gradient reaches the first convolution."""

    def between(self, x):
        return super().between(x).detach()


class PartlyWithoutGradients(Small):
    """The first convolution runs without gradients."""

    def forward(self, lr):
        with torch.no_grad():
            x = self.first(lr)
        return F.pixel_shuffle(self.last(self.between(x)), 2)


class Reentrant(Small):
    """The first convolution is computed again in the backward pass, in the old way."""

    def forward(self, lr):
        x = checkpoint(lambda lr: self.between(self.first(lr)), lr, use_reentrant=True)
        return F.pixel_shuffle(self.last(x), 2)


class Checkpointed(Small):
    """The first half is computed again in the backward pass, by then with the network's own weights."""

    def forward(self, lr):
        x = checkpoint(lambda lr: self.between(self.first(lr)), lr, use_reentrant=False)
        return F.pixel_shuffle(self.last(x), 2)


class Noisy(Small):
    """Adds noise in evaluation mode."""

    def between(self, x):
        return x + torch.randn_like(x)


class Unused(Small):
    """A convolution that nothing depends on."""

    def __init__(self):
        super().__init__()
        self.spare = nn.Conv2d(6, 6, 1)


class WithoutGradients(Small):
    """Its forward is for inference alone."""

    @torch.no_grad()
    def forward(self, lr):
        return super().forward(lr)


class ForInference(Small):
    """Likewise, by the other means."""

    @torch.inference_mode()
    def forward(self, lr):
        return super().forward(lr)


class PartlyInPlace(Small):
    """Overwrites some channels in evaluation mode, as PLKSR does."""

    def __init__(self, scale=2):
        super().__init__(scale)
        self.part = nn.Conv2d(2, 2, 3, padding=1)

    def between(self, x):
        if self.training:
            head, tail = x.split([2, 4], 1)
            return torch.cat([self.part(head), tail], 1)
        x[:, :2] = self.part(x[:, :2])
        return x


class Returning(Small):
    """Returns something else than one tensor."""

    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, lr):
        return self.wrap(super().forward(lr))


class ReturningTuple(Small):
    """Returns its features as well."""

    def forward(self, lr):
        x = self.first(lr)
        return F.pixel_shuffle(self.last(x), 2), x


class Grey(Small):
    """Returns one channel."""

    def forward(self, lr):
        return super().forward(lr).mean(1, keepdim=True)


class OfAnotherScale(Small):
    """Returns ×4, whatever it is told."""

    def forward(self, lr):
        return F.interpolate(super().forward(lr), scale_factor=2.0)


class Circular(Small):
    """Pads with the other side of the image."""

    def __init__(self):
        super().__init__()
        self.middle = nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular")

    def between(self, x):
        return torch.tanh(self.middle(x))


class Rolled(Small):
    """Shifts the image round, as unmasked shifted windows do."""

    def between(self, x):
        return torch.tanh(x) + torch.roll(x, (2, 2), (-2, -1))


class Coordinates(Small):
    """Knows where a pixel is."""

    def between(self, x):
        rows = torch.linspace(-1, 1, x.shape[-2]).to(x)[:, None]
        return torch.tanh(x + rows)


class CornersAligned(Small):
    """Adds an upscaled input whose grid depends on the image's size."""

    def forward(self, lr):
        return super().forward(lr) + F.interpolate(lr, scale_factor=2, mode="bilinear", align_corners=True)


class Compares(Small):
    """A mean of the neighbourhood decides where there is an output; NaN never is larger than a number."""

    def between(self, x):
        mean = F.avg_pool2d(x, 9, stride=1, padding=4)
        return (mean > 0) * torch.tanh(x)


class Attention(nn.Module):
    """Attention over all pixels, with a table of positions, ×1."""

    def __init__(self, kdim=None):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.table = nn.Parameter(torch.zeros(64, 4))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, kdim=kdim)
        self.last = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, lr):
        x = self.first(lr)
        tokens = x.flatten(2).transpose(1, 2) + self.table
        keys = tokens if self.attention.kdim == 4 else tokens[..., : self.attention.kdim]
        seen, _ = self.attention(tokens, keys, tokens, need_weights=False)
        return self.last(x + seen.transpose(1, 2).reshape(x.shape))
