"""What a run shows, in sentences whose wording is chosen by its numbers."""

from faig_lab.reporting import findings
from faig_lab.reporting.findings import MethodResult
from faig_lab.reporting.run_files import RunFiles, unique
from faig_lab.reporting.units import ranked_notes
from faig_lab.reporting.words import count, degraded, listed, method_label, number, percent, removal, share

# Below this gain of the target over the baseline a removed share is a small number divided by a small one.
SMALL_GAIN_DB = 0.5
# Two specificities closer than this are called close: one run with one seed does not separate them.
CLOSE = 0.05
TOO_LITTLE = "The target restores too little on this run for the paper's claim to be judged."


def question(run: RunFiles) -> str:
    """What the study asks, in three sentences."""
    kinds = listed([removal(name) for name in run.degradations]) or "restoration"
    ask = (
        "Does it keep separate filters for each kind of damage"
        if len(run.degradations) > 1
        else "Does the repair live in a few of its filters"
    )
    return (
        "A blind super-resolution network upscales a photograph and repairs it in one go, without being told "
        f"what is wrong with it. {ask}, here {kinds}, and can they be found? To test it, the filters that "
        "an attribution method points at are set back to the values they had before the network learnt to "
        "restore, and the restoration that is lost is measured."
    )


def masked_sets(run: RunFiles) -> list[str]:
    """For each discovered set of the run's method: what masking it removes."""
    size, total = findings.masked_count(run, run.headline), run.filters
    of = f" ({count(size)} of {count(total)})" if size and total else ""
    found = []
    for masked in run.degradations:
        removed = {d: findings.masking(run, run.chosen, run.headline, masked, d).mean for d in run.degradations}
        parts = [f"{share(removed[d])} of {removal(d)}" for d in sorted(removed, key=lambda d: d != masked)]
        found.append(f"Masking {percent(run.headline)}{of} {removal(masked)} filters removes {listed(parts)}.")
    return found


def verdict(run: RunFiles, result: MethodResult) -> str:
    """Whether the run's method found filters that matter, and that matter to one degradation only."""
    label = method_label(result.method)
    if result.own is None:
        return f"This run holds no masking result for {label}."
    strength = _strength(result.own)
    start = f"On average the {label} sets carry {strength} their own function ({share(result.own)} removed)"
    if result.specificity is None:
        return f"{start}; with one degradation there is no other function to compare with."
    others = "the other function" if len(run.degradations) == 2 else "the other functions"
    return (
        f"{start} and {_side(result, others)} ({share(result.other)}): "
        f"specificity {number(result.specificity)}. "
        f"{TOO_LITTLE if small_gains(run) else _claim(result)}"
    )


def _strength(own: float) -> str:
    if own >= 0.6:
        return "most of"
    return "a part of" if own >= 0.25 else "little of"


def _side(result: MethodResult, others: str) -> str:
    specificity, other = result.specificity or 0.0, result.other or 0.0
    if specificity < 0:
        return f"even more of {others}"
    if other <= 0.1:
        return f"hardly anything of {others}"
    return f"less of {others}" if specificity >= 0.1 else f"about as much of {others}"


def _claim(result: MethodResult) -> str:
    """The paper's claim held against the specificity of the mean and of each set."""
    specificity = result.specificity or 0.0
    if specificity < 0.1:
        return "That does not support the paper's claim: on this run the sets are not specific."
    if result.unspecific:
        sets = listed([removal(name) for name in result.unspecific])
        several = len(result.unspecific) > 1
        return (
            f"But the mean hides something: the {sets} {'sets are' if several else 'set is'} not specific, "
            "so the paper's claim holds for a part of the sets only."
        )
    if specificity >= 0.5:
        return "That is the paper's claim, seen on this run: a few filters, each for its own degradation."
    if specificity >= 0.25:
        return "That supports the paper's claim in part: the sets prefer their own function, not more."
    return "That is weak support for the paper's claim: the preference is there, but small."


