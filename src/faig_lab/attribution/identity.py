"""What stands for an image's sums over the path, so that they are found again where they are kept."""

from collections.abc import Sequence

from torch import nn

from faig_lab.attribution.adaptive import Adaptive
from faig_lab.attribution.compute import Compute
from faig_lab.attribution.quadrature import Rule
from faig_lab.attribution.weight_paths import STRAIGHT, PathSpec
from faig_lab.data import PairedImage
from faig_lab.filters import FilterLayout, State, fingerprint, first_floating, state_fingerprint


def identity(
    network: nn.Module,
    baseline: State,
    target: State,
    degradations: Sequence[str],
    layout: FilterLayout,
    rule: Rule | Adaptive,
    compute: Compute,
    path: PathSpec = STRAIGHT,
) -> str:
    """A fingerprint of everything but the image that determines an image's sums; arguments of `integrate_probe`."""
    every_digit = rule if isinstance(rule, Adaptive) else (rule.points.tolist(), rule.weights.tolist())
    weights = [state_fingerprint(baseline), state_fingerprint(target), str(first_floating(target.values()).device.type)]
    bent = [path.kind, *map(state_fingerprint, path.inner)]
    return fingerprint(
        {"of": [str(network), *weights, list(degradations), repr(layout), repr(every_digit), repr(compute), *bent]}
    )


def of_image(image: PairedImage, same: str) -> str:
    """A fingerprint of an image's sums: its pixels, and `identity`."""
    return fingerprint({"image": state_fingerprint({"hr": image.hr, **image.lr}), "same": same})
