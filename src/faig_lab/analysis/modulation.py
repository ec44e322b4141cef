"""Modulation: discovered filters at θ̄ + λ(θ − θ̄), λ from masked (0) through the target (1) to beyond it."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from faig_lab.analysis.curve_tables import number
from faig_lab.analysis.examples import Example, images_to_show
from faig_lab.analysis.interventions import modulate, removed_share
from faig_lab.analysis.judge import mean, pooled
from faig_lab.analysis.masking import TableRow
from faig_lab.analysis.subject import Findings, Subject
from faig_lab.attribution import discovered
from faig_lab.attribution.isolation import back
from faig_lab.data import CLEAN
from faig_lab.networks import State
from faig_lab.training import as_image, psnr

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)

Restored = dict[tuple[str, float, str], list[Tensor]]
"""(modulated set, λ, input degradation) → restored held-out images."""


def modulation(
    subject: Subject,
    strengths: Sequence[float] = STRENGTHS,
    pictured: Sequence[float] = STRENGTHS,
    method: str | None = None,
    percent: Annotated[float, Field(gt=0, le=100)] | None = None,
    image: Annotated[int, Field(ge=0)] | None = None,
) -> Findings:
    """Sweep λ on the discovered filters of each degradation, and on all of them at once.

    Args:
        subject: what is analysed.
        strengths: λ, in the order of the table; 0 is masked, 1 the target.
        pictured: of which of them pictures are kept.
        method: whose filters; None is the run's own.
        percent: how many filters; None is the headline percent.
        image: which held-out image is pictured, counted from 0; beyond the last one it starts again. None is the first
            colour photograph.

    Returns:
        Table `modulation`: method, percent, filters, modulated, strength, degradation (also "clean"), psnr, removed,
        back (0 = the target's output, 1 = the baseline's); metrics `best_strength/<modulated>/<degradation>`; one
        example per degradation, `restored` by `<modulated>/<λ>`.
    """
    chosen, q = method or subject.method, percent or subject.headline
    sets = discovered_sets(subject, chosen, q)
    rows: list[TableRow] = []
    kept: Restored = {}
    with subject.bar("modulation", len(sets) * len(strengths)) as advance:
        for name, filters in sets.items():
            for strength in strengths:
                what: TableRow = {"method": chosen, "percent": q, "filters": len(filters), "modulated": name}
                for degradation, outputs in _restored(subject, filters, strength):
                    rows.append(what | {"strength": float(strength)} | _judged(subject, degradation, outputs))
                    if strength in pictured and degradation != CLEAN:
                        kept[name, strength, degradation] = [as_image(output) for output in outputs]
                advance(f"{name}, λ = {strength:g}")
    return Findings({"modulation": rows}, _best_strengths(rows), _examples(subject, kept, image))


def discovered_sets(subject: Subject, method: str, percent: float) -> dict[str, Tensor]:
    """The discovered filters of each degradation, and with several of all together as `<a>+<b>`."""
    degradations = subject.attribution.degradations
    scores = subject.attribution.scores[method][0]
    sets = {name: discovered(row, percent) for name, row in zip(degradations, scores, strict=True)}
    return sets if len(sets) == 1 else sets | {"+".join(degradations): torch.unique(torch.cat(list(sets.values())))}


def _restored(subject: Subject, filters: Tensor, strength: float) -> Iterator[tuple[str, list[Tensor]]]:
    """Every degradation and clean input, and what the modulated network makes of the held-out images, not rounded."""
    state: State = subject.target  # with λ = 1, whatever the filters are
    if strength != 1:
        state = modulate(subject.target, subject.baseline, subject.attribution.layout, filters, strength)
    clean = [name for name in subject.judge.inputs if name == CLEAN]
    for name in (*subject.attribution.degradations, *clean):
        yield name, subject.judge.raw(state, name)


def _judged(subject: Subject, name: str, outputs: Sequence[Tensor]) -> TableRow:
    """PSNR, removed share (None on clean input, where nothing is to be removed), and the way back to the baseline."""
    baseline, target, _ = subject.judge.bounds(name)
    effect = subject.judge.effect_of(outputs, name)
    value = mean(effect.psnrs)
    return {
        "degradation": name,
        "psnr": value,
        "removed": None if name == CLEAN else removed_share(target, value, baseline),
        "back": number(back(pooled(effect))),
    }


def _best_strengths(rows: Sequence[TableRow]) -> dict[str, float | None]:
    """The λ with the highest PSNR; the first of equal ones."""
    best: dict[str, TableRow] = {}
    for row in (row for row in rows if row["degradation"] != CLEAN):
        key = f"best_strength/{row['modulated']}/{row['degradation']}"
        if key not in best or float(str(row["psnr"])) > float(str(best[key]["psnr"])):
            best[key] = row
    return {key: float(str(row["strength"])) for key, row in best.items()}


def _examples(subject: Subject, kept: Restored, chosen: int | None) -> tuple[Example, ...]:
    """One held-out image with each degradation, restored at every pictured λ."""
    images = subject.data.held_out
    position = images_to_show(images)[0] if chosen is None else chosen % len(images)
    image = images[position]
    found = []
    for degradation in subject.attribution.degradations:
        restored = {
            f"{name}/{strength:g}": outputs[position]
            for (name, strength, shown), outputs in kept.items()
            if shown == degradation
        }
        values = {n: float(psnr(o[None], image.hr[None], subject.judge.scale)) for n, o in restored.items()}
        found.append(Example(image.name, degradation, image.lr[degradation], image.hr, restored, values))
    return tuple(found)
