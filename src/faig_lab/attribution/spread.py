"""Probe images spread over the processes of a group, with one all-reduce of their sums at the end."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class Spread:
    """Which probe images are this process's own; all of them until `over_group` is called.

    Attributes:
        rank: of this process.
        world: how many processes share the images.
    """

    def __init__(self) -> None:
        self.rank, self.world = 0, 1

    def over_group(self) -> None:
        """Share the images with the other processes of the group; each of them must ask for the same sums."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self.rank, self.world = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def alone(self) -> None:
        """All images are this process's own again."""
        self.rank, self.world = 0, 1

    def own(self, index: int) -> bool:
        """Whether the image at this place of the probe is this process's own."""
        return index % self.world == self.rank

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes; `values` is changed."""
        if self.world > 1:
            torch.distributed.all_reduce(values)
        return values

    def stacked(
        self, rows: Mapping[int, Mapping[str, Tensor]], like: Mapping[str, Tensor], count: int
    ) -> dict[str, Tensor]:
        """The rows of all images from those of each process, exactly: every row is added to zeros.

        Args:
            rows: place in the probe → tensors by name, of this process's own images.
            like: tensors of the same shapes and types.
            count: of all images.

        Returns:
            name → (count, …) on the CPU.
        """
        if self.world == 1:
            return {name: torch.stack([rows[index][name] for index in range(count)]) for name in like}
        widths = [value.numel() for value in like.values()]
        sums = torch.zeros(count, sum(widths), dtype=torch.float64)
        for index, row in rows.items():
            sums[index] = torch.cat([row[name].double().reshape(-1) for name in like])
        parts: Sequence[Tensor] = torch.split(self.total(sums), widths, dim=1)
        return {
            name: part.reshape(count, *value.shape).to(value.dtype).clone()
            for (name, value), part in zip(like.items(), parts, strict=True)
        }
