"""The names and number formats of figures, report and summary."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeGuard

ABSENT = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"

REFERENCE = "learned_mask"
"""The method that shows what a number of filters can reach. Figures draw it as a reference line."""

# Degradation → the function against it, and the name of its input.
_NAMES = {
    "blur": ("deblurring", "blurred"),
    "anisotropic_blur": ("anisotropic deblurring", "anisotropically blurred"),
    "motion_blur": ("motion deblurring", "motion-blurred"),
    "noise": ("denoising", "noisy"),
    "poisson_noise": ("photon denoising", "photon-noisy"),
    "jpeg": ("JPEG artefact removal", "JPEG"),
}
MEANINGS = {
    "weight": "A single number of a convolution or linear weight.",
    "filter": "One k×k slice of a convolution weight: what connects one input channel of a layer with one "
    "output channel.",
    "output_channel": "Everything in a convolution or linear weight that makes one output channel of its layer.",
    "input_channel": "Everything in a convolution or linear weight that reads one input channel of its layer.",
    "head": "The rows of an attention's projection that make the query, the key or the value of one head; in every "
    "other layer everything that makes one output channel.",
    "layer": "The whole weight of one convolution or linear layer.",
}
"""The definition of a unit by granularity, for the glossary."""

_METHOD = {
    "faig": "FAIG",
    "faig_reference": "FAIG (authors' settings)",
    "faig_shares": "FAIG in shares",
    "signed_share": "signed share",
    "signed_sum": "signed sum",
    "one_unit": "one-unit ablation",
    "isolation_integral": "integral of isolation",
    "isolation_share": "isolation share",
    "iterated_isolation": "isolation, iterated",
    "share_given_clean": "share given clean",
    "share_per_change": "share per change",
    "ig": "input gradients",
    "taylor": "Taylor expansion",
    "fisher": "Fisher information",
    "weight_change": "weight change",
    "weight_change_absolute": "weight change (abs.)",
    "learned_mask": "learned mask",
    "random": "random filters",
    "layer_matched": "random, layer-matched",
}


def removal(degradation: str) -> str:
    """Return the function that removes a degradation: `blur` → `deblurring`."""
    return _names(degradation)[0]


def degraded(degradation: str) -> str:
    """Return the name of an input: `blur` → `blurred`, `blur+noise` → `blurred and noisy`."""
    return listed([_names(part)[1] for part in degradation.split("+")])


def _names(degradation: str) -> tuple[str, str]:
    plain = degradation.replace("_", " ")
    return _NAMES.get(degradation, (f"{plain} removal", plain))


def sentence_case(text: str) -> str:
    """Return the text with its first letter in upper case and all other letters unchanged."""
    return text[:1].upper() + text[1:]


def method_label(method: str) -> str:
    """Return the name of an attribution method for readers: `faig` → `FAIG`."""
    return _METHOD.get(method, method.replace("_", " "))


def line_label(method: str) -> str:
    """Return the name of a method's line in a figure: `method_label`, with a mark for the reference."""
    return f"{method_label(method)} (reference)" if method == REFERENCE else method_label(method)


def together(degradations: str) -> str:
    """Return the function of a set: `blur` → `deblurring`. The set of several degradations is `all together`."""
    return "all together" if "+" in degradations else removal(degradations)


def listed(items: Sequence[str]) -> str:
    """Return items as text: `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def is_known(value: float | None) -> TypeGuard[float]:
    """Return whether a value is a number: not None, NaN or infinite."""
    return value is not None and math.isfinite(value)


def decimal(value: float | None, digits: int = 2) -> str:
    """Return a fixed-point number with a true minus sign; `–` for None, NaN and infinities."""
    if not is_known(value):
        return ABSENT
    text = f"{value:,.{digits}f}"
    if text.startswith("-") and float(text.replace(",", "")) == 0:
        text = text[1:]
    return text.replace("-", _MINUS)


def with_std(value: float | None, std: float | None) -> str:
    """Return `0.52 ± 0.03`, or the number only without a standard deviation over draws."""
    return decimal(value) if not is_known(std) else f"{decimal(value)} ± {decimal(std)}"


def signed(value: float | None, digits: int = 2) -> str:
    """Return a number as `decimal` does, with `+` before a positive number."""
    text = decimal(value, digits)
    return f"+{text}" if is_known(value) and value > 0 else text


def share(value: float | None) -> str:
    """Return a share as a percentage: 0.853 → `85 %`."""
    text = decimal(None if value is None else 100 * value, 0)
    return text if text == ABSENT else f"{text} %"


def small_share(value: float | None) -> str:
    """Return a small share as a percentage with two significant digits: 0.00123 → `0.12 %`."""
    if not is_known(value):
        return ABSENT
    return f"{100 * value:.2g} %".replace("-", _MINUS) if abs(value) >= 1e-6 else "below 0.0001 %"


def between(low: float | None, high: float | None, show: Callable[[float | None], str] = decimal) -> str:
    """Return `0.49 to 0.55`; empty if an end is missing."""
    return f"{show(low)} to {show(high)}" if is_known(low) and is_known(high) else ""


def with_ends(estimate: Iterable[float | None], show: Callable[[float | None], str] = decimal) -> str:
    """Return `0.52 (0.49 to 0.55)` from a number and its ends, or the number only if an end is missing."""
    value, low, high = estimate
    ends = between(low, high, show)
    return f"{show(value)} ({ends})" if ends else show(value)


def as_percent(value: float) -> str:
    """Return a percent as in the configuration: 1.0 → `1 %`, 0.5 → `0.5 %`."""
    return f"{value:g} %"


def count(value: float | None) -> str:
    """Return a whole number with thousands separated: 12240 → `12,240`."""
    return decimal(value, 0)


def duration(seconds: float | None) -> str:
    """Return seconds as `12 s` or `3 min 20 s`; below ten seconds with one decimal."""
    if not is_known(seconds):
        return ABSENT
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
