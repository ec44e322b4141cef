"""Rankings without training that aim at isolation itself, to be compared with the learned mask (method.md §9).

FAIG and the signed share ask how much of the loss change a filter carries. Isolation asks something else: the output
has to go back to the baseline's on one degradation and must stay the target's on all other inputs. Isolation needs no
ground truth. It is made of squared distances, so it has a path integral of the same kind, with the outputs y_b of the
baseline and y_t of the target in the place of the ground truth:

    1 − [ Σ ‖F(w, x^D) − y_b‖² + mean_{D'} Σ ‖F(w, x^D') − y_t‖² + Σ ‖F(w, x^clean) − y_t‖² ] / E_D

Outputs are not clipped here, and the path of these integrals is the straight line. Each method names its cost in units
of FAIG's path integral.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from faig_lab.attribution.probe import Cost
from faig_lab.attribution.problem import Problem
from faig_lab.attribution.scores import Contrast, others, shares
from faig_lab.data import CLEAN, PairedImage
from faig_lab.filters import State
from faig_lab.metrics import restore


def isolation_integral(problem: Problem) -> Tensor:
    """Each filter's signed part of the isolation that is won on the way from the target to the baseline.

    The integrals of all filters and other parameters add up to the isolation of the baseline (the target's is 0). It
    costs (2K + 1) / K of FAIG's path integral, and twice as much as FAIG's for K = 1.

    Args:
        problem: two networks and a probe.
    """
    return _scores(problem, "isolation_integral", absolute=False)


def isolation_share(problem: Problem) -> Tensor:
    """A filter's signed part of the own function's way back, minus its absolute parts of what happens to other inputs.

    score_f^D = [ b_f^D − mean_{D'} |s_f^{D'}| − |s_f^clean| ] / E_D, with the signed attributions b of
    Σ ‖F(w, x^D) − y_b‖² and s of Σ ‖F(w, x) − y_t‖². In `isolation_integral` the parts s keep their sign: a filter has
    a merit there if it makes up, on another input, for what the other filters do on the way to the baseline. The merit
    is gone where the other filters stay the target's, so it is not counted here. The method costs (2K + 1) / K of
    FAIG's path integral, and twice as much as FAIG's for K = 1.

    Args:
        problem: two networks and a probe.
    """
    return _scores(problem, "isolation_share", absolute=True)


def iterated_isolation(
    problem: Problem, rounds: Annotated[int, Field(ge=1)] = 5, percent: Annotated[float, Field(gt=0, le=100)] = 0.5
) -> Tensor:
    """Set the best filters by `isolation_share` back a few at a time, and integrate anew from the masked network.

    In each round the best of the remaining filters are set back to the baseline's values. So later rounds see what the
    earlier ones did to the other inputs. The last integral ranks the filters that were never set back; only the order
    of the scores has a meaning. It costs about rounds · (K + 1) of FAIG's path integral.

    Args:
        problem: two networks and a probe.
        rounds: how often isolation is integrated, > 0.
        percent: of all filters, in (0, 100]; they are set back in equal parts over the rounds.
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
    nearly 0, so nothing is divided by it. It costs (K + 1) / K of FAIG's path integral.

    Args:
        problem: two networks and a probe.
        contrast: minus the mean or the maximum over the other degradations.
    """
    integral = problem.integral
    share = shares(integral.signed, integral.loss_change)
    on_clean = replace(problem, degradations=(CLEAN,))
    clean = on_clean.integral.signed.sum(0).abs()
    problem.costs["share_given_clean"] = on_clean.costs["path_integral"]
    change = integral.loss_change.sum(0).abs()[:, None]
    aside = torch.where(change == 0, 0.0, clean / torch.where(change == 0, 1.0, change))
    return (share - others(share.abs(), contrast) - aside)[None]


def share_per_change(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """The signed share's score of a filter divided by the norm of its change ‖θ_f − θ̄_f‖; 0 for no change.

    It prefers filters that do much by a small change. It costs nothing beyond FAIG's path integral.

    Args:
        problem: two networks and a probe.
        contrast: minus the mean or the maximum over the other degradations.
    """
    share = shares(problem.integral.signed, problem.integral.loss_change)
    names = [layer.name for layer in problem.layout.layers]
    squares = {name: (problem.target[name] - problem.baseline[name]).double().square() for name in names}
    norm = problem.layout.gather(squares).sqrt().cpu()
    return torch.where(norm == 0, 0.0, (share - others(share.abs(), contrast)) / torch.where(norm == 0, 1.0, norm))[
        None
    ]


Outputs = Mapping[tuple[str, str], Sequence[Tensor]]
"""("baseline" or "target", input) → that network's output for each probe image."""


def _outputs(problem: Problem) -> Outputs:
    return {
        (end, kind): restore(problem.network, state, problem.probe, kind, problem.compute.autocast)
        for end, state in (("baseline", problem.baseline), ("target", problem.target))
        for kind in (CLEAN, *problem.degradations)
    }


def _scores(problem: Problem, name: str, *, absolute: bool) -> Tensor:
    """(1, K, F) gains of all filters; what the integrals took is noted under the method's name."""
    distances = _Distances(problem, problem.target, _outputs(problem))
    scores = torch.stack([distances.gain(one, absolute=absolute) for one in problem.degradations])[None]
    problem.costs[name] = distances.cost
    return scores


class _Distances:
    """The integrals that isolation is made of, from some network to the baseline; each is computed once.

    Args:
        problem: two networks and a probe.
        start: weights that the path starts from.
        outputs: of the problem's two networks.

    Attributes:
        cost: of the integrals so far.
    """

    def __init__(self, problem: Problem, start: State, outputs: Outputs) -> None:
        self.problem, self.start, self.outputs = problem, start, outputs
        self.cost = Cost(0, 0, 0.0)
        self._known: dict[tuple[str, str], Tensor] = {}

    def gain(self, degradation: str, *, absolute: bool = False) -> Tensor:
        """(F,) each filter's part of the isolation that is won on the way to the baseline.

        Args:
            degradation: the one whose function is to go.
            absolute: count what happens to other inputs as harm, whatever its sign.
        """
        rest = [name for name in self.problem.degradations if name != degradation]
        sums = self._integral("baseline", degradation)
        for name in (CLEAN, *rest):
            aside = self._integral("target", name) / (1 if name == CLEAN else len(rest))
            sums = sums - aside.abs() if absolute else sums + aside
        pairs = zip(self.outputs["target", degradation], self.outputs["baseline", degradation], strict=True)
        energy = math.fsum(float((y_t.double() - y_b.double()).square().sum()) for y_t, y_b in pairs)
        # The path of the integrals goes from the baseline to the start: what the bracket gains there, isolation loses.
        return sums / energy if energy else torch.zeros_like(sums)

    def _integral(self, end: str, kind: str) -> Tensor:
        """(F,) signed attributions of Σ ‖F(w, x) − y‖² from the baseline to the start, added up over the probe."""
        if (end, kind) not in self._known:
            problem, outputs = self.problem, self.outputs[end, kind]
            images = zip(problem.probe, outputs, strict=True)
            probe = tuple(PairedImage(x.name, y, {CLEAN: x.lr[CLEAN], kind: x.lr[kind]}) for x, y in images)
            integral, cost = problem.integrate(problem.rule, target=self.start, probe=probe, degradations=(kind,))
            self.cost = self.cost.plus(cost)
            self._known[end, kind] = integral.signed.sum((0, 1))
        return self._known[end, kind]


def _iterated(problem: Problem, outputs: Outputs, degradation: str, rounds: int, percent: float) -> Tensor:
    """(F,) scores of one degradation: higher for filters that were set back earlier."""
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
