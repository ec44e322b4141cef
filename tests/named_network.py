"""A network whose parts are called as wrappers call a network."""

from torch import Tensor, nn


class Named(nn.Module):
    """Its names begin with `network.` and `module.`, as if somebody had wrapped it."""

    def __init__(self, scale: int = 2, features: int = 4, blocks: int = 1) -> None:
        super().__init__()
        self.network = nn.Conv2d(3, features, 3, padding=1)
        self.module = nn.Sequential(*(nn.Conv2d(features, features, 3, padding=1) for _ in range(blocks)))
        self.head = nn.Conv2d(features, 3 * scale**2, 3, padding=1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.head(self.module(self.network(x).relu()).relu()), self.scale)
