"""Scores of filters, and what can be done with them."""

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
    """Two networks, the scores of their filters, and what can be done with them.

    Attributes:
        network: the module; its own weights do not matter and are never changed.
        baseline: θ̄.
        target: θ.
        attribution: the scores of every method: `attribution.scores[method]` is (draws, K, F).
        method: whose scores `scores`, `discovered`, `mask` and `modulate` use; `by` chooses another.
    """

    network: nn.Module = field(repr=False)
    baseline: State = field(repr=False)
    target: State = field(repr=False)
    attribution: Attribution = field(repr=False)
    method: str

    @property
    def degradations(self) -> tuple[str, ...]:
        """The K degradations that are told apart."""
        return self.attribution.degradations

    @property
    def layout(self) -> FilterLayout:
        """Names of the F filters (or weights, channels, layers): `layout.address(index)` says where one sits."""
        return self.attribution.layout

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that there are scores of."""
        return tuple(self.attribution.scores)

    @property
    def scores(self) -> dict[str, Tensor]:
        """Degradation → (F,) scores, float64 on the CPU; higher = more responsible for removing it.

        Of a method with several draws the first one.
        """
        rows = self.attribution.scores[self.method][0]
        return dict(zip(self.degradations, rows, strict=True))

    def by(self, method: str) -> Self:
        """The same with the scores of another method.

        Raises:
            UserError: there are none.
        """
        return replace(self, method=choice(method, self.methods, "method"))

    def discovered(self, degradation: str, percent: float = 1.0) -> Tensor:
        """Flat indices of the top `percent` % of all filters, best first; none at 0 %.

        Raises:
            UserError: no such degradation, or a percent that is not in 0..100 or is too small to select a filter.
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
        """The target with the discovered filters of a degradation set back to the baseline's values."""
        return mask(self.target, self.baseline, self.layout, self.discovered(degradation, percent))

    def modulate(self, degradation: str, strength: float, percent: float = 1.0) -> dict[str, Tensor]:
        """The target with these filters at θ̄ + λ(θ − θ̄); λ = `strength`, 0 is masked, 1 the target."""
        return modulate(self.target, self.baseline, self.layout, self.discovered(degradation, percent), strength)

    def isolation(
        self,
        degradation: str,
        percent: float = 1.0,
        *,
        images: Mapping[str, Images],
        weights: Weights | None = None,
    ) -> Isolation:
        """How near masking comes to the ideal edit: own function back at the baseline, everything else untouched.

        Args:
            degradation: the masked one, a key of `images`.
            percent: of the filters that are masked.
            images: input → LR images in [0, 1], e.g. `{"blur": blurred, "noise": noisy, "clean": clean}`; ground truth
                is not needed. Use images that the attribution has not seen.
            weights: evaluate these in place of the masked weights, e.g. those of `faig_lab.mask` or of another method.

        Raises:
            UserError: a name or an image does not fit, or baseline and target agree on the degradation.
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
    """What `attribute` found.

    Attributes:
        problem: what was attributed; `problem.integral` holds the path integrals image by image.
    """

    problem: Problem = field(repr=False)

    @cached_property
    def shares(self) -> dict[str, Tensor]:
        """Degradation → (F,) each filter's exact signed share of the loss change over all images.

        With the biases and all other parameters they add up to 1, within the completeness gap.
        """
        integral = self.problem.integral
        # With one degradation there is nothing to contrast with, so the score is the share itself.
        rows = [
            signed_share_scores(integral.signed[:, [k]], integral.loss_change[:, [k]])[0]
            for k in range(len(self.degradations))
        ]
        return dict(zip(self.degradations, rows, strict=True))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes these numbers doubtful, one sentence each: a large completeness gap, parameters left out."""
        return self.attribution.warnings

    @cached_property
    def barriers(self) -> dict[str, float]:
        """Input → how far the PSNR falls below its worse end along the path, in dB on the images; `clean` too."""
        return profile(self.problem).barriers

    @property
    def completeness_gap(self) -> dict[str, float]:
        """Degradation → relative error of the path integral: |Σ attributions − loss change| / |loss change|."""
        return {name: self.problem.integral.gap(name) for name in self.degradations}
