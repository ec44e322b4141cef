"""Task vectors: what training on one degradation changes, added to the baseline and taken away from the target.

For each degradation D a target θ_D is trained from the run's baseline on D alone. Its task vector is τ_D = θ_D − θ̄
(Ilharco and others, Editing Models with Task Arithmetic, ICLR 2023). Added: θ̄ + λ Σ τ_D. Negated: θ − λ τ_D, where θ is
the run's target, which learned all degradations.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Annotated

import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from faig_lab.attribution import discovered
from faig_lab.attribution.scores import contrast
from faig_lab.data import CLEAN
from faig_lab.evaluation.evaluator import Evaluator, convert, mean
from faig_lab.evaluation.masking import TableRow, means
from faig_lab.filters import FilterLayout, State
from faig_lab.metrics import as_image
from faig_lab.plotting.charts import guides, legend_above, line, share_axis
from faig_lab.plotting.style import INK, drawing, input_colour, new_figure
from faig_lab.plotting.words import ABSENT, decimal, degraded, listed, removal, sentence_case, signed
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import groups, mean_of, numbers, select, unique
from faig_lab.studies.context import StudyContext, StudyResult, parts_of_edit, without_photographs
from faig_lab.studies.planted import changes
from faig_lab.studies.section import Section, Table

SINGLE, ADDED, NEGATED, BLIND = "single", "added", "negated", "target"
"""θ_D; θ̄ + λ Σ τ_D; θ − λ τ_D; and the run's target, which learned all degradations."""
ALL = "all"
"""The row of all layers together."""


def task_vectors(
    context: StudyContext,
    strengths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    iterations: Annotated[int, Field(ge=1)] | None = None,
) -> StudyResult:
    """Train a target for each degradation alone, and add and negate the differences to the baseline.

    Args:
        context: the two networks, their attribution and the images; `context.trainer` trains, or takes networks from
            the store.
        strengths: λ of added and negated vectors; 1 is always among them.
        iterations: of each training; None is the schedule of the run's target.

    Returns:
        Table `task_vectors`: edit ("single": a target of one degradation, "added", "negated", "target": the run's),
        vector, strength, judged (the function that the edit should bring or remove), input, psnr, gain over the
        baseline in dB, back (0 = the start of the edit, 1 = its goal), off, side, isolation. Table
        `task_vectors_layers`: layer (also "all"), depth, filters, conflict (share of the magnitude in weights whose
        vectors differ in sign), opposite (share of the weights), cosine (mean over pairs of vectors), cosine_target (of
        the sum with the target's change). Table `task_vectors_overlap`: method, degradation, percent, filters, overlap
        (share of the discovered filters among as many that the vector changed most, compared with the other vectors),
        chance, magnitude (share of the vector in the discovered filters), conflict (within these filters). Metrics
        `task_vectors/gain/<edit>/<vector>/<input>` and `task_vectors/isolation/<edit>/<vector>/<judged>` at λ = 1,
        `task_vectors/conflict`, `task_vectors/cosine`, `task_vectors/overlap/<method>/<degradation>`. Nothing for data
        without photographs to train on.

    Raises:
        UserError: a training diverged.
    """
    if context.trainer is None:
        return without_photographs("task_vectors")
    singles: dict[str, State] = {}
    names = context.attribution.degradations
    with context.bar("task_vectors", len(names)) as advance:
        for name in names:
            singles[name] = context.trained_target(context.problem.seed, [name], iterations)
            advance(f"target of {name}")
    rows = list(_edits(context, singles, strengths))
    layers, overlaps = list(_layers(context, singles)), list(_overlaps(context, singles))
    whole = [row for row in rows if row["strength"] == 1]
    judged = [row for row in whole if row["input"] == row["judged"]]
    metrics = means(whole, "gain", "task_vectors/gain/{edit}/{vector}/{input}")
    metrics |= means(judged, "isolation", "task_vectors/isolation/{edit}/{vector}/{judged}")
    metrics |= means(overlaps, "overlap", "task_vectors/overlap/{method}/{degradation}")
    if len(names) > 1:
        metrics |= means(layers[-1:], "conflict", "task_vectors/conflict")
        metrics |= means(layers[-1:], "cosine", "task_vectors/cosine")
    return StudyResult({"task_vectors": rows, "task_vectors_layers": layers, "task_vectors_overlap": overlaps}, metrics)


