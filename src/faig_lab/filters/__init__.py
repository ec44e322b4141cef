"""Filters and other units of a network: layout, forward pass with given weights, interventions, weights files."""

from faig_lab.filters.foreign import spandrel_network
from faig_lab.filters.functional import (
    State,
    content_fingerprint,
    evaluate,
    fingerprint,
    first_floating,
    state_fingerprint,
    tied,
    trainable,
    under_every_name,
)
from faig_lab.filters.interventions import (
    Patch,
    apply_patches,
    load_patch,
    make_patch,
    mask,
    modulate,
    patch_bytes,
    save_patch,
)
from faig_lab.filters.layout import FilterLayout, Layer, UnitAddress
from faig_lab.filters.weights import (
    EXPORTS,
    as_stored,
    load_weights,
    objection,
    read_states,
    read_weights,
    save_weights,
    snapshot,
    write_states,
)

__all__ = [
    "EXPORTS",
    "FilterLayout",
    "Layer",
    "Patch",
    "State",
    "UnitAddress",
    "apply_patches",
    "as_stored",
    "content_fingerprint",
    "evaluate",
    "fingerprint",
    "first_floating",
    "load_patch",
    "load_weights",
    "make_patch",
    "mask",
    "modulate",
    "objection",
    "patch_bytes",
    "read_states",
    "read_weights",
    "save_patch",
    "save_weights",
    "snapshot",
    "spandrel_network",
    "state_fingerprint",
    "tied",
    "trainable",
    "under_every_name",
    "write_states",
]
