"""The networks and images that are measured on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from torch import nn

from benchmarks.plan import Plan
from faig_lab.attribution import ALONE, Adaptive, Compute, ProbeIntegral, Problem, Rule, Shard
from faig_lab.cli.arguments import compose
from faig_lab.cli.build import compute_device, make_degradation, make_network
from faig_lab.cli.trained import train_once
from faig_lab.config import Settings, check
from faig_lab.config.targets import make
from faig_lab.data import PairedImage, StudyData
from faig_lab.filters import FilterLayout, State, load_weights


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

    def build(self) -> nn.Module:
        """The network anew, as a script would build it."""
        arguments = {name: value for name, value in self.settings.network.items() if name != "_target_"}
        network = get_class(self.settings.network["_target_"])(**arguments)
        assert isinstance(network, nn.Module)
        return network

    def integral(self, rule: Rule | Adaptive, compute: Compute | None = None, shard: Shard = ALONE) -> ProbeIntegral:
        """The path integral by ours."""
        ends = self.baseline, self.target
        how = compute or Compute()
        return Problem(self.network, *ends, self.probe, self.degradations, rule, compute=how, shard=shard).integral


def trained_case(plan: Plan, device: str, run: Path | None = None) -> Case:
    """A baseline and a target, trained just long enough to differ as such do, and one image of the probe.

    They are kept in the store (outputs/store), so only the first time trains them.

    Args:
        plan: says which network, how long, and the image's size.
        device: "cpu" or "cuda".
        run: take networks and data of this finished run instead.
    """
    steps = plan.iterations
    phases = [
        f"training.{phase}.{name}={steps}"
        for phase in ("baseline", "target")
        for name in ("iterations", "restart_every")
    ]
    size = f"data.probe_crop={2 * max(plan.image)}"
    if run is not None:
        return _case(_settings_of_run(run, device, size), run, plan.image)
    batch = f"training.batch_size={plan.batch}"
    # Averaged over the last tenth of a short training, not over more than all of it.
    settings = settings_of(
        device, *plan.network, *phases, size, batch, f"training.validate_every={steps}", "training.ema_decay=0.97"
    )
    return _case(settings, None, plan.image)


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


def _case(settings: Settings, run: Path | None, image: tuple[int, int]) -> Case:
    data, network, device = data_of(settings), make_network(settings), compute_device(settings)
    if run is None:
        degradation = make_degradation(settings)
        baseline = train_once(settings, "baseline", data, degradation).state
        target = train_once(settings, "target", data, degradation, start=baseline).state
    else:
        baseline, target = (load_weights(run / "weights" / f"{n}.pt", network) for n in ("baseline", "target"))
    probe = (_corner(data.probe[0], image),)
    return Case(
        settings, network.eval().to(device), _moved(baseline, device), _moved(target, device), probe, data.degradations
    )


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
    network, device = make_network(settings).eval(), compute_device(settings)
    baseline = {n: v.detach().clone() for n, v in network.state_dict().items()}
    target = {n: v + change * torch.randn(v.shape, generator=generator) for n, v in baseline.items()}
    names = tuple(f"degradation{number}" for number in range(degradations))
    scale = settings.network["scale"]
    probe = []
    for number, (height, width) in enumerate(images):
        lr = {name: torch.rand(3, height, width, generator=generator) for name in ("clean", *names)}
        probe.append(PairedImage(str(number), torch.rand(3, scale * height, scale * width, generator=generator), lr))
    ends = _moved(baseline, device), _moved(target, device)
    return Case(settings, network.to(device), *ends, probe=tuple(probe), degradations=names)


def _moved(state: State, device: torch.device) -> State:
    return {name: value.to(device) for name, value in state.items()}


def _corner(image: PairedImage, size: tuple[int, int]) -> PairedImage:
    """The upper left corner of a paired image, at most so many LR pixels."""
    height, width = size
    small = {name: lr[..., :height, :width].contiguous() for name, lr in image.lr.items()}
    hr = image.hr[..., : image.scale * height, : image.scale * width].contiguous()
    return PairedImage(image.name, hr, small)


def operations(run: Callable[[], object]) -> int:
    """Floating-point operations of convolutions and matrix products; a multiplication and an addition are two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())
