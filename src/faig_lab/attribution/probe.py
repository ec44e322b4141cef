"""The path integral over a probe: every image with every degradation, reduced to one number per filter.

"Filter" stands for whatever the layout ranks: a weight, a channel or a layer are treated alike.

Nothing but three reductions per (image, degradation) is kept: Σ|a_j|, which FAIG ranks by, Σ a_j, which the
signed share ranks by, and Σ a_j². All come out of the same pass over the path.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from faig_lab.attribution.adaptive import Adaptive, Effort, Judge, integrate_together
from faig_lab.attribution.compute import DEFAULT, Compute, full_precision
from faig_lab.attribution.identity import identity, of_image
from faig_lab.attribution.kept import Kept
from faig_lab.attribution.path import LossPath, PathIntegral, completeness_gap
from faig_lab.attribution.quadrature import Rule, over_pieces
from faig_lab.attribution.scores import contrast
from faig_lab.attribution.spread import Spread
from faig_lab.attribution.weight_paths import STRAIGHT, PathSpec
from faig_lab.data import PairedImage
from faig_lab.filters import FilterLayout, State, first_floating

log = logging.getLogger(__name__)

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
        squared: (I, K, F) Σ_{j∈f} a_j².
        others: (I, K, P) Σ a_j of each parameter that is not ranked (the layout's `others`), biases above all.
        total: (I, K) Σ a_j over all parameters: `signed` and `others` added up.
        alphas: (P,) the points where losses are known, ascending, with 0 and 1.
        losses: (I, K, P) L(γ(α), x); NaN where adaptive quadrature took no gradient.
        points: (I, K) gradient evaluations.
        error: (I, K) estimated relative error of an image's discriminative FAIG scores, by adaptive quadrature
            (`adaptive.ERROR_PER_CHANGE`); NaN with a fixed rule.
        settled: (I, K) whether adaptive quadrature reached its tolerance; False with a fixed rule.
    """

    images: tuple[str, ...]
    degradations: tuple[str, ...]
    magnitude: Tensor
    signed: Tensor
    squared: Tensor
    others: Tensor
    total: Tensor
    alphas: Tensor
    losses: Tensor
    points: Tensor
    error: Tensor
    settled: Tensor

    @property
    def loss_baseline(self) -> Tensor:
        """(I, K) L(θ̄, x)."""
        return self.losses[..., 0]

    @property
    def loss_target(self) -> Tensor:
        """(I, K) L(θ, x)."""
        return self.losses[..., -1]

    @property
    def loss_change(self) -> Tensor:
        """(I, K) L(θ, x) − L(θ̄, x)."""
        return self.loss_target - self.loss_baseline

    def gap(self, degradation: str) -> float:
        """The relative completeness gap of one degradation over the probe: |ΣΣ a − Σ ΔL| / |Σ ΔL|."""
        column = self.degradations.index(degradation)
        return completeness_gap(float(self.total[:, column].sum()), float(self.loss_change[:, column].sum()))

    def effort(self) -> dict[str, object]:
        """What the quadrature took and how far it came, as plain data; no estimate for a fixed rule."""
        estimated = not bool(self.error.isnan().any())
        return {
            "evaluations": int(self.points.sum()),
            "points": [int(self.points.min()), int(self.points.max())],
            "error_estimate": float(self.error.max()) if estimated else None,
            "settled": f"{int(self.settled.sum())} of {self.settled.numel()}" if estimated else None,
        }

    def rows(self) -> list[dict[str, object]]:
        """One row per (image, degradation): losses, sum of attributions, their relative gap, what it took."""
        return [
            {
                "image": image,
                "degradation": degradation,
                "loss_baseline": float(self.loss_baseline[i, k]),
                "loss_target": float(self.loss_target[i, k]),
                "loss_change": float(self.loss_change[i, k]),
                "attribution_sum": float(self.total[i, k]),
                "gap": completeness_gap(float(self.total[i, k]), float(self.loss_change[i, k])),
                "points": int(self.points[i, k]),
                "error_estimate": None if math.isnan(self.error[i, k]) else float(self.error[i, k]),
            }
            for i, image in enumerate(self.images)
            for k, degradation in enumerate(self.degradations)
        ]


