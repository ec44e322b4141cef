"""The masking study: discovered filters back to the baseline, judged on held-out images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from faig_lab.analysis.interventions import State, mask, removed_share
from faig_lab.analysis.output_difference import output_difference
from faig_lab.attribution import Attribution, count_of, ranking
from faig_lab.data import PairedImage
from faig_lab.networks import FilterLayout
from faig_lab.training import as_image, bicubic, psnr, quality, restore

TableRow = dict[str, object]


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
        """Restored held-out images (3, H, W), clipped and rounded to 8 bits."""
        return [as_image(output) for output in self.restore(state, degradation)]

    def psnrs(self, outputs: Sequence[Tensor]) -> Tensor:
        """(images,) PSNR of each restored held-out image (dB)."""
        return torch.cat([psnr(o[None], i.hr[None], self.scale) for o, i in zip(outputs, self.images, strict=True)])

    def psnr(self, outputs: Sequence[Tensor]) -> float:
        """PSNR per image, then the mean (dB)."""
        return float(self.psnrs(outputs).mean())

    @cached_property
    def _bounds(self) -> dict[str, tuple[float, float, list[Tensor]]]:
        return {}

    def bounds(self, degradation: str) -> tuple[float, float, list[Tensor]]:
        """PSNR of baseline and target, and the target's outputs; computed once."""
        if degradation not in self._bounds:
            outputs = self.outputs(self.target, degradation)
            baseline = self.psnr(self.outputs(self.baseline, degradation))
            self._bounds[degradation] = (baseline, self.psnr(outputs), outputs)
        return self._bounds[degradation]

    def judge(self, state: State, degradation: str) -> TableRow:
        """PSNR, removed share and output difference of an intervention for one input degradation."""
        baseline, target, outputs = self.bounds(degradation)
        masked = self.outputs(state, degradation)
        value = self.psnr(masked)
        differences = [output_difference(m[None], t[None]) for m, t in zip(masked, outputs, strict=True)]
        return {
            "psnr": value,
            "removed": removed_share(target, value, baseline),
            "output_difference": float(torch.cat(differences).mean()),
        }


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
) -> list[TableRow]:
    """Mask the top q % of every method, draw and degradation; judge each on every input degradation.

    Args:
        judge: held-out images and bounds.
        attribution: the scores.
        percents: q, ascending.
        progress: told after each masked network.

    Returns:
        Rows of method, draw, percent, filters, masked, degradation, psnr, removed, output_difference.
    """
    layout = attribution.layout
    judged: dict[bytes, dict[str, TableRow]] = {}  # methods may agree on a set; it is judged once
    rows: list[TableRow] = []
    for method, draw, masked, order in _rankings(attribution):
        for percent in percents:
            filters = order[: count_of(percent, len(layout))]
            key = filters.sort().values.numpy().tobytes()
            if key not in judged:
                state = mask(judge.target, judge.baseline, layout, filters)
                judged[key] = {name: judge.judge(state, name) for name in attribution.degradations}
            what: TableRow = {"method": method, "draw": draw, "percent": percent, "filters": len(filters)}
            for degradation, result in judged[key].items():
                rows.append(what | {"masked": masked, "degradation": degradation} | result)
            if progress is not None:
                progress(f"{method}, {percent:g} %")
    return rows


def masked_networks(attribution: Attribution, percents: Sequence[float]) -> int:
    """How many networks `masking` will look at."""
    return sum(1 for _ in _rankings(attribution)) * len(percents)


def _rankings(attribution: Attribution) -> Iterator[tuple[str, int, str, Tensor]]:
    """Every method's and draw's ranking for every degradation."""
    for method, scores in attribution.scores.items():
        for draw, per_degradation in enumerate(scores):
            for degradation, values in zip(attribution.degradations, per_degradation, strict=True):
                yield method, draw, degradation, ranking(values)


def specificity(rows: Sequence[Mapping[str, object]]) -> list[TableRow]:
    """Own and other removed share of every masked set, and their difference; mean and spread over draws.

    Args:
        rows: of `masking`.

    Returns:
        Rows of method, percent, masked, own, other, specificity, specificity_std. `other` is the mean over
        the other degradations; values are None where a share is not defined, or there is no other.
    """
    sets: dict[tuple[object, object, object], dict[object, dict[object, float | None]]] = {}
    for row in rows:
        key = (row["method"], row["percent"], row["masked"])
        removed = row["removed"]
        assert removed is None or isinstance(removed, float)
        sets.setdefault(key, {}).setdefault(row["draw"], {})[row["degradation"]] = removed
    result: list[TableRow] = []
    for (method, percent, masked), draws in sets.items():
        own = [shares[masked] for shares in draws.values()]
        other = [_mean([share for name, share in shares.items() if name != masked]) for shares in draws.values()]
        gaps = [None if a is None or b is None else a - b for a, b in zip(own, other, strict=True)]
        result.append(
            {
                "method": method,
                "percent": percent,
                "masked": masked,
                "own": _mean(own),
                "other": _mean(other),
                "specificity": _mean(gaps),
                "specificity_std": _spread(gaps),
            }
        )
    return result


def distribution(attribution: Attribution, percents: Sequence[float]) -> list[TableRow]:
    """How many filters of each layer are discovered, by every method and for every degradation.

    Methods with several draws are left out: their distribution is the layers' sizes.

    Returns:
        Rows of method, degradation, percent, layer, depth, filters, discovered, share.
    """
    layout: FilterLayout = attribution.layout
    layers = layout.layer_of()
    rows: list[TableRow] = []
    for method, draw, degradation, order in _rankings(attribution):
        if draw or len(attribution.scores[method]) > 1:
            continue
        for percent in percents:
            chosen = order[: count_of(percent, len(layout))]
            counts = torch.bincount(layers[chosen], minlength=len(layout.layers)).tolist()
            for depth, (layer, count) in enumerate(zip(layout.layers, counts, strict=True)):
                rows.append(
                    {
                        "method": method,
                        "degradation": degradation,
                        "percent": percent,
                        "layer": layer.name.removesuffix(".weight"),
                        "depth": depth,
                        "filters": layer.filters,
                        "discovered": count,
                        "share": count / layer.filters,
                    }
                )
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None for nothing, or where a value is missing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _spread(values: Sequence[float | None]) -> float | None:
    """The sample standard deviation; 0 for one value, None where a value is missing."""
    if not values or any(value is None for value in values):
        return None
    return float(torch.tensor(values, dtype=torch.float64).std(correction=1)) if len(values) > 1 else 0.0
