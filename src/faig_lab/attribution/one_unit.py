"""One-unit ablation: each unit alone is set back to the baseline, and the effect is measured on the probe.

Rankings approximate the effect of single units. This method measures the effect exactly. It takes a pass through the
network for each unit, image and input, so it is meant for layers and channels. It does not measure the effect of
several units together; a learned mask does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.func import vmap

from faig_lab.attribution.cache import cache_key, image_key
from faig_lab.attribution.compute import full_precision, in_format, memory_format
from faig_lab.attribution.probe import Problem
from faig_lab.attribution.scores import Contrast, others, ratio
from faig_lab.attribution.tiling import Tile
from faig_lab.data import CLEAN, PairedImage
from faig_lab.errors import InputError
from faig_lab.filters import FilterLayout, State, first_floating
from faig_lab.granularity import UNITS
from faig_lab.metrics import EditSums, edit_sums, isolation

Measure = Literal["isolation", "loss"]
"""The measure of a network in which one unit has the baseline's values."""

_SUMS = 4
"""Number of sums for each network and input: the loss, and the three sums of `EditSums`."""


@dataclass(frozen=True)
class OneUnit:
    """Score each unit by the effect of setting this unit alone back to the baseline's values.

    Args:
        measure: "isolation": the isolation of the network with this unit set back, on the probe (method.md §9). 0 means
            no effect, and a negative number means harm. "loss": the unit's exact share of the loss change,
            [L(θ with the unit set back, x^D) − L(θ, x^D)] / [L(θ̄, x^D) − L(θ, x^D)], minus the absolute share of the
            other degradations, as in the signed share.
        budget: the largest number of units, > 0; each unit takes a pass for every probe image and input.
        contrast: for "loss": subtract the mean or the maximum over the other degradations.

    Raises:
        ValueError: an argument is not valid.
    """

    measure: Measure = "isolation"
    budget: Annotated[int, Field(ge=1)] = 2000
    contrast: Contrast = "mean"

    def __post_init__(self) -> None:
        if self.measure not in ("isolation", "loss"):
            raise ValueError(f"measure must be isolation or loss, not {self.measure}")
        if self.budget < 1:
            raise ValueError(f"budget must be > 0, not {self.budget}")

    def check(self, layout: FilterLayout) -> None:
        """Refuse a layout with more units than the budget.

        Args:
            layout: the units to score.

        Raises:
            InputError: too many units.
        """
        if len(layout) > self.budget:
            few = " or ".join(UNITS[kind] for kind in ("layer", "output_channel") if kind != layout.granularity)
            raise InputError(
                "budget",
                f"{len(layout):,} {layout.word} would take {len(layout):,} passes for each probe image and input, and "
                f"the budget is {self.budget:,}; score {few} (`granularity`) or raise the budget",
            )

    def __call__(self, problem: Problem) -> Tensor:
        """Measure every unit. The call is a function of the problem, as every method is.

        Returns:
            (1, K, F) float64.

        Raises:
            InputError: more units than the budget.
        """
        self.check(problem.layout)
        kinds = (CLEAN, *problem.degradations)
        sums = torch.zeros(len(problem.layout) + 2, len(kinds), _SUMS, dtype=torch.float64)
        key = cache_key(problem, problem.rule)
        for _, image in problem.shard.assigned(problem.probe):
            sums += problem.cache(f"one-unit-{image_key(image, key)}", partial(_image_sums, problem, image, kinds))
        sums = problem.shard.total(sums)
        if self.measure == "loss":
            loss = sums[:, 1:, 0].T
            units, target, baseline = loss[:, :-2], loss[:, -2:-1], loss[:, -1:]
            share = ratio(units - target, baseline - target)
            return (share - others(share.abs(), self.contrast))[None]
        clean, *degraded = (EditSums(*sums[:-2, k, 1:].unbind(1)) for k in range(len(kinds)))
        rows = [isolation(one, [other for other in degraded if other is not one], clean) for one in degraded]
        # Without energy both networks have the same output on this input, so no unit has an effect.
        scores = [torch.where(one.energy == 0, 0.0, row) for one, row in zip(degraded, rows, strict=True)]
        return torch.stack(scores)[None]


@full_precision()
@torch.no_grad()
def _image_sums(problem: Problem, image: PairedImage, kinds: Sequence[str]) -> Tensor:
    """Return (F + 2, inputs, 4) the loss and the three sums of an edit on each input of one image.

    The F + 2 networks are the target with each unit set back, the target and the baseline. The sums are computed tile
    by tile, `compute.points_per_batch` units at once. The progress function is called after each input.
    """
    network, layout, compute = problem.network, problem.layout, problem.compute
    weight = first_floating(problem.target.values())
    form = memory_format(weight, compute.autocast)
    target = in_format(problem.target, form)
    # Buffers are no weights, so the baseline has the target's buffers.
    parameters = {name for name, _ in network.named_parameters() if name in target}
    buffers = {name: value for name, value in target.items() if name not in parameters}
    baseline = target | in_format({name: problem.baseline[name] for name in parameters}, form)

    def restored(tile: Tile, lr: Tensor, weights: State) -> Tensor:
        return tile.core_of_output(compute.output(network, {**weights, **buffers}, lr))

    columns = []
    for kind in kinds:
        whole = image.lr[kind][None].to(weight).contiguous(memory_format=form)
        total = torch.zeros(len(layout) + 2, _SUMS, dtype=torch.float64, device=weight.device)
        for tile in compute.tiles(network, target, whole, image.scale):
            hr, run = tile.core_of_image(image.hr[None].to(weight)), partial(restored, tile, tile.input(whole))
            y_t, y_b = run(target), run(baseline)
            for start in range(0, len(layout), compute.points_per_batch):
                units = range(start, min(start + compute.points_per_batch, len(layout)))
                states = [_set_back(layout, unit, baseline, target) for unit in units]
                if len(states) == 1:
                    outputs = [run(states[0])]
                else:
                    stacked = {name: torch.stack([state[name] for state in states]) for name in parameters}
                    outputs = list(vmap(run)(stacked))
                total[units.start : units.stop] += torch.stack([_sums(output, y_t, y_b, hr) for output in outputs])
            total[-2:] += torch.stack([_sums(end, y_t, y_b, hr) for end in (y_t, y_b)])
        columns.append(total.cpu())
        if problem.progress is not None:
            problem.progress(f"{image.name}, {kind}, {len(layout)} {layout.word} one by one")
    return torch.stack(columns, 1)


def _sums(masked: Tensor, target: Tensor, baseline: Tensor, hr: Tensor) -> Tensor:
    """Return (4,) loss, energy, along, moved of one output (1, 3, sH, sW)."""
    loss = (masked.double() - hr.double()).square().sum()
    return torch.stack([loss, *(value[0] for value in edit_sums(masked, baseline, target))])


def _set_back(layout: FilterLayout, unit: int, baseline: State, target: State) -> State:
    """Return the target with one unit at the baseline's values."""
    chosen = {name: places.to(target[name].device) for name, places in layout.mask([unit]).items() if places.any()}
    return {**target, **{n: torch.where(places, baseline[n], target[n]) for n, places in chosen.items()}}
