"""Masking: discovered filters back to the baseline, evaluated on held-out images; the headline numbers of a run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from faig_lab.attribution import Attribution, count_of, ranking
from faig_lab.data import CLEAN
from faig_lab.evaluation.evaluator import Evaluation, Evaluator
from faig_lab.evaluation.intervals import Floats, number_or_none
from faig_lab.filters import mask
from faig_lab.metrics import METRICS, EditSums, quality

TableRow = dict[str, object]

_NO_GAIN = 1e-6  # dB


@dataclass(frozen=True)
class Edits:
    """How far every masked network moves the outputs, on every input, image by image.

    Attributes:
        inputs: the degradations in their order, then clean, then mixed inputs, as far as there are any.
        sums: (images, rankings, masked, percents, inputs) each; NaN where an input was not evaluated.
        psnr: the same shape, dB.
        target: (images, inputs) dB.
    """

    inputs: tuple[str, ...]
    sums: EditSums[Floats]
    psnr: Floats
    target: Floats


@dataclass(frozen=True)
class Masked:
    """The evaluation of every masked network.

    Attributes:
        rows: method, draw, percent, filters, masked, degradation, psnr, removed, output_difference.
        draws: method → number of draws, in the order of the rankings.
        percents: q, ascending.
        degradations: of masked sets and inputs.
        scenes: (images,) what each held-out image shows.
        psnr: (images, rankings, masked, percents, inputs) dB; the inputs are the degradations.
        baseline: (images, inputs) dB.
        target: (images, inputs) dB.
        edits: the sums that isolation is computed from.
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
    """Mask the top q % of every method, draw and degradation, and evaluate on every degradation and on clean input.

    Args:
        evaluator: held-out images and bounds.
        attribution: the scores.
        percents: q, ascending.
        progress: called after each masked network.
        mixed_at: the percents at which the networks are evaluated on mixed inputs, too.
    """
    layout, names = attribution.layout, attribution.degradations
    always = (*names, *(name for name in evaluator.inputs if name == CLEAN))
    mixed = tuple(name for name in evaluator.inputs if name not in always)
    evaluated: dict[bytes, dict[str, Evaluation]] = {}  # methods may agree on a set
    rows: list[TableRow] = []
    effects: list[dict[str, Evaluation]] = []
    for method, draw, masked, order in rankings(attribution):
        for percent in percents:
            filters = order[: count_of(percent, len(layout))]
            by_input = evaluated.setdefault(filters.sort().values.numpy().tobytes(), {})
            wanted = always + mixed if percent in mixed_at else always
            if missing := [name for name in wanted if name not in by_input]:
                state = mask(evaluator.target, evaluator.baseline, layout, filters)
                for name in missing:
                    by_input[name] = (evaluator.evaluate if name in names else evaluator.effect)(state, name)
            row: TableRow = {"method": method, "draw": draw, "percent": percent, "filters": len(filters)}
            rows += [row | {"masked": masked, "degradation": name} | by_input[name].row() for name in names]
            effects.append({name: by_input[name] for name in wanted})
            if progress is not None:
                progress(f"{method}, {percent:g} %")
    inputs = always + mixed if mixed_at else always
    arrays = np.full((4, len(evaluator.images), len(effects), len(inputs)), np.nan)
    for n, by_input in enumerate(effects):
        for i, name in enumerate(inputs):
            if name in by_input:
                arrays[:, :, n, i] = [part.double().numpy() for part in (by_input[name].psnrs, *by_input[name].sums)]
    psnr, *sums = arrays.reshape(4, len(evaluator.images), -1, len(names), len(percents), len(inputs))
    ends = [evaluator.ends(name) for name in inputs]
    return Masked(
        rows,
        {method: len(scores) for method, scores in attribution.scores.items()},
        tuple(percents),
        names,
        evaluator.scenes,
        psnr[..., : len(names)],
        stack_inputs([end.baseline for end in ends[: len(names)]]),
        stack_inputs([end.target for end in ends[: len(names)]]),
        Edits(inputs, EditSums(*sums), psnr, stack_inputs([end.target for end in ends])),
    )


def stack_inputs(values: Sequence[Tensor]) -> Floats:
    """Stack (images,) of each input to (images, inputs)."""
    return np.stack([value.double().numpy() for value in values], 1)


def restored_share(psnr: Floats, baseline: Floats, target: Floats) -> Floats:
    """Return (PSNR − PSNR(baseline)) / (PSNR(target) − PSNR(baseline)) = 1 − removed share; NaN without a gain.

    Args:
        psnr: (…, inputs) dB.
        baseline: dB, broadcasts.
        target: dB, broadcasts.
    """
    gain = target - baseline
    return (psnr - baseline) / np.where(np.abs(gain) > _NO_GAIN, gain, np.nan)


def own_input(values: Floats, masked: int) -> Floats:
    """Return the value of each masked set on its own input: the axis of the inputs is removed.

    Args:
        values: (…, inputs); the inputs are the degradations of the masked sets, in the same order.
        masked: the axis of the masked sets, a negative number.
    """
    return np.moveaxis(np.diagonal(values, axis1=masked, axis2=-1), -1, masked + 1)


