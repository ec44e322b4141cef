"""Results of an unfinished run: stored in files, and divided among processes.

Each cached result is a file of tensors and plain values. Files are written atomically and read with
`weights_only=True`, so no code in a file is executed.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from faig_lab.attribution.quadrature import Adaptive, Rule
from faig_lab.attribution.weight_paths import STRAIGHT, PathSpec
from faig_lab.data import PairedImage
from faig_lab.files import atomic_write, read_tensors
from faig_lab.filters import fingerprint, first_floating, state_fingerprint

if TYPE_CHECKING:
    from faig_lab.attribution.probe import Problem

log = logging.getLogger(__name__)

T = TypeVar("T")


class ResultCache:
    """Results by name. A result is read from its file, or computed and written if there is no file.

    Two runs may share a folder, since equal names stand for equal results. If a file cannot be read or written, the
    result is computed, which takes only time.

    Args:
        folder: the folder of the files; None: no result is stored.

    Attributes:
        recalled: the number of results that were read from files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder, self.recalled = folder, 0
        self._complained = False

    def __call__(self, name: str, compute: Callable[[], T]) -> T:
        """Return the result `name`. It is computed if there is no file of it.

        Args:
            name: part of a file's name. The name must stand for everything that determines the result, except what the
                folder determines.
            compute: returns tensors and plain values in dicts and lists, but not None.
        """
        result: T | None = self.get(name)
        if result is None:
            result = compute()
            self.put(name, result)
        return result

    def get(self, name: str) -> Any:
        """Return the result `name`; None if there is no file of it, or if the file cannot be read."""
        if self.folder is None:
            return None
        path = self.folder / f"{name}.pt"
        if not path.is_file():
            return None
        try:
            result = read_tensors(path)
        except Exception as error:  # torch raises almost any error for bytes that are no pickle
            log.warning("%s cannot be read (%s): computed again", path, type(error).__name__)
            return None
        self.recalled += 1
        return result

    def put(self, name: str, result: object) -> None:
        """Write a result. A full disk is logged as a warning once."""
        if self.folder is None:
            return
        path = self.folder / f"{name}.pt"
        try:
            with atomic_write(path) as temporary:
                torch.save(result, temporary)
        except (OSError, RuntimeError) as error:  # torch reports a full disk by a RuntimeError
            level = logging.DEBUG if self._complained else logging.WARNING  # there may be hundreds of results
            log.log(level, "not kept for a resumption: %s (%s)", path, " ".join(str(error).split()))
            self._complained = True

    def discard(self) -> None:
        """Remove all files, since the run is done."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def cache_key(problem: "Problem", rule: Rule | Adaptive, path: PathSpec = STRAIGHT) -> str:
    """Compute a fingerprint of everything that determines the integrals of an image, except the image.

    Args:
        problem: two networks; its probe and its seed are not used.
        rule: the quadrature.
        path: the path in weight space.
    """
    ends = problem.baseline, problem.target
    every_digit = rule if isinstance(rule, Adaptive) else (rule.points.tolist(), rule.weights.tolist())
    weights = [*map(state_fingerprint, ends), first_floating(problem.target.values()).device.type]
    bent = [path.kind, *map(state_fingerprint, path.inner)]
    settings = [list(problem.degradations), repr(problem.layout), repr(every_digit), repr(problem.compute)]
    settings += [repr(problem.loss), problem.truth]
    return fingerprint({"of": [str(problem.network), *weights, *settings, *bent]})


def image_key(image: PairedImage, key: str) -> str:
    """Compute a fingerprint of the integrals of an image.

    Args:
        image: its pixels are part of the fingerprint, and its name is not.
        key: the `cache_key` of the problem.
    """
    return fingerprint({"image": state_fingerprint({"hr": image.hr, **image.lr}), "key": key})


@dataclass(frozen=True)
class Shard:
    """The part of the probe images that this process works on; by default all images.

    Args:
        rank: rank of this process.
        world: number of processes that share the images.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def of_group(cls) -> "Shard":
        """Return this process's part in its group. Each process of the group must compute the same sums."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())
        return cls()

    def assigned(self, items: Sequence[T]) -> Iterator[tuple[int, T]]:
        """Yield the position and the value of each item that this process works on."""
        for place in range(self.rank, len(items), self.world):
            yield place, items[place]

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes. `values` is changed in place."""
        if self.world > 1:
            torch.distributed.all_reduce(values)
        return values

    def stacked(
        self, rows: Mapping[int, Mapping[str, Tensor]], templates: Mapping[str, Tensor], count: int
    ) -> dict[str, Tensor]:
        """Collect the rows of all images from all processes. The rows are exact, since every row is added to zeros.

        Args:
            rows: position in the probe → tensors by name, for the images of this process.
            templates: tensors of the same shapes and types.
            count: number of all images.

        Returns:
            name → (count, …) on the CPU.
        """
        if self.world == 1:
            return {name: torch.stack([rows[place][name] for place in range(count)]) for name in templates}
        widths = [value.numel() for value in templates.values()]
        sums = torch.zeros(count, sum(widths), dtype=torch.float64)
        for place, row in rows.items():
            sums[place] = torch.cat([row[name].double().reshape(-1) for name in templates])
        parts: Sequence[Tensor] = torch.split(self.total(sums), widths, dim=1)
        return {
            name: part.reshape(count, *value.shape).to(value.dtype).clone()
            for (name, value), part in zip(templates.items(), parts, strict=True)
        }


ALONE = Shard()
"""One process that works on all images."""
