"""A learned mask: one gate for each filter, trained on the probe towards the ideal edit (method.md §9).

"Filter" stands for the unit of the layout: a weight, a channel or a layer is treated in the same way.

For each degradation, gates g ∈ [0, 1] are trained in the network with the weights θ̄ + g (θ − θ̄). The gates minimise

    1 − isolation on the probe + λ · mean(1 − g)

The price λ rises during the training, so the number of masked filters falls. Every step masks Σ (1 − g) = n filters,
and n falls geometrically. λ is the Lagrange multiplier of this number. The score of a filter depends on the smallest
masks that contain the filter, so one training ranks the filters for all numbers.

Early stop: the gates of the present step are compared with the gates of `patience` steps ago. The gates have settled if
both mask the same filters in the same order, at the present number. The gates then stay fixed for the remaining
numbers, which take no pass.
"""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from faig_lab.attribution.cache import cache_key, image_key
from faig_lab.attribution.compute import full_precision, memory_format
from faig_lab.attribution.probe import Cost, Problem
from faig_lab.attribution.scores import ranking
from faig_lab.cuda_graphs import Replays
from faig_lab.data import CLEAN, PairedImage, sample_rng
from faig_lab.filters import fingerprint, first_floating
from faig_lab.metrics import EditSums, edit_sums, isolation

log = logging.getLogger(__name__)

POOL = 64
"""Number of crops of the probe that the training draws from. Each crop is restored by baseline and target once."""

COLDEST = 0.3
"""Temperature of the gates at the end, where the gates are nearly 0 or 1. It starts at 1 and falls geometrically."""

MANY, FEW = 10, 0.5
"""Smallest numbers of masked filters, for small layouts: at the start (or half of all filters), and at the end."""


class Crop(NamedTuple):
    """A crop of one probe image, at the same place in all inputs: the K degradations, then clean input.

    Attributes:
        lr: (K + 1, 3, h, w) inputs.
        baseline: (K + 1, 3, sh, sw) outputs of the baseline.
        target: (K + 1, 3, sh, sw) outputs of the target.
    """

    lr: Tensor
    baseline: Tensor
    target: Tensor


