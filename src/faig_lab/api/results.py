"""Scores of filters, with functions that mask, modulate and evaluate."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

from torch import Tensor, nn

from faig_lab.api.isolation import Images, Isolation, isolation_of
from faig_lab.api.weights import Weights, choice, mask, modulate, state_of
from faig_lab.attribution import Attribution, Problem, count_of, discovered, signed_share_scores
from faig_lab.attribution.barrier import profile
from faig_lab.config.rules import smallest_percent
from faig_lab.errors import UserError
from faig_lab.filters import FilterLayout, State


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores:
    """Two networks and the scores of their filters.

    Attributes:
        network: the module. Its own weights are neither used nor changed.
        baseline: θ̄.
        target: θ.
        attribution: the scores of every method: `attribution.scores[method]` is (draws, K, F).
        method: the method whose scores are used by `scores`, `discovered`, `mask` and `modulate`. `by` chooses another.
    """

    network: nn.Module = field(repr=False)
    baseline: State = field(repr=False)
    target: State = field(repr=False)
    attribution: Attribution = field(repr=False)
    method: str

    @property
    def degradations(self) -> tuple[str, ...]:
        """Return the names of the K degradations."""
        return self.attribution.degradations

    @property
    def layout(self) -> FilterLayout:
        """Return the layout of the F filters or other units. `layout.address(index)` is the position of a unit."""
        return self.attribution.layout

    @property
    def methods(self) -> tuple[str, ...]:
        """Return the names of the methods that have scores."""
        return tuple(self.attribution.scores)

    @property
    def scores(self) -> dict[str, Tensor]:
        """Return degradation → (F,) scores, float64 on the CPU. A higher score means more responsible for its removal.

        If the method has several draws, these are the scores of the first draw.
        """
        rows = self.attribution.scores[self.method][0]
        return dict(zip(self.degradations, rows, strict=True))

    def by(self, method: str) -> Self:
        """Return the same networks with the scores of another method.

        Raises:
            UserError: the method has no scores.
        """
        return replace(self, method=choice(method, self.methods, "method"))

    def discovered(self, degradation: str, percent: float = 1.0) -> Tensor:
        """Return the flat indices of the top `percent` % of all filters, the best first; none at 0 %.

        Raises:
            UserError: there is no such degradation, or the percent is not in 0..100 or too small to select a filter.
        """
        if not 0 <= percent <= 100:
            raise UserError(f"percent: {percent:g} is not in 0..100")
        if percent and not count_of(percent, len(self.layout)):
            smallest = smallest_percent(len(self.layout))
            raise UserError(
                f"percent: {percent:g} % of {len(self.layout):,} {self.layout.word} is none; the smallest percent that "
                f"selects one is {smallest:g}"
            )
        return discovered(self.scores[choice(degradation, self.degradations, "degradation")], percent)

    def mask(self, degradation: str, percent: float = 1.0) -> dict[str, Tensor]:
        """Return the target with the discovered filters of a degradation set back to the baseline's values."""
        return mask(self.target, self.baseline, self.layout, self.discovered(degradation, percent))

    def modulate(self, degradation: str, strength: float, percent: float = 1.0) -> dict[str, Tensor]:
        """Return the target with these filters at θ̄ + λ(θ − θ̄), λ = `strength`: 0 is masked, 1 is the target."""
        return modulate(self.target, self.baseline, self.layout, self.discovered(degradation, percent), strength)

    def isolation(
        self,
        degradation: str,
        percent: float = 1.0,
        *,
        images: Mapping[str, Images],
        weights: Weights | None = None,
    ) -> Isolation:
        """Compute the isolation of masking: how close it is to an edit that removes one function and changes no other.

        Args:
            degradation: the masked degradation, a key of `images`.
            percent: the percentage of filters that is masked.
            images: input → LR images in [0, 1], e.g. `{"blur": blurred, "noise": noisy, "clean": clean}`. Ground truth
                is not needed. Use images that the attribution has not used.
            weights: weights to evaluate in place of the masked weights, e.g. those of `faig_lab.mask`.

        Raises:
            UserError: a name or an image does not fit, or baseline and target have the same output on the degradation.
        """
        masked = self.mask(degradation, percent) if weights is None else state_of(weights, self.network, "weights")
        return isolation_of(
            self.network,
            baseline=self.baseline,
            target=self.target,
            masked=masked,
            degradation=degradation,
            images=images,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Result(Scores):
    """The result of `attribute`.

    Attributes:
        problem: the networks, images and settings of the attribution. `problem.integral` holds the path integrals image
            by image.
    """

    problem: Problem = field(repr=False)

    @cached_property
    def shares(self) -> dict[str, Tensor]:
        """Return degradation → (F,) each filter's exact signed share of the loss change over all images.

        With the shares of biases and all other parameters they add up to 1, within the completeness gap.
        """
        integral = self.problem.integral
        # A single degradation has no contrast, so its score is the share itself.
        rows = [
            signed_share_scores(integral.signed[:, [k]], integral.loss_change[:, [k]])[0]
            for k in range(len(self.degradations))
        ]
        return dict(zip(self.degradations, rows, strict=True))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return one sentence for each reason to doubt the scores: a large completeness gap, unranked parameters."""
        return self.attribution.warnings

    @cached_property
    def barriers(self) -> dict[str, float]:
        """Return input → barrier in dB: how far the PSNR along the path falls below its lower endpoint."""
        return profile(self.problem).barriers

    @property
    def completeness_gap(self) -> dict[str, float]:
        """Return degradation → relative error of the path integral, |Σ attributions − loss change| / |loss change|."""
        return {name: self.problem.integral.gap(name) for name in self.degradations}
