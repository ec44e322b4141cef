"""Has a network discriminative filters outside of its predictor, and what does the predictor carry?"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from faig_lab.analysis.interventions import clipped, mask, removed_share
from faig_lab.analysis.masking import TableRow
from faig_lab.analysis.subject import Subject
from faig_lab.attribution import Attribution, Problem, discovered
from faig_lab.networks import SECOND_BRANCH, FilterLayout, State


def restoring(scores: Mapping[str, Tensor], problem: Problem) -> Attribution:
    """The scores (1, K, F) of the filters outside of the predictor, with a layout of these alone."""
    layout = problem.layout
    inside = torch.tensor([not layer.name.startswith(SECOND_BRANCH) for layer in layout.layers])
    restoring = FilterLayout(tuple(layer for layer, keep in zip(layout.layers, inside, strict=True) if keep))
    kept = inside[layout.layer_of()]
    return Attribution({n: values[..., kept] for n, values in scores.items()}, problem.degradations, restoring)


def discriminative(study: Subject) -> Iterator[TableRow]:
    """Own and other removed share (clipped) of the discovered filters at the headline percent."""
    attribution, judge = study.attribution, study.judge
    for method, scores in attribution.scores.items():
        for masked, values in zip(attribution.degradations, scores[0], strict=True):
            filters = discovered(values, study.headline)
            removed = _removed(study, mask(judge.target, judge.baseline, attribution.layout, filters))
            others = [clipped(share) for name, share in removed.items() if name != masked]
            own, other = clipped(removed[masked]), _mean(others)
            yield {
                "method": method,
                "percent": study.headline,
                "filters": len(filters),
                "masked": masked,
                "own": own,
                "other": other,
                "specificity": None if own is None or other is None else own - other,
            }


def without_predictor(study: Subject) -> Iterator[TableRow]:
    """What is lost when the whole predictor goes back to the baseline's values; nothing without a predictor."""
    judge = study.judge
    if any(name.startswith(SECOND_BRANCH) for name in judge.target):
        state = {n: judge.baseline[n] if n.startswith(SECOND_BRANCH) else v for n, v in judge.target.items()}
        for degradation, removed in _removed(study, state).items():
            yield {"degradation": degradation, "removed": removed}


def _removed(study: Subject, state: State) -> dict[str, float | None]:
    """Degradation → removed share of an intervention."""
    found = {}
    for name in study.problem.degradations:
        baseline, target, _ = study.judge.bounds(name)
        found[name] = removed_share(target, study.judge.psnr(study.judge.outputs(state, name)), baseline)
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None for nothing, or where a value is missing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
