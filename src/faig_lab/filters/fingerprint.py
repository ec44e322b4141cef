"""Fingerprints: short names that stand for weights, and for plain data, to the last bit."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from faig_lab.filters.functional import State


def state_fingerprint(state: State) -> str:
    """A fingerprint of weights: names, shapes, precision and every bit."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def content_fingerprint(state: Mapping[str, Tensor]) -> str:
    """A fingerprint of weights, whatever their order."""
    return state_fingerprint(dict(sorted(state.items())))


def fingerprint(determinants: Mapping[str, Any]) -> str:
    """Sixteen hex digits that stand for plain data, whatever the order of its keys."""
    text = json.dumps(determinants, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
