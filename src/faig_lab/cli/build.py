"""From settings to the objects of the pipeline, and the settings that determine a trained network."""

import inspect
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from faig_lab.attribution import (
    ALONE,
    STRAIGHT,
    Adaptive,
    Compute,
    Method,
    OneUnit,
    PathSpec,
    Problem,
    Progress,
    ResultCache,
    Rule,
    Shard,
    count_of,
    quadrature,
)
from faig_lab.attribution.compute import PRECISIONS
from faig_lab.attribution.losses import SQUARED_ERROR
from faig_lab.config import Settings
from faig_lab.config.check import SPANDREL
from faig_lab.config.messages import keys_below, with_keys
from faig_lab.config.rules import check_percents
from faig_lab.config.targets import make
from faig_lab.data import Degradation, Photograph, StudyData, bytes_on_device, clipped_kernels, sharpened
from faig_lab.errors import UserError
from faig_lab.evaluation.prediction import check_layer
from faig_lab.filters import FilterLayout, State, content_fingerprint, fingerprint, state_fingerprint
from faig_lab.filters.trial import differentiable
from faig_lab.studies.context import Analysis
from faig_lab.training import NUMERICS_VERSION, Loop, Schedule, planted_sets, resolve_precision

if TYPE_CHECKING:
    from faig_lab.training import SRModule, Turns

log = logging.getLogger(__name__)


def make_network(settings: Settings) -> nn.Module:
    """Return the network with fresh weights, which depend on the seed only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = make(settings.network)
        assert isinstance(network, nn.Module)
        return differentiable(network)


def make_degradation(settings: Settings) -> Degradation:
    """Return the degradation from HR to LR at the network's scale."""
    own = settings.degradation
    return Degradation(
        {name: make(node) for name, node in own.parts.items()},
        make(own.downsample),
        settings.network["scale"],
        own.quantise,
        sharpen_truth=own.sharpen_truth,
        choose=own.choose,
    )


def load_data(settings: Settings, degradation: Degradation) -> StudyData:
    """Read the images of the data source, and degrade probe and held-out.

    Raises:
        UserError: the source cannot be read. The error names a key or a file.
    """
    source = make(settings.data)
    keys = keys_below("data", inspect.signature(type(source)).parameters)
    with with_keys(keys | {"FolderPhotographs": "data=folder"}):
        data: StudyData = source.load(degradation, settings.seed)
    return data


def training_keys(name: str) -> dict[str, str]:
    """Return the keys of the arguments of the training of "baseline" or "target"."""
    schedule = {"schedule": f"training.{name}", "learning_rate": f"training.{name}.learning_rate"}
    return schedule | {"patch_size": "training.patch_size", "trainer": "trainer"}


def make_methods(settings: Settings) -> dict[str, Method]:
    """Return the attribution methods by name."""
    return {name: make(node) for name, node in settings.attribution.methods.items()}


