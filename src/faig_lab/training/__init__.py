"""Baseline and target: trained by Lightning, measured by torchmetrics.

Names that need Lightning are imported at their first use: a run whose networks are in the store does not import it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from faig_lab.training.plan import (
    NUMERICS_VERSION,
    Chosen,
    Loop,
    Retraining,
    Row,
    Schedule,
    Train,
    Trained,
    one_fall,
    planted_sets,
    resolve_precision,
)

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
    "one_fall",
    "planted_groups",
    "planted_sets",
    "resolve_precision",
    "step_seconds",
    "with_all_parts",
]

if TYPE_CHECKING:
    from faig_lab.training.callbacks import History
    from faig_lab.training.finetuning import Freezing, Turns, fit_chosen, planted_groups, with_all_parts
    from faig_lab.training.fitting import fit, step_seconds
    from faig_lab.training.module import SRModule
else:  # a type checker would accept any name that this function could return
    _MODULES = {
        "Freezing": "finetuning",
        "History": "callbacks",
        "SRModule": "module",
        "Turns": "finetuning",
        "fit": "fitting",
        "fit_chosen": "finetuning",
        "planted_groups": "finetuning",
        "step_seconds": "fitting",
        "with_all_parts": "finetuning",
    }

    def __getattr__(name: str) -> object:
        """Import a name that needs Lightning (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
