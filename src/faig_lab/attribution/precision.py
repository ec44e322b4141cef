"""Precisions by name."""

from collections.abc import Mapping

import torch

PRECISIONS: Mapping[str, tuple[torch.dtype, torch.dtype | None]] = {
    "float64": (torch.float64, None),
    "float32": (torch.float32, None),
    "bfloat16": (torch.float32, torch.bfloat16),
}
"""`attribution.precision` → precision of weights and sums, and of the network's operations where it is lower."""
