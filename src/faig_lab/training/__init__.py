"""Baseline and target: trained by Lightning, measured by torchmetrics, kept in a store."""

from faig_lab.networks import state_fingerprint
from faig_lab.training.callbacks import History, Row
from faig_lab.training.fit import Loop, Trained, fit, resolve_precision
from faig_lab.training.metrics import METRICS, as_image, bicubic, psnr, quality, restore
from faig_lab.training.module import Schedule, SRModule
from faig_lab.training.partial import Chosen, Freezing, Retraining, Train, fit_chosen
from faig_lab.training.store import Entry, fingerprint, numerics_version, open_entry

__all__ = [
    "METRICS",
    "Chosen",
    "Entry",
    "Freezing",
    "History",
    "Loop",
    "Retraining",
    "Row",
    "SRModule",
    "Schedule",
    "Train",
    "Trained",
    "as_image",
    "bicubic",
    "fingerprint",
    "fit",
    "fit_chosen",
    "numerics_version",
    "open_entry",
    "psnr",
    "quality",
    "resolve_precision",
    "restore",
    "state_fingerprint",
]
