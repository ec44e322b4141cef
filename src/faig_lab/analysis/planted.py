"""Planted pairs: do the methods find the filters that alone learned a function (method.md §11)?"""

import logging
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from faig_lab.analysis.bootstrap import Floats
from faig_lab.analysis.curve_tables import number
from faig_lab.analysis.headline import means
from faig_lab.analysis.interventions import mask
from faig_lab.analysis.masking import TableRow
from faig_lab.analysis.subject import Findings, Subject
from faig_lab.attribution import Attribution
from faig_lab.attribution.isolation import EditSums, back, isolation, off, side
from faig_lab.attribution.planted import average_precision, changes, recall_at_count
from faig_lab.data import CLEAN
from faig_lab.networks import State

log = logging.getLogger(__name__)

REST = "rest"
"""All filters that are in no true set."""


def planted(subject: Subject) -> Findings:
    """Compare the scores of every method with the true sets, and mask the true sets themselves.

    Args:
        subject: a planted pair and its attribution.

    Returns:
        Table `planted`: method, draw, degradation, filters, average_precision, recall (the share of the true filters
        among as many with the highest scores), chance (the share of true filters among all). Table
        `planted_isolation`: each true set masked, judged on every input: back, off, side and the set's isolation. Table
        `planted_change`: mean and standard deviation of Σ|θ − θ̄| over the filters of each group, and how many filters
        did not change. Metrics `planted/<method>/average_precision/<degradation>`, `planted/<method>/recall/…` (means
        over draws), `planted/chance/<degradation>` and `planted/isolation/<degradation>`. Nothing if the target is
        not planted.
    """
    if subject.planted is None:
        log.warning("planted: left out, since nobody knows the true filters of this target")
        return Findings({})
    found = _found(subject.attribution, subject.planted)
    edits = _edits(subject, subject.planted)
    changed = _changed(subject, subject.planted)
    metrics = {f"planted/{name}": value for name, value in means(found, "chance", ["degradation"]).items()}
    for measure in ("average_precision", "recall"):
        for name, value in means(found, measure, ("method", "degradation")).items():
            _, method, degradation = name.split("/")
            metrics[f"planted/{method}/{measure}/{degradation}"] = value
    metrics |= {f"planted/{name}": value for name, value in means(edits, "isolation", ["masked"]).items()}
    return Findings({"planted": found, "planted_isolation": edits, "planted_change": changed}, metrics)


def _found(attribution: Attribution, true: Mapping[str, Tensor]) -> list[TableRow]:
    """What every method and draw makes of each true set."""
    total = len(attribution.layout)
    return [
        {
            "method": method,
            "draw": draw,
            "degradation": degradation,
            "filters": len(true[degradation]),
            "average_precision": average_precision(values, true[degradation]),
            "recall": recall_at_count(values, true[degradation]),
            "chance": len(true[degradation]) / total,
        }
        for method, scores in attribution.scores.items()
        for draw, per_degradation in enumerate(scores)
        for degradation, values in zip(attribution.degradations, per_degradation, strict=True)
    ]


def _edits(subject: Subject, true: Mapping[str, Tensor]) -> list[TableRow]:
    """Each true set masked, judged on every degradation and on clean input."""
    rows: list[TableRow] = []
    for masked, filters in true.items():
        state = mask(subject.target, subject.baseline, subject.attribution.layout, filters)
        sums = {name: _sums(subject, state, name) for name in (*true, CLEAN)}
        own, others = sums[masked], [sums[name] for name in true if name != masked]
        whole = number(isolation(own, others, sums[CLEAN]))
        for name, of in sums.items():
            moved = None if name == masked else number(side(of, own))
            parts = {"back": number(back(of)), "off": number(off(of)), "side": moved}
            rows.append({"masked": masked, "degradation": name, **parts, "isolation": whole})
    return rows


def _sums(subject: Subject, state: State, name: str) -> EditSums[Floats]:
    """The sums of one input over all held-out images; NaN for an energy of 0, by which nothing can be divided."""
    energy, along, moved = (values.double().sum().numpy() for values in subject.judge.effect(state, name).sums)
    return EditSums(np.where(energy > 0, energy, np.nan), along, moved)


def _changed(subject: Subject, true: Mapping[str, Tensor]) -> list[TableRow]:
    """How far the filters of each group moved."""
    moved = changes(subject.problem.baseline, subject.problem.target, subject.attribution.layout)
    rows: list[TableRow] = []
    for name, values in _groups(moved, true):
        numbers = {"mean": float(values.mean()), "std": float(values.std(correction=0))}
        rows.append({"group": name, "filters": len(values), **numbers, "unchanged": int((values == 0).sum())})
    return rows


def _groups(values: Tensor, true: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    rest = torch.ones(len(values), dtype=torch.bool)
    for name, filters in true.items():
        rest[filters] = False
        yield name, values[filters]
    yield REST, values[rest]