def make_rule(settings: Settings, pieces: int = 1) -> Rule | Adaptive:
    """Return the quadrature. An adaptive rule watches the top set at the headline percent.

    Args:
        settings: the settings of the run.
        pieces: number of smooth pieces of the path. A fixed rule is the rule of one piece.
    """
    attribution = settings.attribution
    if attribution.rule == "adaptive":
        return Adaptive(attribution.points, attribution.tolerance, settings.analysis.headline_percent, pieces)
    return quadrature(attribution.rule, max(1, attribution.points // pieces))


def snapshots(settings: Settings, name: str) -> int:
    """Return how many averaged states the training of "baseline" or "target" saves."""
    wanted = name == "target" and settings.attribution.path == "trajectory"
    return settings.attribution.path_states if wanted else 0


def make_path(settings: Settings, inner: Sequence[State]) -> PathSpec:
    """Return the path of the attribution from its inner states, on the compute device."""
    if settings.attribution.path == "straight":
        return STRAIGHT
    spec = PathSpec(settings.attribution.path, tuple(cast(state, settings) for state in inner))
    return replace(spec, rule=make_rule(settings, spec.pieces))


def make_layout(settings: Settings) -> FilterLayout:
    """Return the layout of the units to score: filters, weights, channels or layers of the network.

    Raises:
        UserError: the network has no such unit, or its kernels are not parameters.
    """
    attribution = settings.attribution
    try:
        return FilterLayout.of(make_network(settings), attribution.granularity, attribution.rank_other_parameters)
    except ValueError as error:
        raise UserError(f"network: {error}") from error


def check_selection(settings: Settings) -> None:
    """Refuse settings that cannot be attributed, before any work starts.

    Refused are a network without filters, percents that select nothing, and more units than a method's budget. The
    function warns of blurs that do not fit into their kernels.

    Raises:
        UserError: one line with the nearest valid setting.
    """
    layout = make_layout(settings)
    for name, method in make_methods(settings).items():
        if isinstance(method, OneUnit):
            with with_keys({"budget": f"attribution.methods.{name}.budget", "granularity": "attribution.granularity"}):
                method.check(layout)
    check_percents(settings, len(layout), layout.word, count_of)
    for name, node in settings.analysis.studies.items():
        if node.get("_target_") == "faig_lab.studies.clusters.clusters" and node.get("layer") is not None:
            with with_keys({"layer": f"analysis.studies.{name}.layer"}):
                check_layer(make_network(settings), node["layer"])
    make_planted_sets(settings)
    for line in clipped_kernels(make_degradation(settings).parts):
        log.warning("%s", line)


def make_problem(
    settings: Settings,
    data: StudyData,
    baseline: State,
    target: State,
    *,
    progress: Progress | None = None,
    path: PathSpec = STRAIGHT,
    cache: ResultCache | None = None,
    shard: Shard = ALONE,
) -> Problem:
    """Return the attribution problem of two networks on a probe, on the compute device.

    With `degradation.sharpen_truth` the problem's HR is sharpened, since the loss compares with it.
    """
    attribution = settings.attribution
    probe = data.probe
    if settings.degradation.sharpen_truth:
        probe = tuple(replace(image, hr=sharpened(image.hr[None])[0]) for image in probe)
    # In evaluation mode. `to` also moves buffers that no state contains.
    network = make_network(settings).eval().to(compute_device(settings), PRECISIONS[attribution.precision][0])
    return Problem(
        network,
        cast(baseline, settings),
        cast(target, settings),
        probe,
        data.degradations,
        make_rule(settings),
        settings.seed,
        make_compute(settings),
        progress,
        attribution.granularity,
        attribution.rank_other_parameters,
        path,
        cache or ResultCache(),
        shard,
        SQUARED_ERROR if attribution.loss is None else make(attribution.loss),
        attribution.truth,
    )


def make_compute(settings: Settings) -> Compute:
    """Return the settings of the gradient computation."""
    attribution = settings.attribution
    return Compute(
        autocast=PRECISIONS[attribution.precision][1],
        memory=attribution.memory,
        points_per_batch=attribution.together,
        compile=attribution.compile,
        cuda_graphs=attribution.cuda_graphs,
    )


def make_analyses(settings: Settings) -> dict[str, Analysis]:
    """Return the studies by name."""
    return {name: make(node) for name, node in settings.analysis.studies.items()}


def make_module(settings: Settings, name: str, degradation: Degradation, start: State | None) -> "SRModule":
    """Return the LightningModule of "baseline" or "target", with given or fresh weights.

    The settings of a training come from `trained.with_format`; auto is channels last here.
    """
    from faig_lab.training import SRModule

    network = make_network(settings)
    if start is not None:
        network.load_state_dict(dict(start))
    training = settings.training
    return SRModule(
        network,
        degradation,
        Schedule(**getattr(training, name).model_dump()),
        loss=make(training.loss),
        optimizer=make(training.optimizer),
        seed=settings.seed,
        stream=name,
        clean=name == "baseline",
        channels_last=training.channels_last is not False,
    )


def make_planted_sets(settings: Settings) -> dict[str, Tensor] | None:
    """Return the true filters of each degradation as flat indices; None if the target is not planted.

    Raises:
        UserError: one line with the nearest valid setting.
    """
    planted = settings.target.planted
    if planted is None:
        return None
    layout, names = FilterLayout.of(make_network(settings)), list(settings.degradation.parts)
    with with_keys({name: f"target.planted.{name}" for name in ("percent", "layers")}):
        return planted_sets(layout, names, planted.percent, settings.seed, layers=planted.layers)


def make_turns(settings: Settings, start: State) -> "Turns | None":
    """Return the turns of the training of a planted target from `start`; None for any other target."""
    planted, sets = settings.target.planted, make_planted_sets(settings)
    if planted is None or sets is None:
        return None
    from faig_lab.training import Turns, planted_groups

    network = make_network(settings)
    layout = FilterLayout.of(network)
    chosen = {name: layout.mask(filters) for name, filters in sets.items()}
    groups = planted_groups(network, chosen, planted.rate, planted.drift)
    return Turns(groups, start, planted.turn, first=planted.drift_steps)


def make_loop(settings: Settings, photographs: Sequence[Photograph], name: str = "target") -> Loop:
    """Return the settings of the training loop of "baseline" or "target" with the precision resolved."""
    training = settings.training
    return Loop(
        training.batch_size,
        training.ema_decay,
        training.validate_every,
        training.workers,
        trainer_arguments(settings),
        training.checkpoint_every,
        patches_on_device(settings, photographs, name),
        training.cuda_graphs,
    )


SHARE_OF_MEMORY = 0.25
"""Share of a GPU's memory that photographs may take there."""


def patches_on_device(settings: Settings, photographs: Sequence[Photograph], name: str) -> bool:
    """Return whether patches of "baseline" or "target" are cut and degraded on the device of the training.

    With `training.patches=auto` they are on a GPU, if the photographs have 8 bits and take at most a quarter of its
    memory. A planted target is the exception: its degradations take turns.

    Raises:
        UserError: `training.patches=device` with photographs of 16 bits.
    """
    wanted = settings.training.patches
    if wanted == "host" or (name == "target" and settings.target.planted is not None):
        return False
    if wanted == "device":
        with with_keys({"patches": "training.patches"}):
            bytes_on_device(photographs)
        return True
    device = compute_device(settings)
    if device.type != "cuda" or any(photograph.pixels.dtype != np.uint8 for photograph in photographs):
        return False
    memory = torch.cuda.get_device_properties(device).total_memory
    return bytes_on_device(photographs) <= SHARE_OF_MEMORY * memory


def trainer_arguments(settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments of Lightning's Trainer with the precision resolved."""
    arguments = settings.trainer.model_dump()
    return arguments | {"precision": resolve_precision(arguments["precision"], arguments["accelerator"])}


def compute_device(settings: Settings) -> torch.device:
    """Return the device of attribution and studies: a CUDA GPU if training may use a GPU, else the CPU.

    Attribution sums in double precision, which Apple's GPUs do not have.
    """
    gpu = settings.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")


def gpu_of(settings: Settings, local_rank: int) -> int | None:
    """Return the GPU of a process; None if the compute device is the CPU."""
    devices = settings.trainer.devices
    if compute_device(settings).type == "cpu":
        return None
    return int(devices[local_rank]) if isinstance(devices, list) else local_rank


def alone(settings: Settings) -> Settings:
    """Return the settings for one process, on the first device."""
    devices = settings.trainer.devices
    single = {"devices": devices[:1] if isinstance(devices, list) else 1, "num_nodes": 1, "strategy": "auto"}
    if settings.trainer.num_nodes == 1 and devices in (1, "1"):
        return settings
    return settings.model_copy(update={"trainer": settings.trainer.model_copy(update=single)})


def determinants(settings: Settings, name: str, data: StudyData, start: State | None) -> dict[str, Any]:
    """Return everything that determines the weights of "baseline" or "target", as plain data.

    Args:
        settings: the settings of the run.
        name: "baseline" or "target".
        data: the data. The contents of the training photographs count.
        start: the weights that training starts from; None for fresh weights.
    """
    training, plain_training = settings.training, settings.training.model_dump()
    if training.channels_last == "auto":  # the key does not depend on the processor
        plain_training["channels_last"] = True
    for value in plain_training.values():  # networks from before these settings keep their keys
        if isinstance(value, dict) and value.get("warmup") == 0:
            del value["warmup"]
    plain = settings.degradation.model_dump()
    if not plain["sharpen_truth"]:
        del plain["sharpen_truth"]
    if plain["choose"] == "each" or name == "baseline":
        del plain["choose"]
    if name == "baseline":
        del plain["parts"]
    shared = ("batch_size", "patch_size", "ema_decay", "channels_last", "loss", "optimizer", name)
    found = {
        "name": name,
        "numerics": NUMERICS_VERSION,
        "seed": settings.seed,
        "photographs": [[photograph.name, photograph.sha256] for photograph in data.train],
        "degradation": plain,
        "margin": make_degradation(settings).margin,
        "network": network_identity(settings),
        "training": {key: plain_training[key] for key in shared},
        "trainer": trainer_arguments(settings) | {"device": compute_device(settings).type},
        "start": None if start is None else state_fingerprint(start),
    }
    sets = make_planted_sets(settings) if name == "target" else None
    if sets is not None:
        planted = settings.target.model_dump()["planted"]
        found["planted"] = planted | {"sets": content_fingerprint(sets)}
    if states := snapshots(settings, name):
        found["trajectory"] = states
    if patches_on_device(settings, data.train, name):
        found["patches"] = "device"
    return found


def network_identity(settings: Settings) -> dict[str, Any]:
    """Return the settings of the network, with names and shapes in place of a file that tells the architecture.

    `start` has the weights of such a file, whatever its place on the disk.
    """
    if settings.network["_target_"] != SPANDREL:
        return settings.network
    shapes = {name: list(value.shape) for name, value in make_network(settings).state_dict().items()}
    return {**settings.network, "file": fingerprint(shapes)}


def cast(state: State, settings: Settings) -> dict[str, Tensor]:
    """Return weights on the compute device in the precision of `attribution.precision`."""
    dtype, _ = PRECISIONS[settings.attribution.precision]
    device = compute_device(settings)
    return {n: v.to(device, dtype if v.is_floating_point() else v.dtype) for n, v in state.items()}
