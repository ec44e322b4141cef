"""Part correct: what the device computes, against the processor, and each knob against the plain way.

The networks have random weights: what counts is the arithmetic. Errors are the largest difference, relative to the
largest value. The top 1 % of float32 may differ in 2 of a thousand filters, since neighbours in a ranking can be nearer
to each other than rounding; in float64 it may not.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

import faig_lab
from benchmarks.attribution import PERCENT, agreement
from benchmarks.case import Case, data_of, random_case, settings_of
from benchmarks.gpu.results import Results
from benchmarks.gpu.sizes import Sizes
from benchmarks.measuring import seconds
from faig_lab.attribution import (
    Adaptive,
    CompileMode,
    Compute,
    ProbeIntegral,
    Problem,
    discovered,
    faig_scores,
    full_precision,
    integrate_probe,
    learned_mask,
    quadrature,
)
from faig_lab.attribution.methods import input_gradients
from faig_lab.cli.build import make_degradation, make_loop, make_module
from faig_lab.data import PatchDataset, PatchesOnDevice, StepSampler
from faig_lab.data.patches import Block
from faig_lab.evaluation.evaluator import Evaluator
from faig_lab.filters import mask
from faig_lab.metrics import restore
from faig_lab.training import Schedule, fit

BOUNDS = {torch.float32: (1e-4, 0.998), torch.float64: (1e-10, 1.0)}
"""Precision → largest error, smallest agreement of the top 1 %."""
LOW_PRECISION = 0.98


@dataclass(frozen=True)
class Pair:
    """The same case on the processor and on the device.

    Args:
        sizes: how large.
        device: "cpu" or "cuda".
    """

    sizes: Sizes
    device: str

    @cached_property
    def case(self) -> Case:
        """On the processor, in float32."""
        return random_case(settings_of("cpu", *self.sizes.network), [self.sizes.image])

    @cached_property
    def tiled(self) -> Case:
        """One larger image, on the device."""
        side = self.sizes.tiled
        return moved(random_case(settings_of("cpu", *self.sizes.network), [(side, side)]), self.device, torch.float32)

    @cached_property
    def _known(self) -> dict[tuple[str, torch.dtype], ProbeIntegral]:
        return {}

    def on(self, device: str, dtype: torch.dtype = torch.float32) -> Case:
        """The case on a device in a precision."""
        return moved(self.case, device, dtype)

    def plain(self, device: str, dtype: torch.dtype = torch.float32) -> ProbeIntegral:
        """Its integral, computed the plain way once."""
        if (device, dtype) not in self._known:
            self._known[device, dtype] = self.integral(self.on(device, dtype))
        return self._known[device, dtype]

    def integral(self, case: Case, compute: Compute | None = None) -> ProbeIntegral:
        """The path integral of a case."""
        return case.integral(quadrature("gauss_legendre", self.sizes.points), compute)


def moved(case: Case, device: str, dtype: torch.dtype) -> Case:
    """A case with its weights elsewhere."""
    baseline, target = ({n: v.to(device, dtype) for n, v in s.items()} for s in (case.baseline, case.target))
    network = copy.deepcopy(case.network).to(device, dtype)
    return replace(case, network=network, baseline=baseline, target=target)


def error(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


def compare(
    results: Results, what: str, found: ProbeIntegral, expected: ProbeIntegral, dtype: torch.dtype = torch.float32
) -> None:
    """Rows for scores, top set and the sum that the completeness gap is made of."""
    bound, least = BOUNDS[dtype]
    scores, wanted = faig_scores(found.magnitude), faig_scores(expected.magnitude)
    results.at_most(f"{what}: scores", error(scores, wanted), bound)
    results.at_least(f"{what}: top {PERCENT:g} %", agreement(scores, wanted), least)
    results.at_most(f"{what}: sum of all attributions", error(found.total, expected.total), bound)
    gaps = [max(integral.gap(name) for name in integral.degradations) for integral in (found, expected)]
    results.at_most(f"{what}: completeness gap, difference", abs(gaps[0] - gaps[1]), max(100 * bound * gaps[1], bound))


def against_processor(pair: Pair, results: Results, dtype: torch.dtype = torch.float32) -> None:
    """Scores, sums, gap and the outputs of a masked network."""
    name = str(dtype).removeprefix("torch.")
    expected, found = pair.plain("cpu", dtype), pair.plain(pair.device, dtype)
    compare(results, f"{name}, device to processor", found, expected, dtype)
    filters = discovered(faig_scores(expected.magnitude)[0], PERCENT)
    outputs = []
    for device in ("cpu", pair.device):
        case = pair.on(device, dtype)
        state = mask(case.target, case.baseline, case.layout, filters)
        with full_precision():
            outputs += restore(case.network, state, case.probe, case.degradations[0])
    results.at_most(f"{name}, device to processor: masked outputs", error(outputs[1], outputs[0]), BOUNDS[dtype][0])


def evaluation(pair: Pair, results: Results) -> None:
    """PSNR and sums of the edit of a masked network in float64, which the evaluator computes on the device."""
    filters, found = discovered(faig_scores(pair.plain("cpu").magnitude)[0], PERCENT), []
    for device in ("cpu", pair.device):
        case = pair.on(device, torch.float64)
        evaluator = Evaluator(case.network, case.baseline, case.target, case.probe, case.probe[0].scale)
        state = mask(case.target, case.baseline, case.layout, filters)
        with full_precision():
            found.append(evaluator.evaluate(state, case.degradations[0]))
    processor, there = found
    change = float((there.psnrs - processor.psnrs).abs().max())
    results.at_most("evaluation, device to processor: PSNR of a masked network, dB", change, 1e-4)
    for name, sums, expected in zip(processor.sums._fields, there.sums, processor.sums, strict=True):
        results.at_most(f"evaluation, device to processor: {name}", error(sums, expected), BOUNDS[torch.float64][0])


def tf32(pair: Pair, results: Results) -> None:
    """float32 is float32: its error against float64, and what TF32 would have done."""
    exact = faig_scores(pair.plain("cpu", torch.float64).magnitude)
    own = faig_scores(pair.plain(pair.device).magnitude)
    results.at_most("float32, device to float64: scores", error(own, exact), BOUNDS[torch.float32][0])
    case = pair.on(pair.device)
    rule = quadrature("gauss_legendre", pair.sizes.points)
    problem = Problem(case.network, case.baseline, case.target, case.probe, case.degradations, rule)
    with allowed():  # the function below the decorator that switches it off
        rough = inspect.unwrap(integrate_probe)(problem, rule)
    scores = faig_scores(rough.magnitude)
    results.add("TF32, if it were allowed: error of the scores", error(scores, exact))
    results.add("TF32, if it were allowed: agreement of the top 1 %", agreement(scores, exact))


@contextmanager
def allowed() -> Iterator[None]:
    """With TF32."""
    flags: tuple[Any, ...] = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = True
    try:
        yield
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


def bfloat16(pair: Pair, results: Results) -> None:
    """Autocast against float32 on the device."""
    exact = faig_scores(pair.plain(pair.device).magnitude)
    rough = faig_scores(pair.integral(pair.on(pair.device), Compute(torch.bfloat16)).magnitude)
    results.at_least("bfloat16 to float32: top 1 %", agreement(rough, exact), LOW_PRECISION)
    results.add("bfloat16 to float32: error of the scores", error(rough, exact))


def recorded(pair: Pair, results: Results) -> None:
    """Passes replayed as CUDA graphs against single launches."""
    for dtype in BOUNDS:
        found = pair.integral(pair.on(pair.device, dtype), Compute(cuda_graphs=False))
        name = str(dtype).removeprefix("torch.")
        compare(results, f"CUDA graphs to single launches, {name}", pair.plain(pair.device, dtype), found, dtype)
    masks = []
    for graphs in (True, False):
        case = pair.on(pair.device)
        rule, compute = quadrature("gauss_legendre", 3), Compute(cuda_graphs=graphs)
        parts = case.network, case.baseline, case.target, case.probe, case.degradations, rule
        masks.append(learned_mask(Problem(*parts, compute=compute), steps=8))
    results.at_most("learned mask, CUDA graphs to single launches: scores", error(*masks), 1e-4)


def tiles(pair: Pair, results: Results) -> None:
    """An image in tiles against the whole one."""
    case, compute = pair.tiled, Compute(memory=pair.sizes.memory)
    cut = compute.tiles(case.network, case.target, case.first_input()[0], case.settings.network["scale"])
    results.at_least("tiles: how many", len(cut), 2)
    compare(results, "tiles to the whole image", pair.integral(case, compute), pair.integral(case))


def together(pair: Pair, results: Results) -> None:
    """Several points at once, in three precisions."""
    for dtype in BOUNDS:
        found = pair.integral(pair.on(pair.device, dtype), Compute(points_per_batch=3))
        name = str(dtype).removeprefix("torch.")
        compare(results, f"3 points together, {name}", found, pair.plain(pair.device, dtype), dtype)
    rough = pair.integral(pair.on(pair.device), Compute(torch.bfloat16, points_per_batch=3))
    scores = [faig_scores(integral.magnitude) for integral in (rough, pair.plain(pair.device))]
    results.at_least("3 points together, bfloat16: top 1 %", agreement(*scores), LOW_PRECISION)


def compiled(pair: Pair, results: Results) -> None:
    """torch.compile, CUDA graphs, and these with tiles."""
    for mode in pair.sizes.compiled:
        results.attempt(f"compiled, {mode}", partial(_compiled, pair, results, mode))


def _compiled(pair: Pair, results: Results, mode: CompileMode) -> None:
    found = []
    case = pair.on(pair.device)
    taken = seconds(lambda: found.append(pair.integral(case, Compute(compile=mode))))
    compare(results, f"compiled, {mode}", found[0], pair.plain(pair.device))
    again = seconds(lambda: pair.integral(case, Compute(compile=mode)))
    results.add(f"compiled, {mode}: seconds the first time, then", f"{taken:.1f}, {again:.3f}")
    if mode == "reduce-overhead":  # whose graphs write into the same memory again
        cut = pair.integral(pair.tiled, Compute(compile=mode, memory=pair.sizes.memory))
        compare(results, f"compiled, {mode}, tiles", cut, pair.integral(pair.tiled))


def repeated(pair: Pair, results: Results) -> None:
    """The same integral twice: equal bits are not promised by cuDNN, so it is a note."""
    one, two = (pair.integral(pair.on(pair.device)).magnitude for _ in range(2))
    results.add("the same attribution twice", "the same bits" if torch.equal(one, two) else f"error {error(two, one)}")


def library(pair: Pair, results: Results) -> None:
    """`faig_lab.attribute` with `device`, weights on the processor, and masking what it finds."""
    case = pair.case
    hr = torch.stack([image.hr for image in case.probe])
    images = {name: (torch.stack([image.lr[name] for image in case.probe]), hr) for name in case.degradations}
    rule = quadrature("gauss_legendre", pair.sizes.points)
    found = faig_lab.attribute(case.network, case.baseline, case.target, images, rule=rule, device=pair.device)
    expected = faig_scores(pair.plain("cpu").magnitude)
    name = case.degradations[0]
    results.at_most("faig_lab.attribute(device=…): scores", error(found.scores[name], expected[0]), 1e-4)
    masked = found.mask(name)
    changed = sum(not torch.equal(value, case.target[n]) for n, value in masked.items())
    results.at_least("faig_lab.attribute(device=…): layers that masking changes", changed, 1)


def adaptive(pair: Pair, results: Results) -> None:
    """Adaptive quadrature, and input gradients, on the device against the processor."""
    integrals = [pair.on(device).integral(Adaptive(9, 1e-6, PERCENT)) for device in ("cpu", pair.device)]
    compare(results, "adaptive, device to processor", integrals[1], integrals[0])
    rule, found = quadrature("gauss_legendre", 3), []
    for device in ("cpu", pair.device):
        case = pair.on(device)
        clean = tuple(case.probe)
        found.append(input_gradients(Problem(case.network, case.baseline, case.target, clean, case.degradations, rule)))
    results.at_most("input gradients, device to processor: scores", error(found[1], found[0]), 1e-4)


def patches(pair: Pair, results: Results) -> None:
    """Patches that the device cuts and degrades, against the same code on the processor."""
    settings = settings_of("cpu", *pair.sizes.network)
    data, degradation = data_of(settings), make_degradation(settings)
    dataset = PatchDataset(data.train, settings.training.patch_size, degradation.margin, seed=0, stream="target")
    sampler, numbers, found = StepSampler(4, 32), range(128), []
    for device in map(torch.device, ("cpu", pair.device)):
        loader, block = PatchesOnDevice(dataset, sampler, degradation, False, device), Block(dataset, device)
        found.append((block.patches(numbers).cpu(), loader.made(block, numbers)))
    (cut, expected), (cut_there, there) = found
    results.at_most("patches, device to processor: pixels that differ", int((cut != cut_there).sum()), 0)
    results.at_most("patches, device to processor: HR", error(there.hr.cpu(), expected.hr), 1e-6)
    off = ((there.lr.cpu() - expected.lr).abs() * 255).round()
    results.at_most("patches, device to processor: LR, grey levels", float(off.max()), 1)
    results.at_most(
        "patches, device to processor: LR, share of pixels one level off", float((off > 0).float().mean()), 1e-3
    )


def trainings(pair: Pair, results: Results) -> None:
    """A few steps of gradient descent: device against processor, CUDA graphs against single launches, workers."""
    single = "training.cuda_graphs=false"
    plain = _trained(pair, pair.device, single)
    results.at_most("6 steps, device to processor: weights", _apart(plain, _trained(pair, "cpu", single)), 1e-3)
    graphs = _trained(pair, pair.device)
    results.at_most("6 steps, CUDA graphs to single launches: weights", _apart(graphs, plain), 1e-4)
    rough = [_trained(pair, pair.device, "trainer.precision=bf16-mixed", *more) for more in ((), (single,))]
    results.at_most("6 steps in bfloat16, CUDA graphs to single launches: weights", _apart(*rough), 1e-2)
    host, count = ("training.patches=host", "+trainer.deterministic=true"), pair.sizes.workers
    cut = [_trained(pair, pair.device, *host, f"training.workers={workers}") for workers in (0, count)]
    torch.use_deterministic_algorithms(False)  # Lightning leaves it on
    results.at_most(f"6 steps, {count} workers to none: weights", _apart(*cut), 0)


def _trained(pair: Pair, device: str, *more: str) -> dict[str, Tensor]:
    sizes = "training.batch_size=4", "training.patch_size=32", "training.ema_decay=0", "training.patches=device"
    settings = settings_of(device, *pair.sizes.network, *sizes, "trainer.precision=32-true", *more)
    data, degradation = data_of(settings), make_degradation(settings)
    module = make_module(settings, "target", degradation, None)
    module.schedule = Schedule(6, 0.1, 6)
    module.make_optimizer = torch.optim.SGD
    dataset = PatchDataset(data.train, settings.training.patch_size, degradation.margin, seed=0, stream="target")
    loop = make_loop(settings, data.train).without_validation()
    with full_precision():
        return fit(module, dataset, (), loop=loop, name="a few steps").state


def _apart(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The largest difference of weights, relative to the largest weight of the tensor."""
    return max(error(found[name], value) for name, value in expected.items())


CHECKS: dict[str, Callable[[Pair, Results], None]] = {
    "float32": against_processor,
    "float64": partial(against_processor, dtype=torch.float64),
    "evaluation": evaluation,
    "TF32": tf32,
    "bfloat16": bfloat16,
    "recorded": recorded,
    "tiles": tiles,
    "together": together,
    "library": library,
    "adaptive": adaptive,
    "repeated": repeated,
    "patches": patches,
    "trainings": trainings,
    "compiled": compiled,
}


def run(sizes: Sizes, device: str, results: Results) -> None:
    """All checks."""
    pair = Pair(sizes, device)
    for name, check in CHECKS.items():
        results.attempt(name, partial(check, pair, results))
