"""The types of units of a network for attribution."""

from typing import Literal

Granularity = Literal["weight", "filter", "output_channel", "input_channel", "head", "layer"]
"""The type of a unit of a kernel."""

UNITS: dict[str, str] = {
    "weight": "weights",
    "filter": "filters",
    "output_channel": "output channels",
    "input_channel": "input channels",
    "head": "heads and channels",
    "layer": "layers",
}
"""The name of the units, by granularity."""
