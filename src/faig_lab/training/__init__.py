"""Baseline and target: trained by Lightning, measured by torchmetrics, kept in a store."""

from faig_lab.networks import state_fingerprint
from faig_lab.training.callbacks import History, Row
from faig_lab.training.fit import Loop, Trained, fit, resolve_precision
from faig_lab.training.metrics import METRICS, as_image, bicubic, psnr, quality, restore
from faig_lab.training.module import Predicting, Schedule, SRModule
from faig_lab.training.partial import Chosen, Freezing, Retraining, Train, fit_chosen
from faig_lab.training.store import (
    Entry,
    content_fingerprint,
    fingerprint,
    lock_of,
    numerics_version,
    open_entry,
)
from faig_lab.training.timing import step_seconds

__all__ = [
    "METRICS",
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
    "as_image",
    "bicubic",
    "content_fingerprint",
    "fingerprint",
    "fit",
    "fit_chosen",
    "lock_of",
    "numerics_version",
    "open_entry",
    "psnr",
    "quality",
    "resolve_precision",
    "restore",
    "state_fingerprint",
    "step_seconds",
]
