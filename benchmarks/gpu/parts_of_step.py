"""What a training step is made of, each part on its own, with the objects that the training itself uses."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.case import operations
from benchmarks.gpu.results import Results
from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.timing import on_host
from faig_lab.attribution import full_precision
from faig_lab.cli.build import make_degradation, make_module, patches_on_device, trainer_arguments
from faig_lab.config import Settings
from faig_lab.data import PatchDataset, PatchesOnDevice, StepSampler, StudyData, degrade, patch_loader
from faig_lab.data.patches import Block
from faig_lab.training.module import StepGraphs


@full_precision()
def parts_of_step(
    settings: Settings, data: StudyData, step: float, sizes: Sizes, device: str, results: Results
) -> None:
    """Milliseconds of each part; the rest of the step is Lightning's and its callbacks'.

    On a GPU the parts may run beside each other, so that their sum may be more than the step.
    """
    degradation, training = make_degradation(settings), settings.training
    patches = PatchDataset(data.train, training.patch_size, degradation.margin, seed=settings.seed, stream="target")
    sampler = StepSampler(10_000, training.batch_size)
    loader = iter(patch_loader(patches, sampler, 0))
    module = make_module(settings, "target", degradation, None).to(device)
    batch = next(loader)
    moved = batch.to(torch.device(device))
    lr, hr = degrade(moved, degradation, settings.seed, "target", False)
    made = module.configure_optimizers()
    optimizer = made["optimizer"]
    dtype = torch.bfloat16 if trainer_arguments(settings)["precision"] == "bf16-mixed" else None

    def network(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        optimizer.zero_grad()
        with torch.autocast(device, dtype, enabled=dtype is not None):
            found = loss(lr, hr)
        found.backward()

    plain = partial(network, module.restoration_loss)
    plain()  # so that there are gradients
    current: list[torch.Tensor] = list(module.parameters())
    average = [value.detach().clone() for value in current]
    graphs = device == "cuda" and training.cuda_graphs
    own: dict[str, tuple[Callable[[], object], int]] = {}
    rows: dict[str, tuple[Callable[[], object], int]] = {
        "patches, cut one by one by the processor": (partial(next, loader), 1),
        "patches, to the device": (lambda: batch.to(torch.device(device)), 1),
        "degradation of patches of the processor": (
            lambda: degrade(moved, degradation, settings.seed, "target", False), 1,
        ),
        "network, forward and backward": (plain, 1),
    }  # fmt: skip
    own |= rows
    at_once = PatchesOnDevice(patches, sampler, degradation, False, torch.device(device))
    block = Block(patches, torch.device(device))
    numbers = range(at_once.steps_at_once * training.batch_size)
    name = f"patches and degradation on the device, {at_once.steps_at_once} steps at once"
    rows[name] = partial(at_once.made, block, numbers), at_once.steps_at_once
    if patches_on_device(settings, data.train, "target"):
        own = {name: rows[name], "network, forward and backward": (plain, 1)}
    if graphs:
        with_graphs = "network, forward and backward, as CUDA graphs"
        rows[with_graphs] = partial(network, StepGraphs(module.network, module.restoration_loss)), 1
        own.pop("network, forward and backward")
        own[with_graphs] = rows[with_graphs]
    for name, run in {
        "optimizer": optimizer.step,
        "average": lambda: torch._foreach_lerp_(average, current, 0.001),
    }.items():
        own[name] = rows[name] = run, 1
    total = 0.0
    for name, (part, steps) in rows.items():
        with torch.set_grad_enabled(name.startswith("network")):
            taken = on_host(part, max(4, sizes.steps // 4 // steps)) / steps
        total += taken if name in own else 0.0
        results.add(f"a step, {name}: ms", 1000 * taken)
    results.add("a step of ours, all of it: ms", 1000 * step)
    results.add("a step of ours, Lightning and all else (the step less its parts): ms", 1000 * (step - total))
    results.add("a step of ours: TFLOP/s of the network", operations(plain) / step / 1e12)
