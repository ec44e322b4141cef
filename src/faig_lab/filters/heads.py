"""Attention heads: which rows of a projection belong to one head."""

import re

from torch import nn
from torch.nn.modules.conv import _ConvNd

_PROJECTION = re.compile(r"(?:to_|w)?(qkv|qk|kv|q|k|v)(?:_proj|_linear|_conv)?")
"""Names of the layers that make queries, keys and values."""

_COUNTS = ("num_heads", "heads", "n_heads", "nhead", "nh")
"""Names of the attribute in which an attention keeps the number of its heads."""

_WITHIN = {"in_proj_weight": 3, "q_proj_weight": 1, "k_proj_weight": 1, "v_proj_weight": 1}
"""Weights of `nn.MultiheadAttention`, and how many of query, key and value they make."""


def head_blocks(network: nn.Module) -> dict[int, int]:
    """The id of the weight of every projection → the number of its blocks of rows.

    A projection makes queries, keys, values, or several of them, one after the other. Each of these has one block of
    consecutive output channels for each head.
    """
    found: dict[int, int] = {}
    for module in network.modules():
        heads = next((n for n in (getattr(module, name, None) for name in _COUNTS) if type(n) is int and n > 0), None)
        if heads is None:
            continue
        for name, parts in _WITHIN.items():
            weight = module._parameters.get(name)
            if isinstance(module, nn.MultiheadAttention) and weight is not None:
                found[id(weight)] = parts * heads
        for name, layer in module.named_children():
            match = _PROJECTION.fullmatch(name)
            if match is None or not isinstance(layer, nn.Linear | _ConvNd):
                continue
            blocks = len(match[1]) * heads
            if layer.weight.shape[0] % blocks == 0:
                found[id(layer.weight)] = blocks
    return found
