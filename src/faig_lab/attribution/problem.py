"""The input of every attribution method: two networks, a probe, and how to compute."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import nn

from faig_lab.attribution.cache import ALONE, ResultCache, Shard
from faig_lab.attribution.compute import DEFAULT, Compute
from faig_lab.attribution.losses import SQUARED_ERROR, Loss, Truth
from faig_lab.attribution.probe import Cost, ProbeIntegral, Progress, integrate_probe
from faig_lab.attribution.quadrature import Adaptive, Rule, right
from faig_lab.attribution.weight_paths import STRAIGHT, PathSpec
from faig_lab.data import PairedImage
from faig_lab.filters import FilterLayout, State
from faig_lab.granularity import Granularity


@dataclass(frozen=True)
class Problem:
    """Two networks and a probe: the input of every method.

    A problem that is made of another one by `replace` has computed nothing yet.

    Args:
        network: the module, in evaluation mode; its own weights do not matter and are never changed.
        baseline: θ̄ on the device and in the precision to compute in.
        target: θ. Buffers (running statistics, say) are no weights: they are the target's all along the path.
        probe: paired images.
        degradations: the K degradations to tell apart.
        rule: the quadrature, fixed or adaptive.
        seed: of the methods that draw.
        compute: how gradients are computed: precision, memory, several points at once.
        progress: told after each integral.
        granularity: what is scored: a filter, or a weight, a channel, a layer.
        rank_others: score the parameters that are no kernels (biases, say) as well.
        path: which path the loss gradient is integrated along.
        cache: keeps the integrals of each image for a run that is killed.
        loss: of the output, a sum over pixels, whose gradient is integrated.
        truth: what the output is compared with: "ground_truth", or "target", the target's own output.
        shard: the probe images that this process integrates. With several processes, each of them must run the same
            methods in the same order.

    Attributes:
        costs: what has been computed → what it took: `path_integral`, which `faig` and `signed_share` share,
            `gradient_at_target`, `learned_mask`, and methods with path integrals of their own.
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
        """The filters of the network, or whatever else is scored."""
        return FilterLayout.of(self.network, self.granularity, self.rank_others)

    @cached_property
    def integral(self) -> ProbeIntegral:
        """The signed path integrals, computed once, by whichever method asks first."""
        integral = integrate_probe(self, self.rule, self.path)
        self.costs["path_integral"] = integral.cost
        return integral

    @cached_property
    def at_target(self) -> ProbeIntegral:
        """The path integrals with the gradient at the target for all of the path: (θ_j − θ̄_j) ∂L(θ, x)/∂θ_j."""
        integral = integrate_probe(self, right(1))
        self.costs["gradient_at_target"] = integral.cost
        return integral

    def integrate(self, rule: Rule | Adaptive, path: PathSpec = STRAIGHT, **changes: Any) -> tuple[ProbeIntegral, Cost]:
        """Integrals for a method of its own, and what they took; cached and sharded like `integral`.

        Args:
            rule: the quadrature.
            path: which path.
            changes: fields of the problem (target, probe, degradations) that are others for these integrals.
        """
        integral = integrate_probe(replace(self, **changes), rule, path)
        return integral, integral.cost

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

        The result caches nothing more: a cache with the integrals of every analysis could fill a disk.
        """
        alone = replace(self, shard=ALONE, cache=ResultCache())
        for name in ("layout", "integral", "at_target"):
            if name in vars(self):
                vars(alone)[name] = getattr(self, name)
        alone.costs.update(self.costs)
        return alone
