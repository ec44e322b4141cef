"""Minimal forms of architectures that spandrel does not have, or that it is not needed for; each maps RGB to RGB."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EDSR(nn.Module):
    """Residual blocks without norms, and a pixel shuffle (Lim et al. 2017)."""

    def __init__(self, scale: int = 2, features: int = 8, blocks: int = 2) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, features, 3, padding=1)
        self.body = nn.ModuleList(nn.ModuleList(self._conv(features) for _ in range(2)) for _ in range(blocks))
        self.tail = nn.Conv2d(features, 3 * scale**2, 3, padding=1)

    @staticmethod
    def _conv(features: int) -> nn.Conv2d:
        return nn.Conv2d(features, features, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        x = first = self.head(lr)
        for block in self.body:
            one, two = block.children()
            x = x + 0.1 * two(F.relu(one(x)))
        return F.pixel_shuffle(self.tail(x + first), self.scale)


class UNet(nn.Module):
    """One level down by a stride and up by a transposed convolution, with a skip, ×1 (Ronneberger et al. 2015)."""

    def __init__(self, features: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, features, 3, padding=1)
        self.down = nn.Conv2d(features, 2 * features, 3, stride=2, padding=1)
        self.bottom = nn.Conv2d(2 * features, 2 * features, 3, padding=1)
        self.up = nn.ConvTranspose2d(2 * features, features, 2, stride=2)
        self.last = nn.Conv2d(2 * features, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.first(image))
        y = F.relu(self.up(F.relu(self.bottom(F.relu(self.down(x))))))
        return image + self.last(torch.cat([x, y], 1))


class ChannelAttention(nn.Module):
    """Attention between channels: its queries, keys and values are 1×1 convolutions (Restormer, Zamir et al. 2022)."""

    def __init__(self, features: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv2d(features, 3 * features, 1)
        self.depthwise = nn.Conv2d(3 * features, 3 * features, 3, padding=1, groups=3 * features)
        self.project_out = nn.Conv2d(features, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.depthwise(self.qkv(x)).unflatten(1, (3, self.num_heads, -1)).flatten(4)
        q, k, v = parts.unbind(1)
        attention = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)) * self.temperature
        return self.project_out((attention.softmax(-1) @ v).flatten(1, 2).unflatten(-1, x.shape[-2:]))


class Restormer(nn.Module):
    """Channel attention and a gated feed-forward part, ×1."""

    def __init__(self, features: int = 8, num_heads: int = 2) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, features, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(1, features) for _ in range(2))
        self.attn = ChannelAttention(features, num_heads)
        self.project_in = nn.Conv2d(features, 4 * features, 1)
        self.project_out = nn.Conv2d(2 * features, features, 1)
        self.output = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed(image)
        x = x + self.attn(self.norms[0](x))
        gate, value = self.project_in(self.norms[1](x)).chunk(2, 1)
        return image + self.output(x + self.project_out(F.gelu(gate) * value))


class Merged(nn.Module):
    """3×3 and 1×1 kernels side by side; evaluation mode adds them up into a kernel without a gradient (as SPAN)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(features, features, 3, padding=1)
        self.narrow = nn.Conv2d(features, features, 1)
        self.eval_conv = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.wide(x) + self.narrow(x)
        kernel = self.wide.weight.data + F.pad(self.narrow.weight.data, (1, 1, 1, 1))
        self.eval_conv.weight.data = kernel
        self.eval_conv.bias.data = self.wide.bias.data + self.narrow.bias.data  # type: ignore[union-attr]
        return self.eval_conv(x)


class Reparameterised(EDSR):
    """SPAN's trap: kernels that are merged in evaluation mode."""

    @staticmethod
    def _conv(features: int) -> nn.Module:  # type: ignore[override]
        return Merged(features)


class Partial(nn.Module):
    """Half of the channels are convolved; evaluation mode writes into them (as PLKSR)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.convolved = features // 2
        self.conv = nn.Conv2d(self.convolved, self.convolved, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return torch.cat([self.conv(x[:, : self.convolved]), x[:, self.convolved :]], 1)
        x[:, : self.convolved] = self.conv(x[:, : self.convolved])
        return x


class InPlace(EDSR):
    """PLKSR's trap: activations that are overwritten in evaluation mode."""

    @staticmethod
    def _conv(features: int) -> nn.Module:  # type: ignore[override]
        return nn.Sequential(nn.Conv2d(features, features, 1), Partial(features))


class DropPath(nn.Module):
    """Drops whole paths at random in training mode; another function in evaluation mode."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(len(x), 1, 1, 1).to(x) > 0.5) if self.training else x


class WindowAttention(nn.Module):
    """Attention within windows of 4×4 pixels; the state dict begins with whole numbers (as HAT)."""

    def __init__(self, features: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.index: Tensor
        self.register_buffer("index", torch.arange(16).flip(0))
        self.table = nn.Parameter(torch.randn(16, num_heads))
        self.qkv = nn.Linear(features, 3 * features)
        self.proj = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = F.pixel_unshuffle(x, 4).unflatten(1, (c, 16)).permute(0, 3, 4, 2, 1)
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).movedim(-3, 0).transpose(-3, -2)
        bias = self.table[self.index.long()].T[:, None]
        attention = (q @ k.transpose(-2, -1) * (c // self.num_heads) ** -0.5 + bias).softmax(-1)
        seen = self.proj((attention @ v).transpose(-3, -2).flatten(-2))
        return F.pixel_shuffle(seen.permute(0, 4, 3, 1, 2).flatten(1, 2), 4).view(n, c, h, w)


class Windowed(nn.Module):
    """SwinIR and HAT in miniature: window attention, a linear MLP, stochastic depth; sides are multiples of 4."""

    def __init__(self, scale: int = 2, features: int = 8, num_heads: int = 2) -> None:
        super().__init__()
        self.scale = scale
        self.attn = WindowAttention(features, num_heads)
        self.conv_first = nn.Conv2d(3, features, 3, padding=1)
        self.norm = nn.LayerNorm(features)
        self.mlp = nn.Sequential(nn.Linear(features, 2 * features), nn.GELU(), nn.Linear(2 * features, features))
        self.drop_path = DropPath()
        self.upsample = nn.Conv2d(features, 3 * scale**2, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        x = self.conv_first(lr)
        x = x + self.drop_path(self.attn(x))
        x = x + self.drop_path(self.mlp(self.norm(x.movedim(1, -1))).movedim(-1, 1))
        return F.pixel_shuffle(self.upsample(x), self.scale)
