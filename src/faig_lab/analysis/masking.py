"""The masking study: discovered filters back to the baseline, judged on held-out images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from faig_lab.analysis.areas import over_draws
from faig_lab.analysis.bootstrap import Floats
from faig_lab.analysis.interventions import State, mask, removed_share
from faig_lab.analysis.output_difference import gradient_map, map_difference
from faig_lab.attribution import Attribution, count_of, ranking
from faig_lab.data import PairedImage
from faig_lab.training import as_image, bicubic, psnr, quality, restore

TableRow = dict[str, object]


class Ends(NamedTuple):
    """Baseline and target with one input degradation.

    Attributes:
        baseline: (images,) PSNR in dB.
        target: the same.
        outputs: the target's outputs.
        maps: their gradient maps (1, 1, H, W).
    """

    baseline: Tensor
    target: Tensor
    outputs: list[Tensor]
    maps: list[Tensor]


class Judgement(NamedTuple):
    """An intervention with one input degradation.

    Attributes:
        psnrs: (images,) dB.
        removed: removed share, None where there is nothing to remove.
        output_difference: mean over images.
    """

    psnrs: Tensor
    removed: float | None
    output_difference: float

    def row(self) -> TableRow:
        """What a table says of it: means over images."""
        return {
            "psnr": _mean(self.psnrs),
            "removed": self.removed,
            "output_difference": self.output_difference,
        }


@dataclass(frozen=True)
class Masked:
    """Every masked network, judged.

    Attributes:
        rows: method, draw, percent, filters, masked, degradation, psnr, removed, output_difference.
        draws: method → number of draws, in the order of the rankings.
        percents: q, ascending.
        degradations: of masked sets and inputs.
        scenes: (images,) what each held-out image shows.
        psnr: (images, rankings, masked, percents, inputs) dB.
        baseline: (images, inputs) dB.
        target: (images, inputs) dB.
    """

    rows: list[TableRow]
    draws: dict[str, int]
    percents: tuple[float, ...]
    degradations: tuple[str, ...]
    scenes: tuple[str, ...]
    psnr: Floats
    baseline: Floats
    target: Floats

    def over_draws(self) -> Floats:
        """(images, methods, masked, percents, inputs) PSNR, mean over each method's draws."""
        return over_draws(self.psnr, self.draws, 1, np.mean)

    def means(self) -> tuple[Floats, Floats, Floats]:
        """Means over images of `over_draws`, `baseline` and `target`."""
        return self.over_draws().mean(0), self.baseline.mean(0), self.target.mean(0)


@dataclass(frozen=True)
class Judge:
    """Held-out images and the two networks that bound what an intervention can do.

    Args:
        network: the module; its own weights do not matter.
        baseline: θ̄ on the device to compute on.
        target: θ.
        images: held-out images.
        scale: pixels left out of every measure on each side.
        autocast: lower precision for the networks, or None.
    """

    network: nn.Module
    baseline: State
    target: State
    images: tuple[PairedImage, ...]
    scale: int
    autocast: torch.dtype | None = None

    def restore(self, state: State, degradation: str) -> list[Tensor]:
        """Raw outputs (3, H, W) for every held-out image."""
        return restore(self.network, state, self.images, degradation, self.autocast)

    def outputs(self, state: State, degradation: str) -> list[Tensor]:
        """Restored held-out images (3, H, W), clipped and rounded to 8 bits; the target's are not computed again."""
        if state is self.target and degradation in self._ends:
            return self._ends[degradation].outputs
        return [as_image(output) for output in self.restore(state, degradation)]

    def psnrs(self, outputs: Sequence[Tensor]) -> Tensor:
        """(images,) PSNR of each restored held-out image (dB)."""
        return torch.cat([psnr(o[None], i.hr[None], self.scale) for o, i in zip(outputs, self.images, strict=True)])

    def psnr(self, outputs: Sequence[Tensor]) -> float:
        """PSNR per image, then the mean (dB)."""
        return _mean(self.psnrs(outputs))

    @property
    def scenes(self) -> tuple[str, ...]:
        """(images,) what each image shows; images of one scene are not independent."""
        return tuple(image.scene or image.name for image in self.images)

    @cached_property
    def _ends(self) -> dict[str, Ends]:
        return {}

    def ends(self, degradation: str) -> Ends:
        """What the two networks make of the held-out images; computed once."""
        if degradation not in self._ends:
            outputs = self.outputs(self.target, degradation)
            baseline = self.psnrs(self.outputs(self.baseline, degradation))
            maps = [gradient_map(output[None]) for output in outputs]
            self._ends[degradation] = Ends(baseline, self.psnrs(outputs), outputs, maps)
        return self._ends[degradation]

    def bounds(self, degradation: str) -> tuple[float, float, list[Tensor]]:
        """PSNR of baseline and target (means over images), and the target's outputs."""
        ends = self.ends(degradation)
        return _mean(ends.baseline), _mean(ends.target), ends.outputs

    def judge(self, state: State, degradation: str) -> Judgement:
        """What an intervention does to the restoration of one input degradation."""
        masked = self.outputs(state, degradation)
        maps = self.ends(degradation).maps
        differences = [map_difference(gradient_map(m[None]), t) for m, t in zip(masked, maps, strict=True)]
        baseline, target, _ = self.bounds(degradation)
        psnrs = self.psnrs(masked)
        removed = removed_share(target, _mean(psnrs), baseline)
        return Judgement(psnrs, removed, float(torch.cat(differences).mean()))


