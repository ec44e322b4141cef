"""How few changed filters carry the restoration: patches put onto the baseline, idle filters taken back to it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from faig_lab.analysis.interventions import mask, removed_share
from faig_lab.analysis.masking import TableRow
from faig_lab.analysis.modulation import discovered_sets
from faig_lab.analysis.subject import Findings, Subject
from faig_lab.attribution import ProbeIntegral, count_of, ranking
from faig_lab.data import sample_rng
from faig_lab.networks import State, apply_patches, make_patch, patch_bytes

Percent = Annotated[float, Field(gt=0, le=100)]


def patches(
    subject: Subject,
    percents: Sequence[Percent] = (0.5, 1, 3, 5, 10, 30, 100),
    kept: Sequence[Percent] = (10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95),
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.05,
    method: str | None = None,
) -> Findings:
    """Build the target up from the baseline by patches, and take the target back to the baseline where it is idle.

    Biases belong to no filter. Patches are put on without them and with the target's; pruning leaves them the
    target's.

    Args:
        subject: what is analysed.
        percents: sizes of the patches, of all filters, for each degradation and for all of them together.
        kept: how many filters stay the target's when the others are set back.
        tolerance: the largest share of any degradation's gain that pruning may cost.
        method: whose ranking the patches follow; None is the run's own.

    Returns:
        Tables
        `patches`: method, percent, filters, patched, biases, kilobytes, degradation, psnr, carried (share of the
        target's gain over the baseline);
        `pruning`: order, percent (kept), filters, degradation, psnr, lost (share of the gain);
        `pruning_layers`: order, percent, layer, depth, filters, kept, share, for the fewest filters within the
        tolerance (absent where there are none);
        metrics `carried/<patched>/<percent>/<degradation>` (with biases), `filters_needed/<order>` in percent.
    """
    chosen = method or subject.method
    inserted = _insertion(subject, chosen, percents)
    orders = idle_orders(subject)
    pruned = _pruning(subject, orders, sorted(kept, reverse=True))
    needed = {order: fewest(pruned, order, tolerance) for order in orders}
    tables = {"patches": inserted, "pruning": pruned}
    layers = [row for order, percent in needed.items() if percent for row in _layers(subject, orders, order, percent)]
    metrics: dict[str, float | None] = {
        f"carried/{row['patched']}/{row['percent']:g}/{row['degradation']}": row["carried"]  # type: ignore[misc]
        for row in inserted
        if row["biases"]
    }
    metrics |= {f"filters_needed/{order}": percent for order, percent in needed.items()}
    return Findings(tables | ({"pruning_layers": layers} if layers else {}), metrics)


def _insertion(subject: Subject, method: str, percents: Sequence[float]) -> list[TableRow]:
    """Patches on the baseline, without and with the target's biases; at 0 % the biases alone."""
    layout, theta, start = subject.attribution.layout, subject.target, subject.baseline
    sets = {percent: discovered_sets(subject, method, percent) for percent in (0.0, *percents)}
    judged: dict[tuple[int, bytes], list[tuple[str, float, float | None]]] = {}
    rows: list[TableRow] = []
    with subject.bar("patches", 2 * sum(map(len, sets.values()))) as advance:
        for biases in (0, 1):
            for percent, by_name in sets.items():
                for name, filters in by_name.items():
                    patch = make_patch(theta, start, layout, filters, name, rest=bool(biases))
                    what: TableRow = {"method": method, "percent": percent, "filters": len(filters), "patched": name}
                    what |= {"biases": biases, "kilobytes": len(patch_bytes(patch)) / 1000}
                    key = (biases, patch.filters.numpy().tobytes())  # no filters and all of them are the same sets
                    if key not in judged:
                        judged[key] = list(_measured(subject, apply_patches(start, patch)))
                    for shown, psnr, lost in judged[key]:
                        carried = None if lost is None else 1 - lost
                        rows.append(what | {"degradation": shown, "psnr": psnr, "carried": carried})
                    advance(f"{name}, {percent:g} %")
    return rows


def _measured(subject: Subject, state: State) -> Iterator[tuple[str, float, float | None]]:
    """Every degradation, the PSNR of `state` on it, and the share of the target's gain that it lacks."""
    judge = subject.judge
    for degradation in subject.attribution.degradations:
        baseline, target, _ = judge.bounds(degradation)
        psnr = judge.psnr(judge.outputs(state, degradation))
        yield degradation, psnr, removed_share(target, psnr, baseline)


def idle_orders(subject: Subject) -> dict[str, Tensor]:
    """Rankings (F,) from the filters that carry most, for any degradation, to those that carry nothing.

    `signed_share`: the size of the signed share of the loss change. `faig`: FAIG before the contrast, relative to
    its sum over all filters. Of both the largest over the degradations. `weight_change` and `random` to compare.
    """
    integral, layout = subject.problem.integral, subject.attribution.layout
    names = [layer.name for layer in layout.layers]
    change = {name: (subject.target[name] - subject.baseline[name]).abs() for name in names}
    drawn = sample_rng(subject.problem.seed, "pruning").permutation(len(layout))
    importance = {
        "signed_share": shares(integral).abs().amax(0),
        "faig": magnitudes(integral).amax(0),
        "weight_change": layout.gather(change).cpu(),
        "random": torch.from_numpy(drawn),
    }
    return {name: ranking(values) for name, values in importance.items()}


def shares(integral: ProbeIntegral) -> Tensor:
    """(K, F) signed share of the loss change over the probe; 0 where the loss does not change."""
    change = integral.loss_change.sum(0)[:, None]
    return torch.where(change == 0, 0.0, integral.signed.sum(0) / torch.where(change == 0, 1.0, change))


def magnitudes(integral: ProbeIntegral) -> Tensor:
    """(K, F) Σ|a_j| of each filter over the probe, relative to that of all filters."""
    total = integral.magnitude.sum(0)
    return total / total.sum(1, keepdim=True).clamp_min(torch.finfo(total.dtype).tiny)


def _pruning(subject: Subject, orders: Mapping[str, Tensor], kept: Sequence[float]) -> list[TableRow]:
    """The target with all but the first filters of each order set back to the baseline."""
    layout = subject.attribution.layout
    rows: list[TableRow] = []
    with subject.bar("pruning", len(orders) * len(kept)) as advance:
        for name, order in orders.items():
            for percent in kept:
                count = count_of(percent, len(layout))
                what: TableRow = {"order": name, "percent": percent, "filters": count}
                state = mask(subject.target, subject.baseline, layout, order[count:])
                for shown, psnr, lost in _measured(subject, state):
                    rows.append(what | {"degradation": shown, "psnr": psnr, "lost": lost})
                advance(f"{name}, {percent:g} % kept")
    return rows


def fewest(rows: Sequence[TableRow], order: str, tolerance: float) -> float | None:
    """The smallest percent that can be kept before any degradation loses more than `tolerance` of its gain.

    Args:
        rows: of `pruning`.
        order: which ranking.
        tolerance: share of the gain.

    Returns:
        One of the measured percents; None if already the largest one costs more.
    """
    worst: dict[float, float] = {}
    for row in rows:
        if row["order"] == order and row["lost"] is not None:
            percent = float(str(row["percent"]))
            worst[percent] = max(worst.get(percent, -1.0), float(str(row["lost"])))
    found = None
    for percent in sorted(worst, reverse=True):
        if worst[percent] > tolerance:
            break
        found = percent
    return found


def _layers(subject: Subject, orders: Mapping[str, Tensor], order: str, percent: float) -> list[TableRow]:
    """How many filters of each layer stay the target's."""
    layout = subject.attribution.layout
    chosen = orders[order][: count_of(percent, len(layout))]
    counts = torch.bincount(layout.layer_of()[chosen], minlength=len(layout.layers)).tolist()
    return [
        {
            "order": order,
            "percent": percent,
            "layer": layer.name.removesuffix(".weight"),
            "depth": depth,
            "filters": layer.units,
            "kept": count,
            "share": count / layer.units,
        }
        for depth, (layer, count) in enumerate(zip(layout.layers, counts, strict=True))
    ]