def other_inputs(values: Floats, masked: int) -> Floats:
    """Return the mean of each masked set over the inputs of other degradations; NaN for a single degradation.

    The arguments are those of `own_input`.
    """
    count = values.shape[-1]
    is_own = np.eye(count, dtype=bool).reshape(count, *[1] * (-masked - 2), count)
    total = np.where(is_own, 0, values).sum(-1)
    return total / (count - 1) if count > 1 else np.full_like(total, np.nan)


def masked_networks(attribution: Attribution, percents: Sequence[float]) -> int:
    """Count the networks that `masking` will evaluate."""
    return sum(map(len, attribution.scores.values())) * len(attribution.degradations) * len(percents)


def rankings(attribution: Attribution) -> Iterator[tuple[str, int, str, Tensor]]:
    """Yield (method, draw, degradation, filters by descending score); the draws of a method follow each other."""
    for method, scores in attribution.scores.items():
        for draw, per_degradation in enumerate(scores):
            for degradation, values in zip(attribution.degradations, per_degradation, strict=True):
                yield method, draw, degradation, ranking(values)


def restoration_metrics(rows: Sequence[TableRow]) -> dict[str, float | None]:
    """Return `psnr/<network>/<degradation>`, likewise psnr_y and ssim: means over held-out images.

    Args:
        rows: of `restoration`.
    """
    return means(rows, METRICS, "{column}/{network}/{degradation}")


def masking_metrics(rows: Sequence[TableRow]) -> dict[str, float | None]:
    """Return `removed/<method>/<percent>/<masked>/<degradation>`, `harm/…`, `output_difference/…`: means over draws.

    Args:
        rows: of `masking`, whose removed shares are not clipped.

    Returns:
        The removed share of each draw is clipped to [0, 1], and its excess over 1 is harm. None where the share is not
        defined.
    """
    table = pd.DataFrame(rows)
    raw = table["removed"].astype(float)
    table = table.assign(removed=raw.clip(0, 1), harm=(raw - 1).clip(lower=0))
    columns = ("removed", "harm", "output_difference")
    return means(table, columns, "{column}/{method}/{percent:g}/{masked}/{degradation}")


def comparison_metrics(rows: pd.DataFrame, percent: float) -> dict[str, float | None]:
    """Return `specificity/<method>/<percent>` and the ends of its interval as `specificity_low/…`, `…_high/…`.

    Args:
        rows: of the table `comparison`.
        percent: the percent of the metrics.
    """
    columns = ("specificity", "specificity_low", "specificity_high")
    return means(rows[rows["percent"] == percent], columns, "{column}/{method}/{percent:g}")


def means(
    rows: pd.DataFrame | Sequence[TableRow], columns: str | Sequence[str], metric: str
) -> dict[str, float | None]:
    """Average columns over the rows that have the same metric.

    Args:
        rows: of a table.
        columns: one or more columns of numbers; None and NaN are missing.
        metric: the name with columns in braces, e.g. "{column}/{method}/{percent:g}"; `column` is the averaged column.

    Returns:
        The name of each metric, filled in → the mean; None where a number is missing.
    """
    table, found = pd.DataFrame(rows), dict[str, float | None]()
    cells = table.to_dict("records")
    for column in ([columns] if isinstance(columns, str) else columns) if cells else ():
        metrics = pd.Series([metric.format_map(row | {"column": column}) for row in cells], table.index)
        groups = table[column].astype(float).groupby(metrics, sort=False)
        found |= {str(name): number_or_none(values.mean(skipna=False)) for name, values in groups}
    return found


def restoration(evaluator: Evaluator) -> list[TableRow]:
    """Measure bicubic upscaling, baseline and target on every held-out image with every input."""
    rows: list[TableRow] = []
    for degradation in evaluator.inputs:
        ends = evaluator.ends(degradation)
        outputs = {
            "bicubic": evaluator.upscaled(degradation),
            "baseline": ends.baseline_outputs,
            "target": ends.target_outputs,
        }
        for network, results in outputs.items():
            row: TableRow = {"network": network, "degradation": degradation}
            rows += [row | cells for cells in quality_rows(evaluator, results)]
    return rows


def quality_rows(evaluator: Evaluator, outputs: Sequence[Tensor]) -> list[TableRow]:
    """Return image, psnr, psnr_y and ssim of every restored held-out image.

    Args:
        evaluator: the held-out images.
        outputs: (3, H, W) each, not rounded.
    """

    def measures(output: Tensor, hr: Tensor) -> list[Tensor]:
        values = quality(output, hr, evaluator.scale)
        return [values[metric] for metric in METRICS]

    columns = [values.tolist() for values in evaluator.measure(measures, outputs)]
    return [
        {"image": image.name} | dict(zip(METRICS, values, strict=True))
        for image, *values in zip(evaluator.images, *columns, strict=True)
    ]