@full_precision()
def learned_mask(
    problem: Problem,
    steps: Annotated[int, Field(ge=1)] = 300,
    seconds: Annotated[float, Field(gt=0)] | None = None,
    most: Annotated[float, Field(gt=0, le=50)] = 10.0,
    fewest: Annotated[float, Field(gt=0, le=50)] = 0.1,
    crop: Annotated[int, Field(ge=16)] = 64,
    crops: Annotated[int, Field(ge=1)] = 2,
    rate: Annotated[float, Field(gt=0)] = 0.1,
    patience: Annotated[int, Field(ge=1)] | None = None,
) -> Tensor:
    """Train a gate for each filter and degradation; a filter is scored by the smallest masks that contain it.

    Crops are drawn by the problem's seed, so the same problem gives the same scores. With `seconds` the number of
    steps depends on the machine, and so do the scores.

    Args:
        problem: two networks and a probe; its rule is not used.
        steps: the largest number of steps for each degradation.
        seconds: about the largest number of seconds for all degradations together. The training goes through all
            numbers of filters in this time. None: no limit.
        most: percent of all filters that are masked at the start.
        fewest: percent of all filters that are masked at the end.
        crop: side of the probe's crops in HR pixels; smaller images are used whole.
        crops: number of crops in a step. The memory grows with this number.
        rate: learning rate of the gates' logits (Adam).
        patience: stop the training of a degradation if the masked filters and their order have not changed for this
            number of steps. The remaining, smaller masks are computed from the gates. None: no early stop.

    Returns:
        (1, K, F) weighted mean of 1 − g over the steps, 0 to 1. The weight of a step that masks n filters is 1 / n.

    Raises:
        ValueError: `fewest` is above `most`.
    """
    if fewest > most:
        raise ValueError(f"fewest must be at most most = {most:g}, not {fewest:g}")
    training = _Training(problem, steps, seconds, most, fewest, crop, crops, rate, patience)
    scores, costs = torch.zeros(problem.shape, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for k, _ in problem.shard.assigned(problem.degradations):
        scores[k], cost = problem.cache(training.name(k), partial(training.run, k))
        costs += cost
    passes, pixels, taken = problem.shard.total(costs).tolist()
    problem.costs["learned_mask"] = Cost(int(passes), int(pixels), taken)
    return problem.shard.total(scores)[None]


@dataclass(frozen=True)
class _Training:
    """The training of the gates; arguments as in `learned_mask`."""

    problem: Problem
    steps: int
    seconds: float | None
    most: float
    fewest: float
    crop: int
    crops: int
    rate: float
    patience: int | None

    def name(self, k: int) -> str:
        """Return the name of the cached result for a degradation."""
        p = self.problem
        key = cache_key(p, p.rule)
        arguments = [self.steps, self.seconds, self.most, self.fewest, self.crop, self.crops, self.rate, self.patience]
        images = [image_key(image, key) for image in p.probe]
        return f"learned-mask-{fingerprint({'of': [k, arguments, p.seed, images]})}"

    def run(self, k: int) -> tuple[Tensor, Tensor]:
        """Return scores (F,) for a degradation and their cost (3,): passes, LR pixels, seconds; float64 on the CPU."""
        start, step, passes, pixels, weights, settled = time.perf_counter(), 0, 0, 0, 0.0, False
        name, device = self.problem.degradations[k], first_floating(self.problem.target.values()).device
        logits = torch.zeros(len(self.problem.layout), device=device, dtype=torch.float64)
        scores = torch.zeros_like(logits)
        earlier: Tensor | None = None
        adam = torch.optim.Adam([logits], lr=self.rate)
        # Without energy both networks have the same output on this input, so there is no function to mask.
        has_energy = bool(self._energy[k] > 0)
        while not settled and has_energy and (progress := self._progress(step, start)) < 1:
            count, temperature = self.count(progress), COLDEST**progress
            batch = self._batch(k, step)
            masked, logits.grad = self._step(k, logits, temperature, count, batch)
            adam.step()
            scores += masked / count
            weights += 1 / count
            step += 1
            passes += sum(len(crop.lr) for crop in batch)
            pixels += sum(crop.lr[:, 0].numel() for crop in batch)
            if self.problem.progress is not None:
                self.problem.progress(f"learned mask, {name}: step {step} of {self.steps}")
            if self.patience is not None and step % self.patience == 0:
                masks = (ranking(-values)[: math.ceil(count)] for values in (logits, earlier) if values is not None)
                settled, earlier = earlier is not None and torch.equal(*masks), logits.clone()
        if settled:
            total = round(step / self._progress(step, start))
            log.info("learned mask, %s: settled after %d of %d steps", name, step, total)
            for later in range(step, total):
                count = self.count(later / total)
                scores += masked_parts(logits, COLDEST ** (later / total), count) / count
                weights += 1 / count
        taken = time.perf_counter() - start
        return scores.cpu() / max(weights, 1e-300), torch.tensor([passes, pixels, taken], dtype=torch.float64)

    def _step(
        self, k: int, logits: Tensor, temperature: float, count: float, batch: Sequence[Crop]
    ) -> tuple[Tensor, Tensor]:
        """Return the masked parts (F,) and the gradient with respect to the logits; on a GPU by a recorded pass."""

        def run(given: Sequence[Tensor]) -> list[Tensor]:
            own, (heat, number), crops = given[0], given[1:3], given[3:]
            masked = masked_parts(own, heat, number)
            gates = (1 - masked).requires_grad_()
            sizes = iter(crops)
            groups = [Crop(*parts) for parts in zip(sizes, sizes, sizes, strict=True)]
            # On GPUs the fastest backward pass of cuDNN adds in an order that differs between runs.
            with torch.enable_grad(), torch.backends.cudnn.flags(enabled=True, deterministic=True):
                (gradient,) = torch.autograd.grad(-self._isolation(gates, k, groups, len(batch)), [gates])
            return [masked, along_the_count(gradient, masked, heat)]

        groups = [torch.cat(parts) for group in _by_size(batch) for parts in zip(*group, strict=True)]
        numbers = (logits.new_tensor(value) for value in (temperature, count))
        inputs = [logits, *numbers, *groups]
        records = self.problem.compute.records
        masked, gradient = self._replays((k, len(batch)), run, inputs) if records else run(inputs)
        return masked, gradient  # results of a recording last until the next step

    @cached_property
    def _replays(self) -> Replays:
        """The recordings of this training; they use its energies, so they end with it."""
        return Replays()

    def count(self, progress: float) -> float:
        """Compute the number of masked filters at a progress from 0 to 1."""
        filters = len(self.problem.layout)
        first = max(filters * self.most / 100, min(MANY, filters / 2))
        last = min(first, max(filters * self.fewest / 100, FEW))
        return float(first * (last / first) ** progress)

    def _progress(self, step: int, start: float) -> float:
        """Return the spent share of the budget: of the steps or of this degradation's seconds, the larger share."""
        budget = math.inf if self.seconds is None else self.seconds / len(self.problem.degradations)
        return max(step / self.steps, (time.perf_counter() - start) / budget)

    def _isolation(self, gates: Tensor, k: int, groups: Sequence[Crop], count: int) -> Tensor:
        """Compute the isolation on some crops in units of the pool's energies; the mean over batches is the pool's.

        Args:
            gates: (F,).
            k: the degradation.
            groups: the crops of each size, one after the other along the first dimension.
            count: number of crops.
        """
        state = gated(self.problem, gates)
        parts = [self._sums(state, group) for group in groups]
        along, moved = (torch.stack([part[i] for part in parts]).sum(0) for i in (0, 1))
        sums = [EditSums(*terms) for terms in zip(self._energy * count, along, moved, strict=True)]
        degradations = range(len(self.problem.degradations))
        result: Tensor = isolation(sums[k], [sums[i] for i in degradations if i != k], sums[-1])
        return result

    def _sums(self, state: dict[str, Tensor], crops: Crop) -> tuple[Tensor, Tensor]:
        """Compute (K + 1,) `along` and (K + 1,) `moved` of crops of one size, by one forward pass for all crops."""
        output = self.problem.compute.output(self.problem.network, state, _formatted(crops.lr, self.problem))
        sums = edit_sums(output, crops.baseline, crops.target)
        inputs = len(self.problem.degradations) + 1
        along, moved = (part.reshape(-1, inputs).sum(0) for part in (sums.along, sums.moved))
        return along, moved

    def _batch(self, k: int, step: int) -> list[Crop]:
        rng = sample_rng(self.problem.seed, f"learned-mask/{self.problem.degradations[k]}", step)
        return [self._pool[i] for i in rng.choice(len(self._pool), self.crops, replace=False)]

    @cached_property
    def _pool(self) -> list[Crop]:
        """The crops, at seeded places. The probability of an image is proportional to its number of pixels."""
        areas = np.array([image.lr[CLEAN][0].numel() for image in self.problem.probe], dtype=np.float64)
        pool = []
        for number in range(max(POOL, self.crops)):
            rng = sample_rng(self.problem.seed, "learned-mask/crop", number)
            pool.append(self._cut(self.problem.probe[int(rng.choice(len(areas), p=areas / areas.sum()))], rng))
        return pool

    def _cut(self, image: PairedImage, rng: np.random.Generator) -> Crop:
        """Cut a crop out of an image, and restore it by both networks."""
        inputs = torch.stack([image.lr[name] for name in (*self.problem.degradations, CLEAN)])
        height, width = (min(max(1, self.crop // image.scale), side) for side in inputs.shape[-2:])
        top, left = (int(rng.integers(s - c + 1)) for s, c in zip(inputs.shape[-2:], (height, width), strict=True))
        weight = first_floating(self.problem.target.values())
        lr = inputs[..., top : top + height, left : left + width].to(weight)
        with torch.no_grad():
            ends = [
                self.problem.compute.output(self.problem.network, dict(state), _formatted(lr, self.problem))
                for state in (self.problem.baseline, self.problem.target)
            ]
        return Crop(lr, *ends)

    @cached_property
    def _energy(self) -> Tensor:
        """(K + 1,) mean energy of the pool's crops for each input."""
        return torch.stack([edit_sums(crop.target, crop.baseline, crop.target).energy for crop in self._pool]).mean(0)


def _by_size(crops: Sequence[Crop]) -> list[list[Crop]]:
    """Group crops by size, in the order of the first crop of each size."""
    groups: dict[torch.Size, list[Crop]] = {}
    for crop in crops:
        groups.setdefault(crop.lr.shape, []).append(crop)
    return list(groups.values())


def _formatted(lr: Tensor, problem: Problem) -> Tensor:
    return lr.contiguous(memory_format=memory_format(lr, problem.compute.autocast))


def gated(problem: Problem, gates: Tensor) -> dict[str, Tensor]:
    """Return the weights θ̄ + g (θ − θ̄); parameters outside the layout stay the target's.

    Args:
        problem: two networks.
        gates: (F,) from 0 to 1; 0 gives the baseline's weights and 1 the target's, bit for bit.
    """
    expanded = problem.layout.scatter(gates)
    return {
        name: torch.lerp(problem.baseline[name], value, expanded[name].to(value.dtype).expand_as(value))
        if name in expanded
        else value
        for name, value in problem.target.items()
    }


def masked_parts(logits: Tensor, temperature: float | Tensor, count: float | Tensor) -> Tensor:
    """Compute 1 − g of gates g = σ((logits + b) / temperature), with the b for which Σ (1 − g) is the count.

    Args:
        logits: (F,) float64.
        temperature: above 0. At a low temperature the gates are near 0 or 1.
        count: above 0 and below F.

    Returns:
        (F,) values that decrease with the logit, also where g itself rounds to 1.
    """
    low, high = -logits.max() - 40 * temperature, -logits.min() + 40 * temperature
    for _ in range(60):
        middle = (low + high) / 2
        more = torch.sigmoid(-(logits + middle) / temperature).sum() > count
        low, high = torch.where(more, middle, low), torch.where(more, high, middle)
    return torch.sigmoid(-(logits + high) / temperature)


def along_the_count(gradient: Tensor, masked: Tensor, temperature: float | Tensor) -> Tensor:
    """Compute the gradient with respect to the logits of `masked_parts`. The count is constant, so b depends on them.

    Args:
        gradient: (F,) the gradient with respect to the gates g.
        masked: (F,) the result of `masked_parts`.
        temperature: the temperature of `masked_parts`.
    """
    slope = masked * (1 - masked) / temperature
    price = (slope * gradient).sum() / slope.sum().clamp_min(1e-300)  # λ / F
    return slope * (gradient - price)
