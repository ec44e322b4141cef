"""Part speed: training and attribution of the full network, against plain ways and against the device's own rate."""

import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor

from benchmarks import attribution as part_a
from benchmarks import plain, training
from benchmarks.case import Case, data_of, operations, random_case, settings_of, trained_case
from benchmarks.gpu.correct import LOW_PRECISION, allowed
from benchmarks.gpu.results import Results
from benchmarks.gpu.runs import photographs
from benchmarks.gpu.sizes import Sizes
from benchmarks.measuring import cores, seconds, settle
from benchmarks.plan import FULL
from faig_lab.attribution import Compute, LossPath, full_precision, quadrature
from faig_lab.attribution.compute import GIGABYTE
from faig_lab.cli.build import make_degradation, make_module, patches_on_device, trainer_arguments
from faig_lab.config import Settings
from faig_lab.data import PatchDataset, PatchesOnDevice, StepSampler, StudyData, degrade, patch_loader
from faig_lab.data.patches import Block
from faig_lab.training.module import StepGraphs


def on_device(run: Callable[[], object], device: str, repeats: int, warm_up: int = 3) -> float:
    """Median seconds of one call. On a GPU the time is that between events on its stream, so it contains the host's own
    time only where the GPU waits for the host.
    """
    for _ in range(warm_up):
        run()
    if device != "cuda":
        return statistics.median(seconds(run) for _ in range(repeats))
    settle()
    found = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end) / 1000)
    return statistics.median(found)


def on_host(run: Callable[[], object], repeats: int, warm_up: int = 3) -> float:
    """Mean seconds of a call in a row of them, with one wait for the device at the end: the rate of a loop."""

    def row(length: int) -> None:
        for _ in range(length):
            run()

    row(warm_up)
    return seconds(lambda: row(repeats)) / repeats