def against_random(run: RunFiles, results: list[MethodResult]) -> str | None:
    """The run's method against random filters, None when one of them is absent."""
    by_name = {result.method: result for result in results}
    own, chance = by_name.get(run.chosen), by_name.get("random")
    if own is None or chance is None or own is chance or own.own is None or chance.own is None:
        return None
    spread = f" ± {number(chance.spread)}" if chance.spread is not None else ""
    draws = f", {chance.draws} draws" if chance.draws > 1 else ""
    specificity = (
        f" (specificity {number(chance.specificity)}{spread}{draws})" if chance.specificity is not None else ""
    )
    text = f"The same number of random filters removes {share(chance.own)}{specificity}"
    if own.own <= chance.own:
        return f"{text}: {method_label(own.method)} does no better than chance here."
    if chance.own < 0.01:
        return f"{text}."
    factor = own.own / chance.own
    times = f"{number(factor, 0 if factor >= 10 else 1)} times as much"
    return f"{text}, so the {method_label(own.method)} sets remove {times}."


def winner(run: RunFiles, results: list[MethodResult]) -> str | None:
    """Which method is the most specific on this run, and whether the difference is one to rely on."""
    ranked = findings.best(results)
    if len(ranked) < 2:
        return None
    first, second = ranked[:2]
    text = f"Of the {len(ranked)} methods compared, {method_label(first.method)} is the most specific on this run"
    if first.estimate is not None:
        near = [r for r in ranked[1:] if r.estimate is not None and r.estimate.overlaps(first.estimate)]
        level = listed([method_label(result.method) for result in near])
        text += f", but its interval overlaps with that of {level}." if near else "."
    else:
        text += f": {number(first.specificity)}, against "
        text += listed([f"{method_label(result.method)} {number(result.specificity)}" for result in ranked[1:]]) + "."
        if (first.specificity or 0.0) - (second.specificity or 0.0) < CLOSE:
            text += " The first two are too close to be told apart by one run."
    if (first.own or 0.0) < 0.25:
        text += f" But its sets remove only {share(first.own)} of their own function."
    return text


def cancelling(run: RunFiles) -> str | None:
    """Why the gap over the probe can be larger than that of any image, where it is."""
    inputs = unique(run.table("completeness"), "degradation")
    gaps = {name: findings.gaps(run, name) for name in inputs}
    larger = [
        name for name, (whole, single) in gaps.items() if whole is not None and single is not None and whole > single
    ]
    if not larger:
        return None
    return (
        f"With {listed([degraded(name) for name in larger])} input the gap over the probe is larger than that of any "
        "single image: the loss rises for some images and falls for others, so their changes cancel in the sum that "
        "it is relative to."
    )


def small_gains(run: RunFiles) -> dict[str, float]:
    """Degradations in which the target hardly beats the baseline, with its gain in dB."""
    gains = {name: findings.gain(run, name) for name in run.degradations}
    return {name: gain for name, gain in gains.items() if gain is not None and gain < SMALL_GAIN_DB}


def warnings(run: RunFiles) -> list[str]:
    """What a reader must know before believing a number: notes of the data, and small gains."""
    found = [str(line) for line in run.status.get("warnings") or []]
    found += [str(note) for note in run.provenance.get("notes") or []] + ranked_notes(run)
    found += [
        f"The target is {_distance(gain)} in {removal(name)}: its removed shares divide by that difference "
        "and mean little."
        for name, gain in small_gains(run).items()
    ]
    if run.status.get("state") == "failed":
        found.insert(0, f"This run failed: {run.status.get('error') or 'no reason was recorded'}.")
    return found


def _distance(gain: float) -> str:
    """A small or negative gain against the baseline in words."""
    return f"only {number(gain)} dB above the baseline" if gain > 0 else f"{number(-gain)} dB below the baseline"
