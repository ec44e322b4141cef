"""What a training step is made of, each part on its own, with the objects that the training itself uses."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from benchmarks.gpu.results import Results
from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.timing import on_host
from faig_lab.attribution import full_precision
from faig_lab.cli.build import make_degradation, make_module, trainer_arguments
from faig_lab.config import Settings
from faig_lab.data import PatchDataset, StepSampler, StudyData, degrade, patch_loader


@full_precision()
def parts_of_step(
    settings: Settings, data: StudyData, step: float, sizes: Sizes, device: str, results: Results
) -> None:
    """Milliseconds of each part; the rest of the step is Lightning's and its callbacks'.

    On a GPU the parts may run beside each other, so that their sum may be more than the step.
    """
    degradation, training = make_degradation(settings), settings.training
    patches = PatchDataset(data.train, training.patch_size, degradation.margin, seed=settings.seed, stream="target")
    steps = 10_000
    loader = iter(patch_loader(patches, StepSampler(steps, training.batch_size), 0))
    module = make_module(settings, "target", degradation, None).to(device)
    batch = next(loader)
    moved = batch.to(torch.device(device))
    lr, hr = degrade(moved, degradation, settings.seed, "target", False)
    made = module.configure_optimizers()
    optimizer = made["optimizer"]
    dtype = torch.bfloat16 if trainer_arguments(settings)["precision"] == "bf16-mixed" else None

    def network() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, dtype, enabled=dtype is not None):
            loss = nn.functional.l1_loss(module(lr).float(), hr)
        loss.backward()

    network()  # so that there are gradients
    current: list[torch.Tensor] = list(module.parameters())
    average = [value.detach().clone() for value in current]
    parts: dict[str, Callable[[], object]] = {
        "data (patches, cut on the host)": partial(next, loader),
        "to the device": lambda: batch.to(torch.device(device)),
        "degradation": lambda: degrade(moved, degradation, settings.seed, "target", False),
        "network, forward and backward": network,
        "optimizer": optimizer.step,
        "average": lambda: torch._foreach_lerp_(average, current, 0.001),
    }
    total = 0.0
    for name, part in parts.items():
        with torch.set_grad_enabled(name.startswith("network")):
            taken = on_host(part, max(4, sizes.steps // 4))
        total += taken
        results.add(f"a step of ours, {name}: ms", 1000 * taken)
    results.add("a step of ours, all of it: ms", 1000 * step)
    results.add("a step of ours, Lightning and all else (the step less the parts): ms", 1000 * (step - total))