def moved(start: State, vectors: Sequence[tuple[State, State]], strength: float) -> dict[str, Tensor]:
    """Return start + λ Σ (end − origin), computed in double precision; integers stay as they are.

    Args:
        start: the weights that are moved.
        vectors: (end, origin) of each vector.
        strength: λ.
    """
    result = {}
    for name, value in start.items():
        if value.is_floating_point():
            change = sum(end[name].double() - origin[name].double() for end, origin in vectors)
            value = (value.double() + strength * change).to(value)
        result[name] = value
    return result


def sign_conflict(vectors: Tensor) -> float | None:
    """Compute the share of the magnitude in weights whose vectors differ in sign.

    Args:
        vectors: (K, n) the values of n weights in K vectors.

    Returns:
        Σ_j c_j m_j / Σ_j m_j with m_j = Σ_k |τ_kj|, and c_j = 1 if weight j has values above and below 0. None if all
        values are 0. Vectors without any relation have 1 − 2^(1 − K) on average, 0.5 for two.
    """
    magnitude = vectors.double().abs().sum(0)
    total = float(magnitude.sum())
    return float(magnitude[_opposite(vectors)].sum()) / total if total else None


def _opposite(vectors: Tensor) -> Tensor:
    """Return (n,) whether a weight has values above and below 0."""
    return (vectors > 0).any(0) & (vectors < 0).any(0)


def cosine(a: Tensor, b: Tensor) -> float | None:
    """Compute the cosine of the angle between two vectors; None if one of them is 0."""
    a, b = a.double(), b.double()
    norms = float(a.norm() * b.norm())
    return float(a @ b) / norms if norms else None


def _edits(context: StudyContext, singles: Mapping[str, State], strengths: Sequence[float]) -> Iterator[TableRow]:
    """Yield the effects of all networks that task vectors make."""
    own, baseline, every = context.evaluator, context.baseline, "+".join(singles)
    to_single = {name: replace(own, baseline=state, target=baseline) for name, state in singles.items()}
    clean = [name for name in own.inputs if name == CLEAN]
    others = {name: [*(other for other in singles if other != name), *clean] for name in singles}
    yield from _rows(own, context.target, {}, (), edit=BLIND, vector=every, strength=1.0)
    for name, state in singles.items():
        judged = {name: to_single[name]}
        yield from _rows(own, state, judged, others[name], edit=SINGLE, vector=name, strength=1.0)
    vectors = {name: (state, baseline) for name, state in singles.items()}
    for strength in sorted({*map(float, strengths), 1.0}):
        if len(singles) > 1:
            added = moved(baseline, list(vectors.values()), strength)
            yield from _rows(own, added, to_single, clean, edit=ADDED, vector=every, strength=strength)
        for name in singles:
            negated = moved(context.target, [vectors[name]], -strength)
            yield from _rows(own, negated, {name: own}, others[name], edit=NEGATED, vector=name, strength=strength)


