"""The problem of an attribution, two networks and a probe, and the path integral over the probe.

"Filter" stands for the unit of the layout: a weight, a channel or a layer is treated in the same way.

`integrate_probe` is the only way from a function of the output to its gradients over the probe. FAIG, the signed
share, Taylor, Fisher and the rankings by isolation integrate the loss; input gradients integrate the sum of the output.
Every image is integrated with every degradation. The result keeps three sums for each filter: Σ|a_j| ranks by FAIG,
Σ a_j ranks by the signed share, and Σ a_j² by Fisher. The same pass over the path gives all three sums.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from faig_lab.attribution.cache import ALONE, ResultCache, Shard, cache_key, image_key
from faig_lab.attribution.compute import DEFAULT, Compute, full_precision
from faig_lab.attribution.losses import SQUARED_ERROR, Loss, Truth
from faig_lab.attribution.path import (
    GradientPath,
    LossPath,
    PathIntegral,
    Tensors,
    completeness_gap,
    integrate_together,
)
from faig_lab.attribution.quadrature import Adaptive, Effort, Rule, over_pieces, right
from faig_lab.attribution.scores import contrast
from faig_lab.attribution.weight_paths import STRAIGHT, PathSpec
from faig_lab.data import CLEAN, PairedImage
from faig_lab.filters import FilterLayout, State, first_floating, trainable
from faig_lab.granularity import Granularity

log = logging.getLogger(__name__)

Progress = Callable[[str], None]
"""A function that is called with the name of each finished (image, degradation)."""


class Cost(NamedTuple):
    """The cost of a computation, over all images, degradations and processes.

    Attributes:
        passes: forward and backward passes of the network, each of one input image or crop. Passes without gradients
            are not counted.
        lr_pixels: LR pixels that went through the network in these passes. Crops may be smaller than images.
        seconds: elapsed time: of the first process for a path integral, of all processes together for a learned mask.
            The time of an interrupted run before its resumption may be missing.
    """

    passes: int
    lr_pixels: int
    seconds: float

    def plus(self, other: "Cost") -> "Cost":
        """Return the sum of both costs."""
        return Cost(self.passes + other.passes, self.lr_pixels + other.lr_pixels, self.seconds + other.seconds)

    def counts(self) -> dict[str, int]:
        """Return the numbers that are equal in every run: all but the seconds."""
        return {"passes": self.passes, "lr_pixels": self.lr_pixels}


@dataclass(frozen=True)
class ProbeIntegral:
    """Signed path integrals of I probe images × K degradations over F filters, in float64 on the CPU.

    Attributes:
        images: names, in order.
        degradations: names, in order.
        magnitude: (I, K, F) Σ_{j∈f} |a_j|: the absolute value is taken for each weight, after the integral.
        signed: (I, K, F) Σ_{j∈f} a_j.
        squared: (I, K, F) Σ_{j∈f} a_j².
        others: (I, K, P) Σ a_j of each parameter that is not ranked (the layout's `others`), mostly biases.
        total: (I, K) Σ a_j over all parameters: the sum of `signed` and `others`.
        alphas: (P,) the points with known losses, ascending, with 0 and 1.
        losses: (I, K, P) L(γ(α), x), or the value of another `ProbeFunction`; NaN where adaptive quadrature took no
            gradient.
        points: (I, K) the number of gradient evaluations.
        error: (I, K) estimated relative error of the discriminative FAIG scores of an image, by adaptive quadrature
            (`quadrature.ERROR_PER_CHANGE`); NaN for a fixed rule.
        settled: (I, K) whether adaptive quadrature reached its tolerance; False for a fixed rule.
        cost: the cost in all processes together.
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
    cost: Cost

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
        """Compute the relative completeness gap of one degradation over the probe: |ΣΣ a − Σ ΔL| / |Σ ΔL|."""
        column = self.degradations.index(degradation)
        return completeness_gap(float(self.total[:, column].sum()), float(self.loss_change[:, column].sum()))

    def effort(self) -> dict[str, object]:
        """Return the points of the quadrature and its error estimate as plain data; None for a fixed rule."""
        estimated = not bool(self.error.isnan().any())
        return {
            "evaluations": int(self.points.sum()),
            "points": [int(self.points.min()), int(self.points.max())],
            "error_estimate": float(self.error.max()) if estimated else None,
            "settled": f"{int(self.settled.sum())} of {self.settled.numel()}" if estimated else None,
        }

    def rows(self) -> list[dict[str, object]]:
        """Return one row per (image, degradation): losses, sum of attributions, their relative gap, points."""
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


@dataclass(frozen=True)
class Problem:
    """Two networks and a probe: the input of every method.

    A problem that `replace` makes from another problem has computed nothing yet.

    Args:
        network: the module, in evaluation mode. Its own weights are neither used nor changed.
        baseline: θ̄, on the device and in the precision of the computation.
        target: θ. Buffers, such as running statistics, are no weights: they are the target's on the whole path.
        probe: paired images.
        degradations: the K degradations to distinguish.
        rule: the quadrature, fixed or adaptive.
        seed: seed of the methods that draw random numbers.
        compute: how gradients are computed: precision, memory, several points at once.
        progress: called after each integral.
        granularity: the unit that is scored: a filter, a weight, a channel or a layer.
        rank_others: score the parameters that are no kernels, such as biases, as well.
        path: the path along which the loss gradient is integrated.
        cache: keeps the integrals of each image, so that an interrupted run can be resumed.
        loss: a function of the output, a sum over pixels, whose gradient is integrated.
        truth: the image that the output is compared with: "ground_truth", or "target" for the target's own output.
        shard: the probe images that this process integrates. With several processes, each process must run the same
            methods in the same order.

    Attributes:
        costs: computation → its cost: `path_integral`, which `faig` and `signed_share` share, `gradient_at_target`,
            `learned_mask`, and methods with path integrals of their own.
    """

    network: nn.Module
    baseline: State
    target: State
    probe: tuple[PairedImage, ...]
    degradations: tuple[str, ...]
    rule: Rule | Adaptive
    seed: int = 0
    compute: Compute = DEFAULT
    progress: Progress | None = field(default=None, repr=False)
    granularity: Granularity = "filter"
    rank_others: bool = False
    path: PathSpec = STRAIGHT
    cache: ResultCache = field(default_factory=ResultCache, repr=False, compare=False)
    shard: Shard = field(default=ALONE, repr=False, compare=False)
    loss: Loss = SQUARED_ERROR
    truth: Truth = "ground_truth"
    costs: dict[str, Cost] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def layout(self) -> FilterLayout:
        """The filters of the network, or its other scored units."""
        return FilterLayout.of(self.network, self.granularity, self.rank_others)

    @cached_property
    def integral(self) -> ProbeIntegral:
        """The signed path integrals. They are computed once, when the first method needs them."""
        integral = integrate_probe(self, self.rule, self.path)
        self.costs["path_integral"] = integral.cost
        return integral

    @cached_property
    def at_target(self) -> ProbeIntegral:
        """The path integrals with the gradient at the target on the whole path: (θ_j − θ̄_j) ∂L(θ, x)/∂θ_j."""
        integral = integrate_probe(self, right(1))
        self.costs["gradient_at_target"] = integral.cost
        return integral

    def integrate(self, rule: Rule | Adaptive, path: PathSpec = STRAIGHT, **changes: Any) -> tuple[ProbeIntegral, Cost]:
        """Return path integrals for a method of its own, and their cost; cached and sharded like `integral`.

        Args:
            rule: the quadrature.
            path: the path in weight space.
            changes: fields of the problem (target, probe, degradations) with other values for these integrals.
        """
        integral = integrate_probe(replace(self, **changes), rule, path)
        return integral, integral.cost

    def loss_path(self, image: PairedImage, degradation: str, path: PathSpec) -> LossPath:
        """Return the loss of an image with a degradation along a path in weight space, and its gradients."""
        lr, truth = on_device(self, image.lr[degradation], image.hr)
        if self.truth == "target":
            truth = torch.empty_like(truth)
            with torch.no_grad():
                for tile in self.compute.tiles(self.network, self.target, lr, image.scale):
                    output = self.compute.output(self.network, self.target, tile.input(lr))
                    tile.core_of_image(truth).copy_(tile.core_of_output(output))
        ends = self.baseline, self.target
        return LossPath(self.network, *ends, lr, truth, self.compute, path, loss=self.loss)

    def crop(self, image: PairedImage, side: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Cut all inputs of an image and its ground truth at one random place.

        Args:
            image: an image of the probe.
            side: the largest side of the crop in LR pixels; a smaller image is used whole.
            rng: draws the place.

        Returns:
            (K + 1, 3, h, w) the degradations and then clean input, and (3, sh, sw) the ground truth, on the device and
            in the precision of the networks.
        """
        inputs, s = torch.stack([image.lr[name] for name in (*self.degradations, CLEAN)]), image.scale
        height, width = (min(side, length) for length in inputs.shape[-2:])
        top, left = (int(rng.integers(n - m + 1)) for n, m in zip(inputs.shape[-2:], (height, width), strict=True))
        hr = image.hr[:, s * top : s * (top + height), s * left : s * (left + width)]
        weight = first_floating(self.target.values())
        return inputs[..., top : top + height, left : left + width].to(weight), hr.to(weight)

    @property
    def is_integrated(self) -> bool:
        """Whether the path integrals have been computed."""
        return "integral" in vars(self)

    @property
    def shape(self) -> tuple[int, int]:
        """(K, F)."""
        return len(self.degradations), len(self.layout)

    def straight(self, **changes: Any) -> "Problem":
        """Return the problem on the straight line with some fields changed: other networks have no bent path."""
        return replace(self, path=STRAIGHT, progress=None, **changes)

    def alone(self) -> "Problem":
        """Return the same problem in one process, with the integrals that the processes have computed together.

        The problem has no cache: a cache with the integrals of every study could fill a disk.
        """
        alone = replace(self, shard=ALONE, cache=ResultCache())
        for name in ("layout", "integral", "at_target"):
            if name in vars(self):
                vars(alone)[name] = getattr(self, name)
        alone.costs.update(self.costs)
        return alone


class ProbeFunction(NamedTuple):
    """A function of the output whose gradients are integrated over the probe.

    Attributes:
        name: part of the names of cached results.
        path: problem, image, degradation and path in weight space → the function and its gradients.
        is_complete: whether the integrals add up to the change of the function. Adaptive quadrature then waits for the
            discriminative FAIG scores of an image and the completeness gap, otherwise for Σ|·| per filter.
    """

    name: str
    path: Callable[[Problem, PairedImage, str, PathSpec], GradientPath]
    is_complete: bool


def on_device(problem: Problem, *images: Tensor) -> list[Tensor]:
    """Return images (3, H, W) as (1, 3, H, W), on the device and in the precision of the networks."""
    weight = first_floating(problem.target.values())
    return [image[None].to(weight) for image in images]


def _criterion(
    paths: Sequence[GradientPath], layout: FilterLayout, is_complete: bool, integrals: Sequence[Tensors]
) -> tuple[Tensor, Tensor]:
    """Return the scores (K, F) of one image and the gaps (K,) of its integrals: a `ConvergenceCriterion`."""
    results = [path.attribute(integral) for path, integral in zip(paths, integrals, strict=True)]
    magnitude = torch.stack([per_filter(result, layout, torch.abs) for result in results])
    if not is_complete:
        return magnitude, torch.zeros(len(results))
    return contrast(magnitude), torch.tensor([result.gap for result in results], dtype=torch.float64)


LOSS = ProbeFunction("integral", Problem.loss_path, is_complete=True)
"""The loss ‖F(γ(α), x) − x_gt‖² along a path of weights."""


@full_precision()
def integrate_probe(
    problem: Problem, rule: Rule | Adaptive, path: PathSpec = STRAIGHT, *, function: ProbeFunction = LOSS
) -> ProbeIntegral:
    """Integrate every probe image with every degradation. Each pass over the path is computed once.

    Args:
        problem: two networks and a probe, whose images may differ in size. The problem's own rule and path are not
            used. Each process of `problem.shard` gets the whole result. `problem.progress` is called after each
            integral.
        rule: the quadrature. An adaptive rule adds points image by image, to all degradations of an image at once,
            until the scores of the image have settled.
        path: the path in weight space. If the path has a rule of its own, that rule is used.
        function: the function whose gradients are integrated.
    """
    start, rule = time.perf_counter(), path.rule or rule
    layout, degradations, rows = problem.layout, problem.degradations, dict[int, Tensors]()
    key = cache_key(problem, rule, path)
    steps = rule if isinstance(rule, Adaptive) else over_pieces(rule, path.pieces)
    finest = steps.rules[-1] if isinstance(steps, Adaptive) else steps
    alphas = sorted({0.0, 1.0, *finest.points.tolist()})  # the points with a possibly known loss
    for place, image in problem.shard.assigned(problem.probe):
        name = f"{function.name}-{image_key(image, key)}"
        row = problem.cache.get(name)
        if row is None:
            paths = [function.path(problem, image, degradation, path) for degradation in degradations]
            criterion = partial(_criterion, paths, layout, function.is_complete)
            integrals, effort = integrate_together(
                [one.gradients for one in paths], paths[0].weights.at(0.0), steps, criterion
            )
            results: list[PathIntegral] = []
            for one, integral in zip(paths, integrals, strict=True):
                results.append(one.attribute(integral))
            row = _reduce(results, effort, layout, alphas)
            problem.cache.put(name, row)
        rows[place] = row
        if problem.progress is not None:
            for degradation in degradations:
                problem.progress(f"{image.name}, {degradation}")
    stacked = problem.shard.stacked(rows, _blank(problem, alphas) if not rows else rows[place], len(problem.probe))
    pixels = torch.tensor([image.lr[degradations[0]][0].numel() for image in problem.probe])
    passes = stacked["points"]
    result = ProbeIntegral(
        images=tuple(image.name for image in problem.probe),
        degradations=tuple(degradations),
        alphas=torch.tensor(alphas, dtype=torch.float64),
        cost=Cost(int(passes.sum()), int((passes.sum(1) * pixels).sum()), time.perf_counter() - start),
        **stacked,
    )
    if isinstance(rule, Adaptive) and function is LOSS:
        _report(result, rule)
    return result


def _reduce(
    results: Sequence[PathIntegral], effort: Effort, layout: FilterLayout, alphas: Sequence[float]
) -> dict[str, Tensor]:
    """Return one image's row of each tensor of a `ProbeIntegral`."""
    return {
        "magnitude": torch.stack([per_filter(result, layout, torch.abs) for result in results]),
        "signed": torch.stack([per_filter(result, layout) for result in results]),
        "squared": torch.stack([per_filter(result, layout, torch.square) for result in results]),
        "others": torch.stack([_others(result, layout) for result in results]),
        "total": torch.tensor([result.total for result in results], dtype=torch.float64),
        "losses": torch.tensor([[r.losses.get(a, math.nan) for a in alphas] for r in results], dtype=torch.float64),
        "points": torch.full((len(results),), effort.points),
        "error": effort.error,
        "settled": effort.settled,
    }


def _blank(problem: Problem, alphas: Sequence[float]) -> dict[str, Tensor]:
    """Return a row with the shapes and types of every row, for a process that has no image."""
    count = len(problem.degradations)
    zero = PathIntegral({name: torch.zeros_like(problem.target[name]) for name in trainable(problem.network)}, {})
    effort = Effort(0, torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.bool))
    return _reduce([zero] * count, effort, problem.layout, alphas)


def per_filter(
    result: PathIntegral, layout: FilterLayout, of: Callable[[Tensor], Tensor] = lambda attribution: attribution
) -> Tensor:
    """Return (F,) Σ_{j∈f} of(a_j), in float64 on the CPU."""
    names = [layer.name for layer in layout.layers]
    return layout.gather({name: of(result.attributions[name]) for name in names}).double().cpu()


def _others(result: PathIntegral, layout: FilterLayout) -> Tensor:
    """Return (P,) Σ a_j of each parameter that is not ranked, in float64 on the CPU."""
    sums = [result.attributions[other.name].double().sum() for other in layout.others]
    return torch.stack(sums).cpu() if sums else torch.zeros(0, dtype=torch.float64)


def _report(result: ProbeIntegral, rule: Adaptive) -> None:
    """Log the number of points, and warn if scores have not settled."""
    effort = result.effort()
    low, high = result.points.min(), result.points.max()
    log.info("path integral: %d to %d points, estimated error at most %.2g", low, high, effort["error_estimate"])
    if not result.settled.all():
        log.warning(
            "path integral: the budget of %d points ended before error, top set and completeness gap had settled "
            "to %g (%s did); use more points or a larger tolerance",
            rule.budget,
            rule.tolerance,
            effort["settled"],
        )