class Rate(pl.Callback):
    """Seconds of a step of a training: a row of them, with a wait for the device at both ends alone.

    Args:
        warm_up: steps before the first wait.
    """

    def __init__(self, warm_up: int) -> None:
        self.warm_up, self.steps, self.start, self.end = warm_up, 0, 0.0, 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: object, **more: object) -> None:
        """Count a step."""
        self.steps += 1
        if self.steps == self.warm_up:
            settle()
            self.start = time.perf_counter()
        if trainer.global_step == trainer.max_steps:
            settle()
            self.end = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of one step."""
        return (self.end - self.start) / (self.steps - self.warm_up)


def run(sizes: Sizes, device: str, data: Path | None, results: Results) -> None:
    """All measurements; the training rate first, since the study asks for it."""
    results.attempt("training", lambda: training_rate(sizes, device, data, results))
    results.attempt("the device's rate", lambda: rates(sizes, device, results))
    results.attempt("attribution", lambda: attribution(sizes, device, results))
    results.attempt("memory", lambda: memory(sizes, device, results))
    results.attempt("compiled", lambda: compiled(sizes, device, results))


# Training


def training_settings(sizes: Sizes, device: str, data: Path | None, *more: str) -> Settings:
    """Those of the training that is timed."""
    shape = f"training.batch_size={sizes.batch}", f"training.patch_size={sizes.patch}"
    return settings_of(device, *sizes.network, *photographs(data), *shape, *more)


def step_seconds(settings: Settings, data: StudyData, sizes: Sizes) -> float:
    """Seconds of a step of a training of ours."""
    clock = Rate(sizes.warm_up)
    training.train(settings, data, sizes.steps + sizes.warm_up, clock)
    return clock.seconds


def steps_a_second(device: str, sizes: Sizes, data: Path | None) -> float:
    """The rate of a training of ours alone, for a study that runs without the other measurements."""
    own = training_settings(sizes, device, data)
    return 1 / step_seconds(own, data_of(own), sizes)


def training_rate(sizes: Sizes, device: str, folders: Path | None, results: Results) -> None:
    """Steps a second of ours and of the plain loop; the parts of a step of ours."""
    settings = partial(training_settings, sizes, device, folders)
    own = settings()
    data, found = data_of(own), {}
    host = "training.patches=host", "training.cuda_graphs=false"
    ways: dict[str, tuple[str, ...]] = {
        "ours": (),
        "ours, without CUDA graphs": ("training.cuda_graphs=false",),
        "ours, patches of the processor, without CUDA graphs": host,
        f"ours, patches of {sizes.workers} workers, without CUDA graphs": (*host, f"training.workers={sizes.workers}"),
        "ours, NCHW": ("training.channels_last=false",),
        "ours, cuDNN measures its kernels": ("+trainer.benchmark=true",),
        "ours, float32": ("trainer.precision=32-true",),
        "ours, deterministic": ("+trainer.deterministic=true",),
    }
    for name, more in ways.items():
        _reset(device)
        with full_precision():
            found[name] = step_seconds(settings(*more), data, sizes)
        results.add(f"training, {name}: steps a second", 1 / found[name])
        if name == "ours" and device == "cuda":
            results.add("training, ours: GB at most", torch.cuda.max_memory_allocated() / GIGABYTE)
    torch.use_deterministic_algorithms(False)  # Lightning leaves both on
    torch.backends.cudnn.benchmark = False
    parts_of_step(own, data, found["ours"], sizes, device, results)
    if importlib.util.find_spec("cv2"):
        for workers in (0, min(sizes.workers * 2, cores())):
            some = [p.pixels for p in data.train[:100]]  # each worker gets a copy of its own
            images = plain.WholeImages(some, sizes.patch, sizes.batch * sizes.plain_steps)
            network = random_case(own, [(8, 8)]).build().to(device)
            ends = plain.train(network, images, sizes.batch, workers)
            taken = (ends[-1] - ends[len(ends) // 2 - 1]) / (len(ends) - len(ends) // 2)
            name = f"training, plain loop, {workers} workers"
            results.add(f"{name}: steps a second", 1 / taken)
            results.add(f"{name}: ours is times as fast", taken / found["ours"])


@full_precision()
def parts_of_step(
    settings: Settings, data: StudyData, step: float, sizes: Sizes, device: str, results: Results
) -> None:
    """Milliseconds of each part, with the objects of the training; the rest is Lightning's and its callbacks'.

    On a GPU the parts may run beside each other, so that their sum may be more than the step.
    """
    degradation, options = make_degradation(settings), settings.training
    patches = PatchDataset(data.train, options.patch_size, degradation.margin, seed=settings.seed, stream="target")
    sampler = StepSampler(10_000, options.batch_size)
    loader = iter(patch_loader(patches, sampler, 0))
    module = make_module(settings, "target", degradation, None).to(device)
    batch = next(loader)
    moved = batch.to(torch.device(device))
    lr, hr = degrade(moved, degradation, settings.seed, "target", False)
    optimizer = module.configure_optimizers()["optimizer"]
    dtype = torch.bfloat16 if trainer_arguments(settings)["precision"] == "bf16-mixed" else None

    def network(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        optimizer.zero_grad()
        with torch.autocast(device, dtype, enabled=dtype is not None):
            found = loss(lr, hr)
        found.backward()

    plainly = partial(network, module.restoration_loss)
    plainly()  # so that there are gradients
    current: list[Tensor] = list(module.parameters())
    average = [value.detach().clone() for value in current]
    at_once = PatchesOnDevice(patches, sampler, degradation, False, torch.device(device))
    block, steps = Block(patches, torch.device(device)), at_once.steps_at_once
    there = f"patches and degradation on the device, {steps} steps at once"
    passes = "network, forward and backward"
    rows: dict[str, tuple[Callable[[], object], int]] = {
        "patches, cut one by one by the processor": (partial(next, loader), 1),
        "patches, to the device": (lambda: batch.to(torch.device(device)), 1),
        "degradation of patches of the processor": (
            lambda: degrade(moved, degradation, settings.seed, "target", False), 1,
        ),
        passes: (plainly, 1),
        there: (partial(at_once.made, block, range(steps * options.batch_size)), steps),
    }  # fmt: skip
    on_gpu = patches_on_device(settings, data.train, "target")
    own = [there] if on_gpu else [name for name in rows if name not in (there, passes)]
    if device == "cuda" and options.cuda_graphs:
        passes = f"{passes}, as CUDA graphs"
        rows[passes] = partial(network, StepGraphs(module.network, module.restoration_loss)), 1
    rows["optimizer"] = optimizer.step, 1
    rows["average"] = lambda: torch._foreach_lerp_(average, current, 0.001), 1
    own += [passes, "optimizer", "average"]
    total = 0.0
    for name, (part, count) in rows.items():
        with torch.set_grad_enabled(name.startswith("network")):
            taken = on_host(part, max(4, sizes.steps // 4 // count)) / count
        total += taken if name in own else 0.0
        results.add(f"a step, {name}: ms", 1000 * taken)
    results.add("a step of ours, all of it: ms", 1000 * step)
    results.add("a step of ours, Lightning and all else (the step less its parts): ms", 1000 * (step - total))
    results.add("a step of ours: TFLOP/s of the network", operations(plainly) / step / 1e12)


# The device and attribution


def rates(sizes: Sizes, device: str, results: Results) -> None:
    """TFLOP/s of a matrix product, the best that the device does here, in each precision."""
    side = sizes.product
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        one, two = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        with allowed() if tf32 else full_precision():
            taken = on_device(partial(torch.mm, one, two), device, 5)
        results.add(f"matrix product {side}², {name}: TFLOP/s", 2.0 * side**3 / taken / 1e12)


def attribution(sizes: Sizes, device: str, results: Results) -> None:
    """Ours at the error of the published algorithm, in float32; in bfloat16 at an agreement of 0.98."""
    case = trained_case(replace(FULL, network=sizes.network, iterations=sizes.pair, image=sizes.timed_image), device)
    exact = case.scores(quadrature("midpoint", sizes.reference))
    authors_error, authors_agreement = part_a.compare(case.scores(quadrature("right", sizes.authors)), exact)
    results.add("published algorithm: error of the scores", authors_error)
    results.add("published algorithm: agreement of the top 1 %", authors_agreement)
    few = full_precision()(partial(case.plain_scores, sizes.timed_points))
    plain_seconds = on_host(few, 1, warm_up=1) * sizes.authors / sizes.timed_points
    results.add(f"published algorithm: seconds, from {sizes.timed_points} of {sizes.authors} points", plain_seconds)
    for name, autocast in (("float32", None), ("bfloat16", torch.bfloat16)):
        for points in sizes.tried:
            rule, compute = quadrature("gauss_legendre", points), Compute(autocast)
            error, agreement = part_a.compare(case.scores(rule, compute), exact)
            good = error <= authors_error if autocast is None else agreement >= LOW_PRECISION
            if good or points == sizes.tried[-1]:
                break
        what = f"ours, {name}, {points} points"
        results.add(f"{what}: error, agreement", f"{error:.1e}, {agreement:.3f}{'' if good else ' (not reached)'}")
        taken = on_host(partial(case.scores, rule, compute), sizes.repeats, warm_up=1)
        results.add(f"{what}: seconds", taken)
        results.add(f"{what}: times as fast as the published algorithm", plain_seconds / taken)
    evaluations(case, PLAIN, sizes, results)


def evaluations(case: Case, ways: Mapping[str, Compute], sizes: Sizes, results: Results) -> None:
    """One gradient evaluation in several ways: its milliseconds and its rate."""
    lr, hr = case.first_input()
    work = operations(lambda: list(LossPath(case.network, case.baseline, case.target, lr, hr).gradients([0.5])))
    alphas = [k / 10 for k in range(1, 9)]

    def measure(name: str, compute: Compute) -> None:
        path = LossPath(case.network, case.baseline, case.target, lr, hr, compute)
        with full_precision():
            taken = on_host(lambda: [None for _ in path.gradients(alphas)], max(2, sizes.repeats)) / len(alphas)
        results.add(f"gradient evaluation, {name}: ms", 1000 * taken)
        results.add(f"gradient evaluation, {name}: TFLOP/s", work / taken / 1e12)

    for name, compute in ways.items():
        results.attempt(f"gradient evaluation, {name}", partial(measure, name, compute))


PLAIN = {
    "float32": Compute(),
    "bfloat16": Compute(torch.bfloat16),
    "float32, without CUDA graphs": Compute(cuda_graphs=False),
    "bfloat16, without CUDA graphs": Compute(torch.bfloat16, cuda_graphs=False),
    "float32, 4 points together": Compute(points_per_batch=4),
    "bfloat16, 4 points together": Compute(torch.bfloat16, points_per_batch=4),
}


def compiled(sizes: Sizes, device: str, results: Results) -> None:
    """The same with a compiled network; last, since compiling takes the longest."""
    case = random_case(settings_of(device, *sizes.network), [sizes.timed_image])
    kinds = {"bfloat16": torch.bfloat16, "float32": None}
    ways = {
        f"{name}, compiled, {mode}": Compute(autocast, compile=mode)
        for mode in sizes.timed_compiled
        for name, autocast in kinds.items()
    }
    evaluations(case, ways, sizes, results)


def memory(sizes: Sizes, device: str, results: Results) -> None:
    """The peak of a gradient evaluation, against what is counted as saved by its forward."""
    for side in sizes.memory_images:
        case = random_case(settings_of(device, *sizes.network), [(side, side)])
        rule = quadrature("midpoint", 1)
        case.integral(rule)
        _reset(device)
        before = torch.cuda.memory_allocated() if device == "cuda" else 0
        case.integral(rule)
        lr, _ = case.first_input()
        saved = Compute()._saved_per_pixel(case.network, case.target, lr) * side * side / GIGABYTE
        if device == "cuda":
            peak = (torch.cuda.max_memory_allocated() - before) / GIGABYTE
            results.add(f"memory, {side}×{side}: GB at most", peak)
            results.add(f"memory, {side}×{side}: times what the forward saves", peak / saved)
        else:
            results.add(f"memory, {side}×{side}: GB that the forward saves", saved)


def _reset(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
