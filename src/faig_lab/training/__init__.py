"""Baseline and target: trained by Lightning, measured by torchmetrics, saved in a store.

Names that need Lightning are imported at their first use: a run whose networks are in the store does not import it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from faig_lab.networks import state_fingerprint
from faig_lab.networks.predicting import Predicting
from faig_lab.training.metrics import METRICS, as_image, bicubic, psnr, quality, restore
from faig_lab.training.plan import (
    NUMERICS_VERSION,
    Chosen,
    Loop,
    Retraining,
    Row,
    Schedule,
    Train,
    Trained,
    resolve_precision,
)
from faig_lab.training.store import (
    Entry,
    adopt,
    content_fingerprint,
    entries_of_other_versions,
    fingerprint,
    lock_of,
    open_entry,
)

__all__ = [
    "METRICS",
    "NUMERICS_VERSION",
    "Chosen",
    "Entry",
    "Freezing",
    "History",
    "Loop",
    "Predicting",
    "Retraining",
    "Row",
    "SRModule",
    "Schedule",
    "Train",
    "Trained",
    "Turns",
    "adopt",
    "as_image",
    "bicubic",
    "content_fingerprint",
    "entries_of_other_versions",
    "fingerprint",
    "fit",
    "fit_chosen",
    "lock_of",
    "open_entry",
    "planted_groups",
    "psnr",
    "quality",
    "resolve_precision",
    "restore",
    "state_fingerprint",
    "step_seconds",
]

if TYPE_CHECKING:
    from faig_lab.training.callbacks import History
    from faig_lab.training.finetuning import Freezing, Turns, fit_chosen, planted_groups
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
    }

    def __getattr__(name: str) -> object:
        """Import a name that needs Lightning (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
