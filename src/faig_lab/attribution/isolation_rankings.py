"""Rankings without training that optimise isolation itself, for a comparison with the learned mask (method.md §9).

FAIG and the signed share measure the part of the loss change that a filter carries. Isolation measures something else:
the output on one degradation should go back to the baseline's output, and the output on all other inputs should stay
the target's. Isolation needs no ground truth. It is a sum of squared distances, so it has a path integral of the same
kind. The outputs y_b of the baseline and y_t of the target take the place of the ground truth:

    1 − [ Σ ‖F(w, x^D) − y_b‖² + mean_{D'} Σ ‖F(w, x^D') − y_t‖² + Σ ‖F(w, x^clean) − y_t‖² ] / E_D

In this module outputs are not clipped, and the path of the integrals is the straight line. The docstring of each method
gives its cost in units of FAIG's path integral.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from faig_lab.attribution.probe import Cost, Problem
from faig_lab.attribution.scores import Contrast, others, ratio, shares
from faig_lab.data import CLEAN, PairedImage
from faig_lab.filters import State
from faig_lab.metrics import restore


def isolation_integral(problem: Problem) -> Tensor:
    """Each filter's signed part of the isolation that is gained along the path from the target to the baseline.

    The integrals of all filters and other parameters add up to the isolation of the baseline; the isolation of the
    target is 0. The method costs (2K + 1) / K of FAIG's path integral, and twice as much as FAIG's for K = 1.

    Args:
        problem: two networks and a probe.
    """
    return _scores(problem, "isolation_integral", absolute=False)


def isolation_share(problem: Problem) -> Tensor:
    """A filter's signed part of the movement to the baseline, minus its absolute parts of the changes on other inputs.

    score_f^D = [ b_f^D − mean_{D'} |s_f^{D'}| − |s_f^clean| ] / E_D, with the signed attributions b of
    Σ ‖F(w, x^D) − y_b‖² and s of Σ ‖F(w, x) − y_t‖². In `isolation_integral` the parts s keep their sign: a filter
    gets a higher score if it compensates, on another input, for the other filters on the path to the baseline. If only
    a few filters are masked, the other filters stay the target's and there is nothing to compensate for. So this method
    takes absolute values. It costs (2K + 1) / K of FAIG's path integral, and twice as much as FAIG's for K = 1.

    Args:
        problem: two networks and a probe.
    """
    return _scores(problem, "isolation_share", absolute=True)


def iterated_isolation(
    problem: Problem, rounds: Annotated[int, Field(ge=1)] = 5, percent: Annotated[float, Field(gt=0, le=100)] = 0.5
) -> Tensor:
    """Set the best filters by `isolation_share` back in several rounds; each round integrates from the masked network.

    In each round the best of the remaining filters are set back to the baseline's values. So later rounds include the
    effect of the earlier rounds on the other inputs. The last integral ranks the filters that were never set back. Only
    the order of the scores has a meaning. The method costs about rounds · (K + 1) of FAIG's path integral.

    Args:
        problem: two networks and a probe.
        rounds: the number of integrations of isolation, > 0.
        percent: the percent of all filters that is set back, in (0, 100], in equal parts over the rounds.

    Raises:
        ValueError: an argument is out of range.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be > 0, not {rounds}")
    if not 0 < percent <= 100:
        raise ValueError(f"percent must be in (0, 100], not {percent}")
    outputs = _outputs(problem)
    problem.costs["iterated_isolation"] = Cost(0, 0, 0.0)
    return torch.stack([_iterated(problem, outputs, name, rounds, percent) for name in problem.degradations])[None]


