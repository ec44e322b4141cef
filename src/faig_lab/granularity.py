"""What the parameters of a network can be cut into for attribution."""

from typing import Literal

Granularity = Literal["weight", "filter", "output_channel", "input_channel", "layer"]
"""What one unit of a kernel is."""

UNITS: dict[str, str] = {
    "weight": "weights",
    "filter": "filters",
    "output_channel": "output channels",
    "input_channel": "input channels",
    "layer": "layers",
}
"""What units are called, by granularity."""
