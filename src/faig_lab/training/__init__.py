"""Baseline and target: trained by Lightning, measured by torchmetrics.

What needs Lightning is imported when it is first used: a run whose networks are in the store does without.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from faig_lab.training.numerics import NUMERICS_VERSION
from faig_lab.training.plan import Chosen, Loop, Retraining, Row, Schedule, Train, Trained, resolve_precision

__all__ = [
    "NUMERICS_VERSION",
    "Chosen",
    "Freezing",
    "History",
    "Loop",
    "Retraining",
    "Row",
    "SRModule",
    "Schedule",
    "Train",
    "Trained",
    "Turns",
    "fit",
    "fit_chosen",
    "planted_groups",
    "resolve_precision",
    "step_seconds",
]

if TYPE_CHECKING:
    from faig_lab.training.callbacks import History
    from faig_lab.training.fitting import fit
    from faig_lab.training.module import SRModule
    from faig_lab.training.partial import Freezing, fit_chosen
    from faig_lab.training.planted import Turns, planted_groups
    from faig_lab.training.timing import step_seconds
else:  # a type checker would take any name for one that this function knows
    _NEED_LIGHTNING = {
        "Freezing": "partial",
        "History": "callbacks",
        "SRModule": "module",
        "Turns": "planted",
        "fit": "fitting",
        "fit_chosen": "partial",
        "planted_groups": "planted",
        "step_seconds": "timing",
    }

    def __getattr__(name: str) -> object:
        """A name that needs Lightning, imported now (PEP 562)."""
        if name not in _NEED_LIGHTNING:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_NEED_LIGHTNING[name]}"), name)
        globals()[name] = value
        return value