def _rows(
    own: Evaluator, state: State, judged: Mapping[str, Evaluator], kept: Sequence[str], **label: object
) -> Iterator[TableRow]:
    """Yield the effect of an edit on every input.

    Args:
        own: the evaluator of the run.
        state: the weights that the edit makes.
        judged: degradation → the evaluator between the start of the edit (as target) and its goal (as baseline).
        kept: the inputs whose output should stay as it is at the start.
        label: the first cells.
    """
    outputs = {name: own.raw(state, name) for name in own.inputs}
    psnrs = {name: own.psnr(convert(as_image, raw)) for name, raw in outputs.items()}
    gains = {name: psnr - mean(own.ends(name).baseline) for name, psnr in psnrs.items()}
    measured: dict[str | None, dict[str, TableRow]] = {
        degradation: parts_of_edit({n: between.effect_of(outputs[n], n) for n in (degradation, *kept)}, degradation)
        for degradation, between in judged.items()
    }
    empty: TableRow = dict.fromkeys(("back", "off", "side", "isolation"))
    for degradation, parts in (measured or {None: {}}).items():
        for name in own.inputs:
            row = label | {"judged": degradation, "input": name, "psnr": psnrs[name], "gain": gains[name]}
            yield row | parts.get(name, empty)


def _layers(context: StudyContext, singles: Mapping[str, State]) -> Iterator[TableRow]:
    """Yield conflict of signs and cosines of the vectors by layer, and of all layers together."""
    layout, baseline = context.attribution.layout, context.baseline
    vectors = torch.stack([_flat(layout, state, baseline) for state in singles.values()])
    whole = _flat(layout, context.target, baseline)
    sizes = [layer.weights for layer in layout.layers]
    parts = zip(layout.layers, torch.split(vectors, sizes, 1), torch.split(whole, sizes), strict=True)
    for depth, (layer, of_layer, target) in enumerate(parts):
        yield {"layer": layer.name, "depth": depth, "filters": layer.units} | _relation(of_layer, target)
    yield {"layer": ALL, "depth": None, "filters": len(layout)} | _relation(vectors, whole)


def _flat(layout: FilterLayout, state: State, baseline: State) -> Tensor:
    """Return (n,) the change of the weights of all layers."""
    changed = [state[layer.name].double() - baseline[layer.name].double() for layer in layout.layers]
    return torch.cat([change.flatten() for change in changed]).cpu()


def _relation(vectors: Tensor, target: Tensor) -> TableRow:
    """Return conflict and cosines of (K, n) vectors, and the cosine of their sum with the target's change (n,)."""
    cosines = [cosine(a, b) for a, b in combinations(vectors, 2)]
    known = [value for value in cosines if value is not None]
    several = len(vectors) > 1
    return {
        "conflict": sign_conflict(vectors) if several else None,
        "opposite": float(_opposite(vectors).double().mean()) if several else None,
        "cosine": sum(known) / len(known) if known else None,
        "cosine_target": cosine(vectors.sum(0), target),
    }


def _overlaps(context: StudyContext, singles: Mapping[str, State]) -> Iterator[TableRow]:
    """Compare the discovered filters of each method with the filters that the vectors changed most."""
    layout, percent = context.attribution.layout, context.headline
    vectors = torch.stack([_flat(layout, state, context.baseline) for state in singles.values()])
    magnitudes = torch.stack([changes(context.baseline, state, layout) for state in singles.values()])
    by_vector = contrast(magnitudes)
    for method in context.attribution.scores:
        for k, (degradation, filters) in enumerate(context.discovered(method, percent).items()):
            most = set(discovered(by_vector[k], percent).tolist())
            chosen = layout.mask(filters)
            inside = torch.cat([chosen[layer.name].expand(layer.shape).flatten() for layer in layout.layers])
            total = float(magnitudes[k].sum())
            yield {
                "method": method,
                "degradation": degradation,
                "percent": percent,
                "filters": len(filters),
                "overlap": len(most & set(filters.tolist())) / len(filters) if len(filters) else None,
                "chance": len(filters) / len(layout),
                "magnitude": float(magnitudes[k][filters].sum()) / total if total else None,
                "conflict": sign_conflict(vectors[:, inside]) if len(vectors) > 1 else None,
            }


def _gain(run: RunFolder, edit: str, vector: str, name: str) -> float | None:
    """Return the gain of an edit with λ = 1 on an input."""
    rows = select(run.table("task_vectors"), edit=edit, vector=vector, input=name, strength=1.0)
    return mean_of(rows, "gain")


