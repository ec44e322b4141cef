"""Part speed: training and attribution of the full network, against plain ways and against the device's own rate."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks import plain, training
from benchmarks.attribution import compare
from benchmarks.case import Case, data_of, operations, random_case, settings_of, trained_case
from benchmarks.gpu.correct import LOW_PRECISION, allowed
from benchmarks.gpu.parts_of_step import parts_of_step
from benchmarks.gpu.results import Results
from benchmarks.gpu.runs import photographs
from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.timing import Rate, on_device, on_host
from benchmarks.measuring import cores
from benchmarks.plan import FULL, Plan
from faig_lab.attribution import Compute, LossPath, Rule, faig_scores, full_precision, quadrature
from faig_lab.attribution.compute import GIGABYTE
from faig_lab.config import Settings


def run(sizes: Sizes, device: str, data: Path | None, results: Results) -> None:
    """All measurements; the training rate first, since the study asks for it."""
    shape = f"training.batch_size={sizes.batch}", f"training.patch_size={sizes.patch}"
    settings = partial(settings_of, device, *sizes.network, *photographs(data), *shape)
    results.attempt("training", lambda: training_rate(settings, sizes, device, results))
    results.attempt("the device's rate", lambda: rates(sizes, device, results))
    results.attempt("attribution", lambda: attribution(sizes, device, results))
    results.attempt("memory", lambda: memory(sizes, device, results))
    results.attempt("compiled", lambda: compiled(sizes, device, results))


def steps_a_second(device: str, sizes: Sizes, data: Path | None) -> float:
    """The rate of a training of ours alone, for a study that runs without the other measurements."""
    shape = f"training.batch_size={sizes.batch}", f"training.patch_size={sizes.patch}"
    own = settings_of(device, *sizes.network, *photographs(data), *shape)
    clock = Rate(sizes.warm_up)
    training._train(own, data_of(own), sizes.steps + sizes.warm_up, clock)
    return 1 / clock.seconds


def training_rate(settings: Callable[..., Settings], sizes: Sizes, device: str, results: Results) -> None:
    """Steps a second of ours and of the plain loop; the parts of a step of ours."""
    own = settings()
    data, plan = data_of(own), Plan(batch=sizes.batch, patch=sizes.patch)
    steps = sizes.steps + sizes.warm_up
    found = {}
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
        clock = Rate(sizes.warm_up)
        _reset(device)
        with full_precision():
            training._train(settings(*more), data, steps, clock)
        found[name] = clock.seconds
        results.add(f"training, {name}: steps a second", 1 / clock.seconds)
        if name == "ours" and device == "cuda":
            results.add("training, ours: GB at most", torch.cuda.max_memory_allocated() / GIGABYTE)
    torch.use_deterministic_algorithms(False)  # Lightning leaves both on
    torch.backends.cudnn.benchmark = False
    parts_of_step(own, data, found["ours"], sizes, device, results)
    if importlib.util.find_spec("cv2"):
        for workers in (0, min(sizes.workers * 2, cores())):
            some = [p.pixels for p in data.train[:100]]  # each worker gets a copy of its own
            images = plain.WholeImages(some, sizes.patch, plan.batch * sizes.plain_steps)
            network = random_case(own, [(8, 8)]).build().to(device)
            ends = plain.train(network, images, plan.batch, workers)
            taken = (ends[-1] - ends[len(ends) // 2 - 1]) / (len(ends) - len(ends) // 2)
            name = f"training, plain loop, {workers} workers"
            results.add(f"{name}: steps a second", 1 / taken)
            results.add(f"{name}: ours is times as fast", taken / found["ours"])


def rates(sizes: Sizes, device: str, results: Results) -> dict[str, float]:
    """TFLOP/s of a matrix product, the best that the device does here, in each precision."""
    side = sizes.product
    work, found = 2.0 * side**3, {}
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        one, two = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        with allowed() if tf32 else full_precision():
            found[name] = work / on_device(partial(torch.mm, one, two), device, 5) / 1e12
        results.add(f"matrix product {side}², {name}: TFLOP/s", found[name])
    return found


def attribution(sizes: Sizes, device: str, results: Results) -> None:
    """Ours at the error of the published algorithm, in float32; in bfloat16 at an agreement of 0.98."""
    network = sizes.network
    case = trained_case(replace(FULL, network=network, iterations=sizes.pair, image=sizes.timed_image), device)
    exact = _scores(case, quadrature("midpoint", sizes.reference))
    authors_error, authors_agreement = compare(_scores(case, quadrature("right", sizes.authors)), exact)
    results.add("published algorithm: error of the scores", authors_error)
    results.add("published algorithm: agreement of the top 1 %", authors_agreement)
    few = partial(_plain, case, sizes.timed_points)
    plain_seconds = on_host(few, 1, warm_up=1) * sizes.authors / sizes.timed_points
    results.add(f"published algorithm: seconds, from {sizes.timed_points} of {sizes.authors} points", plain_seconds)
    for name, autocast in (("float32", None), ("bfloat16", torch.bfloat16)):
        for points in sizes.tried:
            rule, compute = quadrature("gauss_legendre", points), Compute(autocast)
            error, agreement = compare(_scores(case, rule, compute), exact)
            good = error <= authors_error if autocast is None else agreement >= LOW_PRECISION
            if good or points == sizes.tried[-1]:
                break
        what = f"ours, {name}, {points} points"
        results.add(f"{what}: error, agreement", f"{error:.1e}, {agreement:.3f}{'' if good else ' (not reached)'}")
        taken = on_host(partial(_scores, case, rule, compute), sizes.repeats, warm_up=1)
        results.add(f"{what}: seconds", taken)
        results.add(f"{what}: times as fast as the published algorithm", plain_seconds / taken)
    evaluations(case, PLAIN, sizes, results)


def evaluations(case: Case, ways: Mapping[str, Compute], sizes: Sizes, results: Results) -> None:
    """One gradient evaluation in several ways: its milliseconds and its rate."""
    image = case.probe[0]
    like = next(iter(case.target.values()))
    lr, hr = image.lr[case.degradations[0]][None].to(like), image.hr[None].to(like)
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
        lr = case.probe[0].lr[case.degradations[0]][None].to(next(iter(case.target.values())))
        saved = Compute()._saved_per_pixel(case.network, case.target, lr) * side * side / GIGABYTE
        if device == "cuda":
            peak = (torch.cuda.max_memory_allocated() - before) / GIGABYTE
            results.add(f"memory, {side}×{side}: GB at most", peak)
            results.add(f"memory, {side}×{side}: times what the forward saves", peak / saved)
        else:
            results.add(f"memory, {side}×{side}: GB that the forward saves", saved)


def _scores(case: Case, rule: Rule, compute: Compute | None = None) -> torch.Tensor:
    return faig_scores(case.integral(rule, compute).magnitude)


def _plain(case: Case, points: int) -> torch.Tensor:
    with full_precision():
        return plain.scores(case.build, case.baseline, case.target, case.probe, case.degradations, case.layout, points)


def _reset(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
