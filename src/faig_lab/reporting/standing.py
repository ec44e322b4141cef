"""How the methods stand to each other by their intervals, in sentences whose wording is chosen by the numbers."""

from collections.abc import Sequence

from faig_lab.reporting import findings
from faig_lab.reporting.findings import Estimate, MethodResult
from faig_lab.reporting.run_files import RunFiles
from faig_lab.reporting.sentences import small_gains
from faig_lab.reporting.words import count, listed, method_label, number, percent, sentence_case, signed

OURS = "signed_share"
# So many photographs, or fewer, are all the same one in more than 2.5 % of the resamples (3⁻³ = 3.7 % for each).
_RANGE = 3
_FEW = 10
_ZERO = 1e-9


def standing(run: RunFiles, results: Sequence[MethodResult]) -> list[str]:
    """Signed share against the run's method, then the run's method against the others.

    Empty without intervals, and where the target restores too little for anything to be judged.
    """
    if small_gains(run):
        return []
    known = {result.method: result for result in results if result.estimate is not None}
    chosen = known.pop(run.chosen, None)
    if chosen is None or not known:
        return []
    ours = known.pop(OURS, None)
    said = [] if ours is None else [_duel(run, ours, chosen)]
    return said + ([_against(run, chosen, list(known.values()))] if known else [])


def caution(run: RunFiles) -> str | None:
    """What the intervals are over, and what they do not say; None for a run from before there were any."""
    photographs = findings.photographs(run)
    if photographs is None:
        return None
    if photographs == 1:
        return "There are no intervals: all held-out images are of one photograph, and one says nothing about others."
    text = (
        f"In brackets: 95 % bootstrap intervals over the {count(photographs)} held-out photographs, for the mean over "
        "the masked sets of this one training. They tell how far other photographs would move a number, "
        "not how far another training would."
    )
    if photographs <= _RANGE:
        text += (
            f" With {count(photographs)} photographs they run about from the lowest single photograph to the highest."
        )
    elif photographs < _FEW:
        text += f" With {count(photographs)} photographs they are a rough guide."
    return text


def by_construction(run: RunFiles, results: Sequence[MethodResult]) -> str | None:
    """Which methods cannot have a specificity, because they pick the same filters for every degradation."""
    names = [method_label(result.method) for result in results if _is_zero(result)]
    if not names:
        return None
    verb = "picks" if len(names) == 1 else "pick"
    return (
        f"At {percent(run.headline)} {listed(names)} {verb} the same filters for every degradation, so the mean "
        "specificity is 0 by construction: what one set has, the others lack."
    )


def with_interval(found: Estimate) -> str:
    """`0.52 (0.49 to 0.55)`."""
    return f"{number(found.value)} ({between(found)})"


def between(found: Estimate) -> str:
    """`0.49 to 0.55`."""
    return f"{number(found.low)} to {number(found.high)}"


def _is_zero(result: MethodResult) -> bool:
    """Whether the method removes something, and exactly as much of the others on every photograph."""
    found = result.estimate
    return found is not None and bool(result.own) and max(abs(found.low), abs(found.high)) < _ZERO


def _duel(run: RunFiles, ours: MethodResult, chosen: MethodResult) -> str:
    """Two methods, and whether their intervals overlap."""
    assert ours.estimate is not None
    assert chosen.estimate is not None
    names = [method_label(result.method) for result in (ours, chosen)]
    level = number(ours.estimate.value) == number(chosen.estimate.value)
    first = sentence_case(names[0 if ours.estimate.value > chosen.estimate.value else 1])
    ahead = "Neither is ahead" if level else f"{first} is ahead"
    but = ", but the" if not level else ": the"
    verdict = (
        f"{but} intervals overlap" if ours.estimate.overlaps(chosen.estimate) else ": the intervals do not overlap"
    )
    text = (
        f"{sentence_case(names[0])} against {names[1]} at {percent(run.headline)}: specificity "
        f"{with_interval(ours.estimate)} against {with_interval(chosen.estimate)}. {ahead}{verdict}"
    )
    paired = ours.difference
    if paired is None:
        return f"{text}."
    zero = ", which includes 0" if paired.low <= 0 <= paired.high else ""
    return f"{text}; paired by photograph, the difference is {signed(paired.value)} ({between(paired)}){zero}."


def _against(run: RunFiles, chosen: MethodResult, others: Sequence[MethodResult]) -> str:
    """The run's method against all others: which it beats, which not, and which beat it."""
    own = chosen.estimate
    assert own is not None
    groups: dict[str, list[str]] = {"above": [], "open": [], "below": []}
    for result in others:
        assert result.estimate is not None
        where = "open" if own.overlaps(result.estimate) else "above" if own.low > result.estimate.high else "below"
        groups[where].append(_shown(result, where == "open"))
    parts = [
        f"{words} {listed(found)}: the intervals {'overlap' if where == 'open' else 'do not overlap'}"
        for where, words in (("above", "beats"), ("open", "does not beat"), ("below", "is beaten by"))
        if (found := groups[where])
    ]
    label = sentence_case(method_label(chosen.method))
    return f"{label} at {percent(run.headline)}, {with_interval(own)}, {'. It '.join(parts)}."


def _shown(result: MethodResult, paired: bool) -> str:
    """`Fisher information 0.47 (0.43 to 0.54; paired difference −0.05, −0.08 to 0.03)`."""
    found, difference, name = result.estimate, result.difference, method_label(result.method)
    assert found is not None
    if _is_zero(result):
        return f"{name} (0 by construction)"
    if not paired or difference is None:
        return f"{name} {with_interval(found)}"
    more = f"paired difference {signed(difference.value)}, {between(difference)}"
    return f"{name} {number(found.value)} ({between(found)}; {more})"
