"""Masking: discovered filters back to the baseline, evaluated on held-out images; the headline numbers of a run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from torch import Tensor

from faig_lab.attribution import Attribution, count_of, ranking
from faig_lab.data import CLEAN
from faig_lab.evaluation.evaluator import Evaluation, Evaluator
from faig_lab.evaluation.intervals import Floats
from faig_lab.filters import mask
from faig_lab.metrics import METRICS, EditSums, bicubic, quality
from faig_lab.removed_shares import clipped, harm

TableRow = dict[str, object]


@dataclass(frozen=True)
class Edits:
    """How far every masked network moves the outputs, on every input, image by image.

    Attributes:
        inputs: the degradations in their order, then clean, then mixed inputs, as far as there are any.
        sums: (images, rankings, masked, percents, inputs) each; NaN where an input was not judged.
        psnr: the same shape, dB.
        target: (images, inputs) dB.
    """

    inputs: tuple[str, ...]
    sums: EditSums[Floats]
    psnr: Floats
    target: Floats


@dataclass(frozen=True)
class Masked:
    """Every masked network, judged.

    Attributes:
        rows: method, draw, percent, filters, masked, degradation, psnr, removed, output_difference.
        draws: method → number of draws, in the order of the rankings.
        percents: q, ascending.
        degradations: of masked sets and inputs.
        scenes: (images,) what each held-out image shows.
        psnr: (images, rankings, masked, percents, inputs) dB; the inputs are the degradations.
        baseline: (images, inputs) dB.
        target: (images, inputs) dB.
        edits: what isolation is computed from.
    """

    rows: list[TableRow]
    draws: dict[str, int]
    percents: tuple[float, ...]
    degradations: tuple[str, ...]
    scenes: tuple[str, ...]
    psnr: Floats
    baseline: Floats
    target: Floats
    edits: Edits

    def means(self) -> tuple[Floats, Floats, Floats]:
        """Means of `psnr`, `baseline` and `target` over the images."""
        return self.psnr.mean(0), self.baseline.mean(0), self.target.mean(0)


def masking(
    evaluator: Evaluator,
    attribution: Attribution,
    percents: Sequence[float],
    progress: Callable[[str], None] | None = None,
    *,
    mixed_at: Sequence[float] = (),
) -> Masked:
    """Mask the top q % of every method, draw and degradation; judge each on every degradation and on clean input.

    Args:
        evaluator: held-out images and bounds.
        attribution: the scores.
        percents: q, ascending.
        progress: told after each masked network.
        mixed_at: those of the percents at which the networks are judged on mixed inputs, too.
    """
    layout, names = attribution.layout, attribution.degradations
    always = (*names, *(name for name in evaluator.inputs if name == CLEAN))
    mixed = tuple(name for name in evaluator.inputs if name not in always)
    judged: dict[bytes, dict[str, Evaluation]] = {}  # methods may agree on a set; it is judged once
    rows: list[TableRow] = []
    effects: list[dict[str, Evaluation]] = []
    for method, draw, masked, order in rankings(attribution):
        for percent in percents:
            filters = order[: count_of(percent, len(layout))]
            found = judged.setdefault(filters.sort().values.numpy().tobytes(), {})
            shown = always + mixed if percent in mixed_at else always
            if missing := [name for name in shown if name not in found]:
                state = mask(evaluator.target, evaluator.baseline, layout, filters)
                found |= {
                    n: evaluator.evaluate(state, n) if n in names else evaluator.effect(state, n) for n in missing
                }
            what: TableRow = {"method": method, "draw": draw, "percent": percent, "filters": len(filters)}
            rows += [what | {"masked": masked, "degradation": name} | found[name].row() for name in names]
            effects.append({name: found[name] for name in shown})
            if progress is not None:
                progress(f"{method}, {percent:g} %")
    ends = [evaluator.ends(name) for name in names]
    inputs = always + mixed if mixed_at else always
    edits = _edits(evaluator, effects, inputs, (-1, len(names), len(percents)))
    return Masked(
        rows,
        {method: len(scores) for method, scores in attribution.scores.items()},
        tuple(percents),
        names,
        evaluator.scenes,
        edits.psnr[..., : len(names)],
        _columns([end.baseline for end in ends]),
        _columns([end.target for end in ends]),
        edits,
    )


def _edits(
    evaluator: Evaluator, effects: Sequence[Mapping[str, Evaluation]], inputs: tuple[str, ...], shape: tuple[int, ...]
) -> Edits:
    """PSNR and sums of every masked network as arrays; `shape` is rankings, masked, percents."""
    psnr, energy, along, moved = np.full((4, len(evaluator.images), len(effects), len(inputs)), np.nan)
    for n, found in enumerate(effects):
        for i, name in enumerate(inputs):
            if name in found:
                parts = (found[name].psnrs, *found[name].sums)
                for array, part in zip((psnr, energy, along, moved), parts, strict=True):
                    array[:, n, i] = part.double().numpy()
    whole = (len(evaluator.images), *shape, len(inputs))
    sums = EditSums(*(array.reshape(whole) for array in (energy, along, moved)))
    return Edits(inputs, sums, psnr.reshape(whole), _columns([evaluator.ends(name).target for name in inputs]))


def _columns(values: Sequence[Tensor]) -> Floats:
    """(images,) of each input → (images, inputs)."""
    return np.stack([value.double().numpy() for value in values], 1)


def masked_networks(attribution: Attribution, percents: Sequence[float]) -> int:
    """How many networks `masking` will look at."""
    return sum(1 for _ in rankings(attribution)) * len(percents)


def rankings(attribution: Attribution) -> Iterator[tuple[str, int, str, Tensor]]:
    """(method, draw, degradation, filters by descending score) of every method, its draws after each other."""
    for method, scores in attribution.scores.items():
        for draw, per_degradation in enumerate(scores):
            for degradation, values in zip(attribution.degradations, per_degradation, strict=True):
                yield method, draw, degradation, ranking(values)


def restoration_metrics(rows: Sequence[TableRow]) -> dict[str, float | None]:
    """`psnr/<network>/<degradation>`, likewise psnr_y and ssim: means over held-out images.

    Args:
        rows: of `restoration`.
    """
    metrics: dict[str, float | None] = {}
    for metric in METRICS:
        metrics |= means(rows, metric, ("network", "degradation"))
    return metrics


def masking_metrics(rows: Sequence[TableRow]) -> dict[str, float | None]:
    """`removed/<method>/<percent>/<masked>/<degradation>`, `harm/…` and `output_difference/…`: means over draws.

    Args:
        rows: of `masking`, whose removed shares are not clipped.

    Returns:
        The removed share of each draw is clipped to [0, 1], and its excess over 1 is harm. None where it is not
        defined.
    """
    keys = ("method", "percent", "masked", "degradation")
    raw = cast("list[float | None]", [row["removed"] for row in rows])
    shares = [row | {"removed": clipped(s), "harm": harm(s)} for row, s in zip(rows, raw, strict=True)]
    removed, excess = means(shares, "removed", keys), means(shares, "harm", keys)
    return removed | excess | means(rows, "output_difference", keys)


def comparison_metrics(rows: Sequence[TableRow], percent: float) -> dict[str, float | None]:
    """`specificity/<method>/<percent>` and the ends of its interval, `specificity_low/…` and `specificity_high/…`.

    Args:
        rows: of the table `comparison`.
        percent: the one that is told.
    """
    columns = ("specificity", "specificity_low", "specificity_high")
    here = [row for row in rows if row["percent"] == percent]
    return {key: value for column in columns for key, value in means(here, column, ("method", "percent")).items()}


def means(rows: Sequence[TableRow], value: str, keys: Sequence[str]) -> dict[str, float | None]:
    """`<value>/<key>/<key>…` → mean of `value` over all rows that share the keys; None where one is missing."""
    groups: dict[str, list[object]] = {}
    for row in rows:
        parts = [f"{row[key]:g}" if key == "percent" else str(row[key]) for key in keys]
        groups.setdefault("/".join([value, *parts]), []).append(row[value])
    return {name: None if None in values else sum(values) / len(values) for name, values in groups.items()}  # type: ignore[arg-type]


def restoration(evaluator: Evaluator) -> list[TableRow]:
    """Quality of bicubic upscaling, baseline and target on every held-out image with every input."""
    rows: list[TableRow] = []
    for degradation in evaluator.images[0].lr:
        ends = evaluator.ends(degradation)
        outputs = {
            "bicubic": [bicubic(image.lr[degradation][None], evaluator.scale)[0] for image in evaluator.images],
            "baseline": ends.baseline_outputs,
            "target": ends.target_outputs,
        }
        for name, results in outputs.items():
            for image, output in zip(evaluator.images, results, strict=True):
                values = quality(output[None], image.hr[None], evaluator.scale)
                row = {"network": name, "degradation": degradation, "image": image.name}
                rows.append(row | {metric: float(value) for metric, value in values.items()})
    return rows