def _sentence(run: RunFolder) -> str:
    kind, every = ADDED if len(run.degradations) > 1 else SINGLE, "+".join(run.degradations)
    told = [
        f"{signed(_gain(run, kind, every, name))} dB on {degraded(name)} input (trained alone "
        f"{signed(_gain(run, SINGLE, name, name))} dB, the target {signed(_gain(run, BLIND, every, name))} dB)"
        for name in run.degradations
    ]
    return f"The sum of the task vectors brings {listed(told)}."


@drawing()
def _figure(run: RunFolder) -> Figure | None:
    """Draw the gain of the sum against λ on the left, and the conflict of signs by layer on the right."""
    if len(run.degradations) < 2:
        return None
    figure, rows = new_figure(2.7), run.table("task_vectors")
    gains, conflict = figure.subplots(1, 2)
    for name, of_input in groups(select(rows, edit=ADDED), "input").items():
        colour = input_colour(run.degradations, name)
        line(gains, of_input, "strength", "gain", markersize=3, color=colour, label=f"{degraded(name)} input")
        for target in numbers(select(rows, edit=BLIND, input=name), "gain"):
            gains.axhline(target, color=colour, linewidth=0.9, linestyle=":")
    gains.set_xlabel("strength λ of the sum")
    gains.set_ylabel("gain over the baseline, dB")
    line(conflict, run.table("task_vectors_layers"), "depth", "conflict", color=INK)  # all layers have no depth
    guides(conflict, 1 - 2.0 ** (1 - len(run.degradations)))
    conflict.set_ylim(0, 1)
    share_axis(conflict)
    conflict.set_xlabel("layer, from the input (0) to the output")
    conflict.set_ylabel("magnitude in conflict")
    legend_above(figure, gains)
    return figure


def _table(run: RunFolder) -> Table:
    inputs, names, every = unique(run.table("task_vectors"), "input"), run.degradations, "+".join(run.degradations)
    head = ["gain over the baseline, dB", *(sentence_case(f"{degraded(name)} input") for name in inputs), "isolation"]
    edits: list[tuple[str, str, str, Sequence[str]]] = [("target", BLIND, every, [])]
    edits += [(f"trained for {removal(name)} alone", SINGLE, name, [name]) for name in names]
    edits += [("all vectors added", ADDED, every, names)] if len(names) > 1 else []
    edits += [(f"target minus {removal(name)}", NEGATED, name, [name]) for name in names]
    lines = []
    for label, edit, vector, judged in edits:
        rows = select(run.table("task_vectors"), edit=edit, vector=vector, strength=1.0)
        gains = [signed(mean_of(select(rows, input=name), "gain")) for name in inputs]
        isolations = [decimal(mean_of(select(rows, judged=name, input=name), "isolation")) for name in judged]
        lines.append([sentence_case(label), *gains, listed(isolations) or ABSENT])
    return Table(head, lines)


SECTION = Section(
    name="task_vectors",
    order=36,
    title="Do the changes of single degradations add up?",
    link="Task vectors",
    method=(
        "From the baseline one network is trained for each degradation alone. Its task vector is the difference of the "
        "weights to the baseline. The vectors are added to the baseline, and each vector is taken away from the "
        "target. If the functions are in separate weights, the sum restores every degradation, and taking a vector "
        "away removes one function."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Line charts of the gain of added task vectors against their strength, and of the sign conflict by layer",
    caption=(
        "Left: the sum of the vectors with strength λ; dotted lines are the target. Right: the share of the vectors' "
        "magnitude in weights where the vectors have different signs; the line is the share of unrelated vectors."
    ),
    table=_table,
    note=(
        "The isolation of the sum is near 1 if its output on one degradation is near the output of the network trained "
        "alone, and its output on clean input is near the baseline's. For a network that was trained alone, the output "
        "on every other input should be the baseline's. The isolation of a negated vector is that of masking: the "
        "baseline's output on one degradation, and the target's on all other inputs."
    ),
)
