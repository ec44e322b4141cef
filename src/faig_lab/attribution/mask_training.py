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
from faig_lab.data import CLEAN, sample_rng
from faig_lab.filters import State, fingerprint, first_floating
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
            rng = sample_rng(self.problem.seed, f"learned-mask/{name}", step)
            batch = [self._pool[i] for i in rng.choice(len(self._pool), self.crops, replace=False)]
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

        by_size: dict[torch.Size, list[Crop]] = {}
        for one in batch:
            by_size.setdefault(one.lr.shape, []).append(one)
        inputs = [logits, *(logits.new_tensor(value) for value in (temperature, count))]
        inputs += [torch.cat(parts) for group in by_size.values() for parts in zip(*group, strict=True)]
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
        state, kinds = gated(self.problem, gates), len(self._energy)
        edits = [edit_sums(self._output(state, crops.lr), crops.baseline, crops.target) for crops in groups]
        along = torch.stack([edit.along.reshape(-1, kinds).sum(0) for edit in edits]).sum(0)
        moved = torch.stack([edit.moved.reshape(-1, kinds).sum(0) for edit in edits]).sum(0)
        *degraded, clean = [EditSums(*terms) for terms in zip(self._energy * count, along, moved, strict=True)]
        result: Tensor = isolation(degraded[k], [other for i, other in enumerate(degraded) if i != k], clean)
        return result

    def _output(self, state: State, lr: Tensor) -> Tensor:
        layout = memory_format(lr, self.problem.compute.autocast)
        return self.problem.compute.output(self.problem.network, state, lr.contiguous(memory_format=layout))

    @cached_property
    def _pool(self) -> list[Crop]:
        """The crops, at seeded places. The probability of an image is proportional to its number of pixels."""
        problem, pool = self.problem, []
        areas = np.array([image.lr[CLEAN][0].numel() for image in problem.probe], dtype=np.float64)
        for number in range(max(POOL, self.crops)):
            rng = sample_rng(problem.seed, "learned-mask/crop", number)
            image = problem.probe[int(rng.choice(len(areas), p=areas / areas.sum()))]
            lr, _ = problem.crop(image, max(1, self.crop // image.scale), rng)
            with torch.no_grad():
                pool.append(Crop(lr, *(self._output(state, lr) for state in (problem.baseline, problem.target))))
        return pool

    @cached_property
    def _energy(self) -> Tensor:
        """(K + 1,) mean energy of the pool's crops for each input."""
        return torch.stack([edit_sums(crop.target, crop.baseline, crop.target).energy for crop in self._pool]).mean(0)


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
