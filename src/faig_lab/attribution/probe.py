"""The path integral over a probe: every image with every degradation, reduced to one number per filter.

Nothing but two reductions per (image, degradation) is kept: Σ|a_j|, which FAIG ranks by, and Σ a_j, which
the signed share ranks by. Both come out of the same pass over the path.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from faig_lab.attribution.path import State, completeness_gap, integrate
from faig_lab.attribution.quadrature import Rule
from faig_lab.data import PairedImage
from faig_lab.networks import FilterLayout

Progress = Callable[[str], None]
"""Called with the name of each (image, degradation) that is finished."""


@dataclass(frozen=True)
class ProbeIntegral:
    """Signed path integrals of I probe images × K degradations over F filters, in float64 on the CPU.

    Attributes:
        images: names, in order.
        degradations: names, in order.
        magnitude: (I, K, F) Σ_{j∈f} |a_j|: the absolute value per weight, after the integral.
        signed: (I, K, F) Σ_{j∈f} a_j.
        total: (I, K) Σ a_j over all parameters, biases and others included.
        loss_baseline: (I, K) L(θ̄, x).
        loss_target: (I, K) L(θ, x).
    """

    images: tuple[str, ...]
    degradations: tuple[str, ...]
    magnitude: Tensor
    signed: Tensor
    total: Tensor
    loss_baseline: Tensor
    loss_target: Tensor

    @property
    def loss_change(self) -> Tensor:
        """(I, K) L(θ, x) − L(θ̄, x)."""
        return self.loss_target - self.loss_baseline

    def gap(self, degradation: str) -> float:
        """The relative completeness gap of one degradation over the probe: |ΣΣ a − Σ ΔL| / |Σ ΔL|."""
        column = self.degradations.index(degradation)
        return completeness_gap(float(self.total[:, column].sum()), float(self.loss_change[:, column].sum()))

    def rows(self) -> list[dict[str, object]]:
        """One row per (image, degradation): the losses, the sum of attributions and their relative gap."""
        return [
            {
                "image": image,
                "degradation": degradation,
                "loss_baseline": float(self.loss_baseline[i, k]),
                "loss_target": float(self.loss_target[i, k]),
                "loss_change": float(self.loss_change[i, k]),
                "attribution_sum": float(self.total[i, k]),
                "gap": completeness_gap(float(self.total[i, k]), float(self.loss_change[i, k])),
            }
            for i, image in enumerate(self.images)
            for k, degradation in enumerate(self.degradations)
        ]


def integrate_probe(
    network: nn.Module,
    baseline: State,
    target: State,
    probe: Sequence[PairedImage],
    degradations: Sequence[str],
    layout: FilterLayout,
    rule: Rule,
    autocast: torch.dtype | None = None,
    progress: Progress | None = None,
) -> ProbeIntegral:
    """Integrate every probe image with every degradation: each pass over the path is computed once.

    Args:
        network: any module with the layout's convolutions.
        baseline: θ̄, on the device and in the precision to compute in.
        target: θ.
        probe: paired images; sizes may differ.
        degradations: which of their LR images to use.
        layout: the filters.
        rule: the quadrature.
        autocast: lower precision for the network's operations.
        progress: told after each integral.
    """
    like = next(iter(target.values()))
    shape = (len(probe), len(degradations))
    magnitude = torch.empty(*shape, len(layout), dtype=torch.float64)
    signed = torch.empty_like(magnitude)
    totals, starts, ends = (torch.empty(shape, dtype=torch.float64) for _ in range(3))
    for i, image in enumerate(probe):
        hr = image.hr[None].to(like)
        for k, degradation in enumerate(degradations):
            lr = image.lr[degradation][None].to(like)
            result = integrate(network, baseline, target, lr, hr, rule, autocast)
            magnitude[i, k] = layout.gather({n: a.abs() for n, a in result.attributions.items()})
            signed[i, k] = layout.gather(result.attributions)
            totals[i, k], starts[i, k], ends[i, k] = result.total, result.loss_baseline, result.loss_target
            if progress is not None:
                progress(f"{image.name}, {degradation}")
    names = tuple(image.name for image in probe)
    return ProbeIntegral(names, tuple(degradations), magnitude, signed, totals, starts, ends)
