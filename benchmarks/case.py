"""The networks and images that are measured on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import plain
from benchmarks.plan import Plan
from faig_lab.attribution import ALONE, Adaptive, Compute, ProbeIntegral, Problem, Rule, Shard, faig_scores
from faig_lab.cli.arguments import compose
from faig_lab.cli.build import compute_device, make_degradation, make_network
from faig_lab.cli.trained import train_once
from faig_lab.config import Settings, check
from faig_lab.config.targets import make
from faig_lab.data import PairedImage, StudyData
from faig_lab.filters import FilterLayout, State, first_floating, load_weights


def settings_of(device: str, *overrides: str) -> Settings:
    """The study on laptop's schedule, with which the results were recorded, with some settings, on "cpu" or "cuda".

    Trainings run in channels last, without a measurement, as when the results were recorded.
    """
    trainer = "gpu" if device == "cuda" else "cpu"
    fixed = ("experiment=blur_noise", "training=laptop", "training.channels_last=true", "logger=none")
    return check(compose([*fixed, f"trainer={trainer}", *overrides]))


def data_of(settings: Settings) -> StudyData:
    """Photographs to train on, and the probe."""
    data = make(settings.data).load(make_degradation(settings), settings.seed)
    assert isinstance(data, StudyData)
    return data


@dataclass(frozen=True)
class Case:
    """A pair of networks and the images it is attributed on.

    Attributes:
        settings: of the run that it comes from.
        network: in evaluation mode, on the device.
        baseline: θ̄ on the device.
        target: θ on the device.
        probe: paired images.
        degradations: their inputs.
    """

    settings: Settings
    network: nn.Module
    baseline: State
    target: State
    probe: tuple[PairedImage, ...]
    degradations: tuple[str, ...]

    @property
    def layout(self) -> FilterLayout:
        """The filters."""
        return FilterLayout.of(self.network)

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return compute_device(self.settings)

    def first_input(self) -> tuple[Tensor, Tensor]:
        """LR (1, 3, h, w) of the first image with the first degradation, and its HR, as the weights are."""
        image, like = self.probe[0], first_floating(self.target.values())
        return image.lr[self.degradations[0]][None].to(like), image.hr[None].to(like)

    def build(self) -> nn.Module:
        """The network anew, as a script would build it."""
        arguments = {name: value for name, value in self.settings.network.items() if name != "_target_"}
        network = get_class(self.settings.network["_target_"])(**arguments)
        assert isinstance(network, nn.Module)
        return network

    def integral(self, rule: Rule | Adaptive, compute: Compute | None = None, shard: Shard = ALONE) -> ProbeIntegral:
        """The path integral by ours."""
        parts = self.network, self.baseline, self.target, self.probe, self.degradations, rule
        return Problem(*parts, compute=compute or Compute(), shard=shard).integral

    def scores(self, rule: Rule | Adaptive, compute: Compute | None = None) -> Tensor:
        """(K, F) discriminative scores by ours."""
        return faig_scores(self.integral(rule, compute).magnitude)

    def plain_scores(self, points: int) -> Tensor:
        """(K, F) discriminative scores by the published algorithm."""
        parts = self.build, self.baseline, self.target, self.probe, self.degradations
        return plain.scores(*parts, self.layout, points)


def trained_case(plan: Plan, device: str, run: Path | None = None) -> Case:
    """A baseline and a target, trained just long enough to differ as such do, and one image of the probe.

    They are kept in the store (outputs/store), so only the first time trains them.

    Args:
        plan: says which network, how long, and the image's size.
        device: "cpu" or "cuda".
        run: take networks and data of this finished run instead.
    """
    steps, size = plan.iterations, f"data.probe_crop={2 * max(plan.image)}"
    if run is not None:
        settings = _settings_of_run(run, device, size)
    else:
        # The weights are averaged over the last tenth of a short training, not over more than all of it.
        settings = settings_of(
            *(device, *plan.network, size, f"training.batch_size={plan.batch}", "training.ema_decay=0.97"),
            *(f"training.baseline.iterations={steps}", f"training.baseline.restart_every={steps}"),
            *(f"training.target.iterations={steps}", f"training.target.restart_every={steps}"),
            f"training.validate_every={steps}",
        )
    data, network, degradation = data_of(settings), make_network(settings), make_degradation(settings)
    if run is not None:
        baseline, target = (load_weights(run / "weights" / f"{n}.pt", network) for n in ("baseline", "target"))
    else:
        baseline = train_once(settings, "baseline", data, degradation).state
        target = train_once(settings, "target", data, degradation, start=baseline).state
    probe = (_corner(data.probe[0], plan.image),)
    return _placed(settings, network.eval(), baseline, target, probe, data.degradations)


def _settings_of_run(run: Path, device: str, *overrides: str) -> Settings:
    """The run's data, degradations and network in an otherwise default configuration."""
    own = OmegaConf.load(run / "config.yaml")
    assert isinstance(own, DictConfig)
    config = compose(["experiment=blur_noise", f"trainer={'gpu' if device == 'cuda' else 'cpu'}", "logger=none"])
    OmegaConf.set_struct(config, False)
    for key in ("seed", "data", "degradation", "network"):
        config[key] = own[key]
    config.merge_with_dotlist(list(overrides))
    return check(config)


def random_case(
    settings: Settings, images: Sequence[tuple[int, int]], degradations: int = 2, change: float = 0.01
) -> Case:
    """Two networks with random weights and images of noise: enough where only time and memory count.

    Args:
        settings: say which network and device.
        images: LR (height, width) of each.
        degradations: how many inputs each image has.
        change: standard deviation of θ − θ̄.
    """
    generator = torch.Generator().manual_seed(0)
    network = make_network(settings).eval()
    baseline = {n: v.detach().clone() for n, v in network.state_dict().items()}
    target = {n: v + change * torch.randn(v.shape, generator=generator) for n, v in baseline.items()}
    names = tuple(f"degradation{number}" for number in range(degradations))
    scale = settings.network["scale"]
    probe = []
    for number, (height, width) in enumerate(images):
        lr = {name: torch.rand(3, height, width, generator=generator) for name in ("clean", *names)}
        probe.append(PairedImage(str(number), torch.rand(3, scale * height, scale * width, generator=generator), lr))
    return _placed(settings, network, baseline, target, tuple(probe), names)


def _placed(
    settings: Settings,
    network: nn.Module,
    baseline: State,
    target: State,
    probe: tuple[PairedImage, ...],
    degradations: tuple[str, ...],
) -> Case:
    """The case with network and weights on its device."""
    device = compute_device(settings)
    baseline, target = ({name: value.to(device) for name, value in state.items()} for state in (baseline, target))
    return Case(settings, network.to(device), baseline, target, probe, degradations)


def _corner(image: PairedImage, size: tuple[int, int]) -> PairedImage:
    """The upper left corner of a paired image, at most so many LR pixels."""
    height, width = size
    small = {name: lr[..., :height, :width].contiguous() for name, lr in image.lr.items()}
    hr = image.hr[..., : image.scale * height, : image.scale * width].contiguous()
    return PairedImage(image.name, hr, small)


def operations(run: Callable[[], object]) -> int:
    """Floating-point operations of convolutions and matrix products; a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())
