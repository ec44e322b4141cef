"""What a run shows, in sentences whose wording is chosen by its numbers."""

from faig_lab.reporting import findings
from faig_lab.reporting.claims import SMALL_GAIN_DB
from faig_lab.reporting.findings import MethodResult
from faig_lab.reporting.run_files import RunFiles, unique
from faig_lab.reporting.units import ranked_notes
from faig_lab.reporting.words import count, degraded, listed, method_label, number, percent, removal, share


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


def means(run: RunFiles, results: list[MethodResult]) -> str | None:
    """What the sets of the run's method remove on average, beside random filters where there are any."""
    by_name = {result.method: result for result in results}
    shown = [by_name[name] for name in dict.fromkeys((run.chosen, "random")) if name in by_name]
    parts = [_mean(run, result) for result in shown if result.own is not None]
    return f"Mean over the masked sets: {'; '.join(parts)}." if parts else None


def _mean(run: RunFiles, result: MethodResult) -> str:
    """`FAIG removes 85 % of the own function and 22 % of the other, specificity 0.63`."""
    verb = "remove" if result.method == "random" else "removes"
    text = f"{method_label(result.method)} {verb} {share(result.own)} of the own function"
    if result.specificity is None:
        return text
    others = "the other" if len(run.degradations) == 2 else "the others"
    spread = f" ± {number(result.spread)} over {result.draws} draws" if result.spread is not None else ""
    return f"{text} and {share(result.other)} of {others}, specificity {number(result.specificity)}{spread}"


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
    """What a reader must know before believing a number: faults of the attribution, notes of the data, small gains."""
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
