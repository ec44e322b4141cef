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
    _LATER = {
        "callbacks": ("History",),
        "finetuning": ("Freezing", "Turns", "fit_chosen", "planted_groups", "with_all_parts"),
        "fitting": ("fit", "step_seconds"),
        "module": ("SRModule",),
    }

    def __getattr__(name: str) -> object:
        """Import a name that needs Lightning (PEP 562)."""
        for module, names in _LATER.items():
            if name in names:
                globals()[name] = value = getattr(import_module(f"{__name__}.{module}"), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