@full_precision()
def integrate_probe(
    network: nn.Module,
    baseline: State,
    target: State,
    probe: Sequence[PairedImage],
    degradations: Sequence[str],
    layout: FilterLayout,
    rule: Rule | Adaptive,
    compute: Compute = DEFAULT,
    progress: Progress | None = None,
    kept: Kept | None = None,
    spread: Spread | None = None,
    path: PathSpec = STRAIGHT,
) -> ProbeIntegral:
    """Integrate every probe image with every degradation: each pass over the path is computed once.

    Args:
        network: any module with the layout's convolutions.
        baseline: θ̄, on the device and in the precision to compute in.
        target: θ.
        probe: paired images; sizes may differ.
        degradations: which of their LR images to use.
        layout: the filters.
        rule: the quadrature. An adaptive one adds points image by image, to all degradations of an image alike,
            until the image's discriminative scores (against the mean of the others) have settled.
        compute: how gradients are computed: precision, memory, several points at once.
        progress: told after each integral.
        kept: where each image's sums are kept, and are not computed if they are there.
        spread: over which processes the images are spread; each of them gets the whole result.
        path: which path; where it has a rule of its own, that rule counts.
    """
    rule = path.rule or rule
    like = first_floating(target.values())
    rows: dict[int, dict[str, Tensor]] = {}
    keep, spread = kept or Kept(), spread or Spread()
    same = identity(network, baseline, target, degradations, layout, rule, compute, path)
    steps = rule if isinstance(rule, Adaptive) else over_pieces(rule, path.pieces)
    alphas = _alphas(steps)

    def integrate(image: PairedImage) -> dict[str, Tensor]:
        hr = image.hr[None].to(like)
        inputs = [image.lr[degradation][None].to(like) for degradation in degradations]
        paths = [LossPath(network, baseline, target, lr, hr, compute, path) for lr in inputs]
        integrals, effort = integrate_together(
            [line.gradients for line in paths], paths[0].difference, steps, _judge(paths, layout)
        )
        return _reduce([p.attribute(i) for p, i in zip(paths, integrals, strict=True)], effort, layout, alphas)

    for index, image in enumerate(probe):
        if not spread.own(index):
            continue
        rows[index] = keep(f"integral-{of_image(image, same)}", partial(integrate, image))
        if progress is not None:
            for degradation in degradations:
                progress(f"{image.name}, {degradation}")
    stacked = spread.stacked(rows, _blank(len(degradations), layout, len(alphas)), len(probe))
    places = torch.tensor(alphas, dtype=torch.float64)
    result = ProbeIntegral(tuple(image.name for image in probe), tuple(degradations), alphas=places, **stacked)
    if isinstance(rule, Adaptive):
        _report(result, rule)
    return result


def _judge(paths: Sequence[LossPath], layout: FilterLayout) -> Judge:
    """Discriminative FAIG scores of one image, and the completeness gap with each degradation."""

    def judge(integrals: Sequence[State]) -> tuple[Tensor, Tensor]:
        results = [path.attribute(integral) for path, integral in zip(paths, integrals, strict=True)]
        magnitude = torch.stack([_per_filter(result, layout, torch.abs) for result in results])
        return contrast(magnitude), torch.tensor([result.gap for result in results], dtype=torch.float64)

    return judge


def _alphas(rule: Rule | Adaptive) -> list[float]:
    """Every α where a loss may be known: both ends and the points of the (finest) rule."""
    finest = rule.rules[-1] if isinstance(rule, Adaptive) else rule
    return sorted({0.0, 1.0, *finest.points.tolist()})


def _reduce(
    results: Sequence[PathIntegral], effort: Effort, layout: FilterLayout, alphas: Sequence[float]
) -> dict[str, Tensor]:
    """One image's row of each tensor of a `ProbeIntegral`."""

    def numbers(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)

    return {
        "magnitude": torch.stack([_per_filter(result, layout, torch.abs) for result in results]),
        "signed": torch.stack([_per_filter(result, layout) for result in results]),
        "squared": torch.stack([_per_filter(result, layout, torch.square) for result in results]),
        "others": torch.stack([_others(result, layout) for result in results]),
        "total": numbers([result.total for result in results]),
        "losses": torch.stack([numbers([r.losses.get(alpha, math.nan) for alpha in alphas]) for r in results]),
        "points": torch.full((len(results),), effort.points),
        "error": effort.error,
        "settled": effort.settled,
    }


def _blank(degradations: int, layout: FilterLayout, points: int) -> dict[str, Tensor]:
    """What `_reduce` returns, in shape and type."""
    sums = torch.zeros(degradations, len(layout), dtype=torch.float64)
    number, none = torch.zeros(degradations, dtype=torch.float64), torch.zeros(degradations, dtype=torch.bool)
    return {
        **dict.fromkeys(("magnitude", "signed", "squared"), sums),
        "others": torch.zeros(degradations, len(layout.others), dtype=torch.float64),
        "total": number,
        "losses": torch.zeros(degradations, points, dtype=torch.float64),
        "points": number.long(),
        "error": number,
        "settled": none,
    }


def _per_filter(
    result: PathIntegral, layout: FilterLayout, of: Callable[[Tensor], Tensor] = lambda attribution: attribution
) -> Tensor:
    """(F,) Σ_{j∈f} of(a_j), in float64 on the CPU."""
    names = [layer.name for layer in layout.layers]
    return layout.gather({name: of(result.attributions[name]) for name in names}).double().cpu()


def _others(result: PathIntegral, layout: FilterLayout) -> Tensor:
    """(P,) Σ a_j of each parameter that is not ranked, in float64 on the CPU."""
    sums = [result.attributions[other.name].double().sum() for other in layout.others]
    return torch.stack(sums).cpu() if sums else torch.zeros(0, dtype=torch.float64)


def _report(result: ProbeIntegral, rule: Adaptive) -> None:
    """Say how many points it took, and what did not settle."""
    effort = result.effort()
    low, high = result.points.min(), result.points.max()
    log.info("path integral: %d to %d points, estimated error at most %.2g", low, high, effort["error_estimate"])
    if not result.settled.all():
        log.warning(
            "path integral: the budget of %d points ended before error, top set and completeness gap had settled "
            "to %g (%s did); more of attribution.points, or a larger attribution.tolerance",
            rule.budget,
            rule.tolerance,
            effort["settled"],
        )
