"""Severities, and the random numbers of samples: by one NumPy generator each, or by a counter for many at once.

On the host a sample has a NumPy generator of its own. Where a GPU trains, a generator for each sample would take longer
than the step: there a counter gives the numbers of all samples at once (`SampleDraws`), the same on every device.
"""

import hashlib
import math
import zlib
from collections.abc import Sequence
from functools import cached_property
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Severity = float | tuple[float, float]
"""A number, or a range [low, high]: each sample draws its value uniformly."""

WholeSeverity = int | tuple[int, int]
"""A whole number, or a range [low, high]: each whole number from low to high is equally likely, both included."""


def bounds(name: str, severity: Severity) -> tuple[float, float]:
    """Return the lowest and the highest value of a severity.

    Args:
        name: the parameter's name, for the message.
        severity: as the user gave it; a list counts as a tuple.

    Raises:
        ValueError: `severity` is neither a number nor two numbers in increasing order.
    """
    pair = (severity, severity) if isinstance(severity, int | float) else tuple(severity)
    if len(pair) != 2 or not pair[0] <= pair[1]:
        raise ValueError(f"{name} must be a number or a range [low, high], not {severity}")
    return pair


def draw(severity: Severity, rng: np.random.Generator) -> float:
    """Draw the value of one sample. A plain number takes no random number from `rng`."""
    return float(severity) if isinstance(severity, int | float) else rng.uniform(*severity)


def draw_whole(severity: WholeSeverity, rng: np.random.Generator) -> int:
    """Draw the whole value of one sample. A plain number takes no random number from `rng`."""
    return severity if isinstance(severity, int) else int(rng.integers(*severity, endpoint=True))