def share_given_clean(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """The signed share, minus the filter's absolute part of the loss change on clean input in the same unit.

    score_f^D = share_f^D − mean_{D'≠D} |share_f^{D'}| − |Σ_x a_f(x^clean)| / |ΔL^D|. The loss change on clean input is
    nearly 0, so it cannot be a divisor. The method costs (K + 1) / K of FAIG's path integral.

    Args:
        problem: two networks and a probe.
        contrast: subtract the mean or the maximum over the other degradations.
    """
    integral = problem.integral
    share = shares(integral.signed, integral.loss_change)
    on_clean = replace(problem, degradations=(CLEAN,))
    clean = on_clean.integral.signed.sum(0).abs()
    problem.costs["share_given_clean"] = on_clean.costs["path_integral"]
    aside = ratio(clean, integral.loss_change.sum(0).abs()[:, None])
    return (share - others(share.abs(), contrast) - aside)[None]


def share_per_change(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """The signed share's score of a filter divided by the norm of its change ‖θ_f − θ̄_f‖; 0 for no change.

    The method prefers filters with a large effect and a small change. It costs no more than FAIG's path integral.

    Args:
        problem: two networks and a probe.
        contrast: subtract the mean or the maximum over the other degradations.
    """
    share = shares(problem.integral.signed, problem.integral.loss_change)
    names = [layer.name for layer in problem.layout.layers]
    squares = {name: (problem.target[name] - problem.baseline[name]).double().square() for name in names}
    norm = problem.layout.gather(squares).sqrt().cpu()
    return ratio(share - others(share.abs(), contrast), norm)[None]


Outputs = Mapping[tuple[str, str], Sequence[Tensor]]
"""("baseline" or "target", input) → the output of this network for each probe image."""


def _outputs(problem: Problem) -> Outputs:
    return {
        (end, kind): restore(problem.network, state, problem.probe, kind, problem.compute.autocast)
        for end, state in (("baseline", problem.baseline), ("target", problem.target))
        for kind in (CLEAN, *problem.degradations)
    }


def _scores(problem: Problem, name: str, *, absolute: bool) -> Tensor:
    """Return (1, K, F) gains of all filters, and record the cost of the integrals under the method's name."""
    distances = _Distances(problem, problem.target, _outputs(problem))
    scores = torch.stack([distances.gain(one, absolute=absolute) for one in problem.degradations])[None]
    problem.costs[name] = distances.cost
    return scores


class _Distances:
    """The integrals of the terms of isolation, on the path from a network to the baseline; each is computed once.

    Args:
        problem: two networks and a probe.
        start: the weights of the network at the start of the path.
        outputs: outputs of the problem's two networks.

    Attributes:
        cost: the cost of the integrals so far.
    """

    def __init__(self, problem: Problem, start: State, outputs: Outputs) -> None:
        self.problem, self.start, self.outputs = problem, start, outputs
        self.cost = Cost(0, 0, 0.0)
        self._known: dict[tuple[str, str], Tensor] = {}

    def gain(self, degradation: str, *, absolute: bool = False) -> Tensor:
        """Return (F,) each filter's part of the isolation that is gained along the path to the baseline.

        Args:
            degradation: the degradation whose function should be removed.
            absolute: count every change on other inputs as harm, whatever its sign.
        """
        rest = [name for name in self.problem.degradations if name != degradation]
        sums = self._integral("baseline", degradation)
        for name in (CLEAN, *rest):
            aside = self._integral("target", name) / (1 if name == CLEAN else len(rest))
            sums = sums - aside.abs() if absolute else sums + aside
        pairs = zip(self.outputs["target", degradation], self.outputs["baseline", degradation], strict=True)
        energy = math.fsum(float((y_t.double() - y_b.double()).square().sum()) for y_t, y_b in pairs)
        # The path of the integrals goes from the baseline to the start: an increase of the bracket lowers isolation.
        return sums / energy if energy else torch.zeros_like(sums)

    def _integral(self, end: str, kind: str) -> Tensor:
        """Return (F,) signed attributions of Σ ‖F(w, x) − y‖² from the baseline to the start, summed over the probe."""
        if (end, kind) not in self._known:
            problem, outputs = self.problem, self.outputs[end, kind]
            images = zip(problem.probe, outputs, strict=True)
            probe = tuple(PairedImage(x.name, y, {CLEAN: x.lr[CLEAN], kind: x.lr[kind]}) for x, y in images)
            integral, cost = problem.integrate(problem.rule, target=self.start, probe=probe, degradations=(kind,))
            self.cost = self.cost.plus(cost)
            self._known[end, kind] = integral.signed.sum((0, 1))
        return self._known[end, kind]


def _iterated(problem: Problem, outputs: Outputs, degradation: str, rounds: int, percent: float) -> Tensor:
    """Return (F,) scores of one degradation: higher for filters that were set back earlier."""
    count = len(problem.layout)
    total = max(1, round(count * percent / 100))
    state, chosen, order = dict(problem.target), list[int](), list[int]()
    for number in range(1, rounds + 1):
        distances = _Distances(problem, state, outputs)
        gains = distances.gain(degradation, absolute=True)
        problem.costs["iterated_isolation"] = problem.costs["iterated_isolation"].plus(distances.cost)
        gains[chosen] = -torch.inf
        order = torch.argsort(gains, descending=True, stable=True).tolist()
        chosen += order[: round(total * number / rounds) - len(chosen)]
        for name, places in problem.layout.mask(chosen).items():
            state[name] = torch.where(places.to(state[name].device), problem.baseline[name], problem.target[name])
    taken = set(chosen)
    ranked = [*chosen, *(unit for unit in order if unit not in taken)]
    scores = torch.empty(count, dtype=torch.float64)
    scores[ranked] = torch.arange(count, 0, -1, dtype=torch.float64)
    return scores
