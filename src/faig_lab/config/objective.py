"""The objective of a run: a key of metrics.json that a sweep ranks its jobs by."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Protocol

from faig_lab.config.messages import nearest
from faig_lab.config.settings import Settings
from faig_lab.errors import UserError

DEFAULT = "isolation"
"""The objective of settings without an objective."""

_MASKING = "faig_lab.studies.masking.masking_study"
_NETWORKS = ("bicubic", "baseline", "target")
_STUDIES = {
    "boundary": ("boundary",),
    "branches": ("branches",),
    "clusters": ("clusters",),
    "curves": ("area_log", "area_linear", "restored_without_target_biases"),
    "modulation": ("best_strength",),
    "patches": ("carried", "filters_needed"),
    "planted": ("planted",),
    "prediction": ("prediction",),
    "retraining": ("retrained",),
    "sanity": ("sanity",),
    "stability": ("stability",),
    "switches": ("switches",),
    "task_vectors": ("task_vectors",),
}
"""First part of the keys of each study whose keys are not listed before the study has run."""


class Wanted(Protocol):
    """The setting of the objective."""

    @property
    def objective(self) -> str | None:
        """A key of metrics.json; None for `DEFAULT`."""


def check_objective(settings: Settings) -> None:
    """Refuse an objective that the run cannot have. Keys that only the run itself knows pass.

    Raises:
        UserError: names the nearest key.
    """
    key = settings.objective
    if key is None or settings.task != "study":
        return
    known = list(_known(settings))
    family = key.partition("/")[0]
    if key in known or _unmixed(key, list(settings.degradation.parts)) in known:
        return
    if family not in {name.partition("/")[0] for name in known}:
        targets = [str(node.get("_target_")) for node in settings.analysis.studies.values()]
        if family in ("seconds", "depth") or not all(target.startswith("faig_lab.studies.") for target in targets):
            return
        for study, families in _STUDIES.items():
            if family in families:
                if any(target.startswith(f"faig_lab.studies.{study}.") for target in targets):
                    return
                raise UserError(f"objective: {key} comes from the study {study}; add analysis={study}")
    raise UserError(_unknown(key, known))


def objective_of(metrics: Mapping[str, float], wanted: Wanted) -> float | None:
    """Return the objective of a finished run; None if no objective is set and the run has no isolation.

    Raises:
        UserError: the run does not have the objective that is set. The message names the nearest key.
    """
    if wanted.objective is None:
        return metrics.get(DEFAULT)
    if wanted.objective not in metrics:
        raise UserError(_unknown(wanted.objective, metrics))
    return float(metrics[wanted.objective])


def _unknown(key: str, known: Iterable[str]) -> str:
    close = nearest(key, known)
    hint = f"did you mean {close}?" if close else "docs/run_folder.md has all keys"
    return f"objective: {key} is not a key of metrics.json of this run; {hint}"


def _unmixed(key: str, parts: Sequence[str]) -> str:
    """Return the key with the first degradation in the place of a mixed input such as `blur+noise`."""
    front, _, last = key.rpartition("/")
    mixed = "+" in last and set(last.split("+")) <= set(parts)
    return f"{front}/{parts[0]}" if mixed else key


def _known(settings: Settings) -> Iterator[str]:
    """Yield the keys that every run and the masking study give."""
    parts = list(settings.degradation.parts)
    inputs = [*parts, "clean"]
    yield from _joined(("psnr", "psnr_y", "ssim"), _NETWORKS, inputs)
    yield from _joined(("completeness_gap",), parts)
    yield from _joined(("barrier",), inputs)
    yield from _joined(("share",), ("kernel", "other"), parts)
    if any(node.get("_target_") == _MASKING for node in settings.analysis.studies.values()):
        methods = list(settings.attribution.methods)
        percents = [f"{percent:g}" for percent in settings.analysis.percents]
        headline = [f"{settings.analysis.headline_percent:g}"]
        yield from (DEFAULT, "specificity")
        yield from _joined((DEFAULT,), methods, percents)
        yield from _joined((DEFAULT, "clean_change"), methods, percents, parts)
        yield from _joined(("back", "off", "side"), methods, percents, parts, inputs)
        yield from _joined(("removed", "harm", "output_difference"), methods, percents, parts, parts)
        yield from _joined(("specificity", "specificity_low", "specificity_high"), methods, headline)


def _joined(*parts: Iterable[str]) -> Iterator[str]:
    return ("/".join(choice) for choice in product(*parts))