def check_share(name: str, share: float) -> None:
    """Raise ValueError unless a share of samples lies in 0..1. The message names the parameter."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must lie in 0..1, not {share}")


def sample_rng(seed: int, stream: str, *index: int) -> np.random.Generator:
    """Return the generator of one sample: a pure function of the arguments, independent of every other sample.

    Args:
        seed: the run's seed, >= 0.
        stream: what the numbers are for ("target", "evaluation/blur/coffee"); streams do not overlap.
        index: position in the stream, e.g. the sample's number since the start of training.
    """
    return np.random.default_rng([seed, zlib.crc32(stream.encode()), *index])


class SampleDraws(Sequence[np.random.Generator]):
    """The random numbers of some samples of one stream, drawn for all of them at once.

    The numbers come from a counter-based generator: Philox4x32-10 (Salmon and others, Parallel Random Numbers: As Easy
    as 1, 2, 3, SC 2011). Its key is (seed, stream), its counter (number of the sample, number of the draw, place). So
    a sample's numbers do not depend on the batch or the device; normal numbers differ between devices by rounding.

    As a sequence it holds one NumPy generator for each sample, for parts that draw sample by sample.

    Args:
        seed: the run's seed, >= 0.
        stream: what the numbers are for, as in `sample_rng`.
        numbers: the samples' numbers, >= 0.
        device: where `normal` draws.
    """

    def __init__(self, seed: int, stream: str, numbers: Sequence[int], device: torch.device) -> None:
        self.seed, self.stream, self.numbers, self.device = seed, stream, tuple(numbers), device
        digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
        self._key = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")
        self._draws = 0

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def _generators(self) -> list[np.random.Generator]:
        return [sample_rng(self.seed, self.stream, number) for number in self.numbers]

    @overload
    def __getitem__(self, place: int) -> np.random.Generator: ...
    @overload
    def __getitem__(self, place: slice) -> list[np.random.Generator]: ...
    def __getitem__(self, place: int | slice) -> np.random.Generator | list[np.random.Generator]:
        """Return the NumPy generator of a sample, which goes on where it was left."""
        return self._generators[place]

    def of(self, name: str, places: Sequence[int]) -> "SampleDraws":
        """Return the numbers of some of the samples for one part: a stream of its own."""
        return SampleDraws(self.seed, f"{self.stream}/{name}", [self.numbers[k] for k in places], self.device)

    def uniform(self, count: int) -> NDArray[np.float64]:
        """Draw `count` numbers in (0, 1) for each sample, on the processor: (N, count)."""
        words = self._words(count, torch.device("cpu"))
        uniform: NDArray[np.float64] = ((words.double() + 0.5) * 2.0**-32).numpy()
        return uniform

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Draw standard normal numbers for each sample, on the device: (N, *shape), float32.

        Pairs of uniform numbers become pairs of normal numbers (Box and Muller, 1958).
        """
        size = math.prod(shape)
        words = self._words(size + size % 2, self.device)
        uniform = ((words.float() + 0.5) * 2.0**-32).view(len(self), -1, 2)
        radius, angle = (-2 * uniform[..., 0].log()).sqrt(), (2 * math.pi) * uniform[..., 1]
        pairs = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
        return pairs.view(len(self), -1)[:, :size].view(len(self), *shape)

    def _words(self, count: int, device: torch.device) -> Tensor:
        """Return `count` words of 32 bits for each sample, as int64, and step to the next draw."""
        numbers = torch.tensor(self.numbers, dtype=torch.int64).to(device)[:, None]
        places = torch.arange(-(-count // 4), device=device)[None]
        zero = torch.zeros_like(places)
        words = philox((places, zero + self._draws, numbers & _WORD, numbers >> 32), self._key)
        self._draws += 1
        return torch.stack(words, dim=-1).view(len(self), -1)[:, :count]


_WORD = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Return Philox4x32-10 of counters: four words of 32 bits for each.

    Args:
        counter: four tensors of int64 that broadcast, each holding words of 32 bits.
        key: two words of 32 bits.

    Returns:
        four tensors of int64 with words of 32 bits.
    """
    a, b, c, d = counter
    first, second = key
    for _ in range(_ROUNDS):
        # A product of two words has 64 bits. In int64 it wraps round and keeps all of them.
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, c = ((right >> 32) & _WORD) ^ b ^ first, ((left >> 32) & _WORD) ^ d ^ second
        b, d = right & _WORD, left & _WORD
        first, second = (first + _WEYL[0]) & _WORD, (second + _WEYL[1]) & _WORD
    return a, b, c, d


def draw_each(severity: Severity, rngs: Sequence[np.random.Generator]) -> list[float]:
    """Draw the values of all samples, each as `draw` does."""
    if isinstance(severity, int | float):
        return [float(severity)] * len(rngs)
    if not isinstance(rngs, SampleDraws):
        return [draw(severity, rng) for rng in rngs]
    low, high = severity
    found: list[float] = (low + (high - low) * rngs.uniform(1)[:, 0]).tolist()
    return found


def draw_each_whole(severity: WholeSeverity, rngs: Sequence[np.random.Generator]) -> list[int]:
    """Draw the whole values of all samples, each as `draw_whole` does."""
    if isinstance(severity, int):
        return [severity] * len(rngs)
    if not isinstance(rngs, SampleDraws):
        return [draw_whole(severity, rng) for rng in rngs]
    low, high = severity
    found: list[int] = np.floor(low + (high - low + 1) * rngs.uniform(1)[:, 0]).astype(int).tolist()
    return found


def draw_uniform(count: int, rngs: Sequence[np.random.Generator]) -> NDArray[np.float64]:
    """Draw `count` uniform numbers for each sample: (N, count), in [0, 1)."""
    if isinstance(rngs, SampleDraws):
        return rngs.uniform(count)
    return np.array([rng.random(count) for rng in rngs]).reshape(len(rngs), count)


def draw_chosen(share: float, rngs: Sequence[np.random.Generator]) -> NDArray[np.bool_]:
    """Draw which samples belong to a share, 0..1. A share of 0 takes no random number."""
    if share <= 0:
        return np.zeros(len(rngs), dtype=np.bool_)
    return draw_uniform(1, rngs)[:, 0] < share


def draw_normal(shape: Sequence[int], rngs: Sequence[np.random.Generator], like: Tensor) -> Tensor:
    """Draw standard normal numbers for each sample: (N, *shape), on the device and in the precision of `like`."""
    if isinstance(rngs, SampleDraws):
        return rngs.normal(shape).to(like.device, like.dtype)
    noise = np.stack([rng.standard_normal(tuple(shape), dtype=np.float32) for rng in rngs])
    return torch.from_numpy(noise).to(like.device, like.dtype)