def restoration(judge: Judge) -> list[TableRow]:
    """Quality of bicubic upscaling, baseline and target on every held-out image with every input."""
    rows: list[TableRow] = []
    states: dict[str, State] = {"baseline": judge.baseline, "target": judge.target}
    for degradation in judge.images[0].lr:
        upscaled = [bicubic(image.lr[degradation][None], judge.scale)[0] for image in judge.images]
        outputs = {"bicubic": upscaled}
        outputs |= {n: judge.restore(s, degradation) for n, s in states.items()}
        for name, results in outputs.items():
            for image, output in zip(judge.images, results, strict=True):
                values = quality(output[None], image.hr[None], judge.scale)
                row = {"network": name, "degradation": degradation, "image": image.name}
                rows.append(row | {metric: float(value) for metric, value in values.items()})
    return rows


def masking(
    judge: Judge,
    attribution: Attribution,
    percents: Sequence[float],
    progress: Callable[[str], None] | None = None,
) -> Masked:
    """Mask the top q % of every method, draw and degradation; judge each on every input degradation.

    Args:
        judge: held-out images and bounds.
        attribution: the scores.
        percents: q, ascending.
        progress: told after each masked network.
    """
    layout, names = attribution.layout, attribution.degradations
    judged: dict[bytes, dict[str, Judgement]] = {}  # methods may agree on a set; it is judged once
    rows: list[TableRow] = []
    psnrs: list[Floats] = []
    for method, draw, masked, order in rankings(attribution):
        for percent in percents:
            filters = order[: count_of(percent, len(layout))]
            key = filters.sort().values.numpy().tobytes()
            if key not in judged:
                state = mask(judge.target, judge.baseline, layout, filters)
                judged[key] = {name: judge.judge(state, name) for name in names}
            what: TableRow = {"method": method, "draw": draw, "percent": percent, "filters": len(filters)}
            rows += [what | {"masked": masked, "degradation": name} | judged[key][name].row() for name in names]
            psnrs.append(_columns([judged[key][name].psnrs for name in names]))
            if progress is not None:
                progress(f"{method}, {percent:g} %")
    ends = [judge.ends(name) for name in names]
    return Masked(
        rows,
        {method: len(scores) for method, scores in attribution.scores.items()},
        tuple(percents),
        names,
        judge.scenes,
        np.stack(psnrs, 1).reshape(len(judge.images), -1, len(names), len(percents), len(names)),
        _columns([end.baseline for end in ends]),
        _columns([end.target for end in ends]),
    )


def _columns(values: Sequence[Tensor]) -> Floats:
    """(images,) of each input → (images, inputs)."""
    return np.stack([value.double().numpy() for value in values], 1)


def _mean(psnrs: Tensor) -> float:
    """Mean over images, in double precision."""
    return float(psnrs.double().mean())


def masked_networks(attribution: Attribution, percents: Sequence[float]) -> int:
    """How many networks `masking` will look at."""
    return sum(1 for _ in rankings(attribution)) * len(percents)


def rankings(attribution: Attribution) -> Iterator[tuple[str, int, str, Tensor]]:
    """(method, draw, degradation, filters by descending score) of every method, its draws after each other."""
    for method, scores in attribution.scores.items():
        for draw, per_degradation in enumerate(scores):
            for degradation, values in zip(attribution.degradations, per_degradation, strict=True):
                yield method, draw, degradation, ranking(values)
