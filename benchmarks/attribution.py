"""Attribution against a plain implementation of the published algorithm, and against this machine's floor.

    python benchmarks/attribution.py outputs/bench/<time> --csv attribution.csv

The plain one follows the paper's description: 100 points from the target towards the baseline, at each of them a
network built and loaded anew, each degradation contrasted on its own, so that every integral is computed twice.
Ours is `integrate_probe`. Both run in turns in one process; times are medians. Errors are of the discriminative
scores (relative L2) and of the top 1 % against 400 midpoints. The floor is the counted operations of a forward and
a backward over the best rate at which this machine multiplies matrices or convolves, measured in the same process.
"""

import argparse
import csv
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from faig_lab.attribution import discovered, faig_scores, integrate_probe, quadrature
from faig_lab.attribution.path import LossPath
from faig_lab.build import compute_device, make, make_degradation, make_network
from faig_lab.config import check, compose
from faig_lab.data import PairedImage
from faig_lab.networks import FilterLayout, load_weights

PERCENT = 1.0
POINTS = (4, 5, 6, 8, 10, 12, 16)
PLAIN_POINTS = 100

State = dict[str, Tensor]


class Case:
    """A pair of networks and the images it is attributed on."""

    def __init__(self, run: Path, images: int, lr_size: tuple[int, int]) -> None:
        own, config = OmegaConf.load(run / "config.yaml"), compose()
        OmegaConf.set_struct(config, False)
        for key in ("seed", "data", "degradation", "network"):
            config[key] = own[key]
        config.data.probe_crop = 2 * max(lr_size)
        self.settings = check(config)
        device = compute_device(self.settings)
        self.network = make_network(self.settings).to(device)
        self.baseline, self.target = (
            {n: v.to(device) for n, v in load_weights(run / "weights" / f"{name}.pt", self.network).items()}
            for name in ("baseline", "target")
        )
        data = make(self.settings.data).load(make_degradation(self.settings), self.settings.seed)
        self.degradations = data.degradations
        self.probe = tuple(_cut(image, lr_size) for image in data.probe[:images])
        self.layout = FilterLayout.of(self.network)

    def scores(self, rule: str, points: int, autocast: torch.dtype | None = None) -> Tensor:
        """(K, F) discriminative scores by ours."""
        integral = integrate_probe(
            self.network,
            self.baseline,
            self.target,
            self.probe,
            self.degradations,
            self.layout,
            quadrature(rule, points),
            autocast,
        )
        return faig_scores(integral.magnitude)

    def plain(self, points: int = PLAIN_POINTS) -> Tensor:
        """(K, F) discriminative scores by the published algorithm, said plainly."""
        return torch.stack(
            [
                sum(
                    self._single(image, own, points) - self._single(image, other, points)
                    for image in self.probe
                    for other in self.degradations
                    if other != own
                )
                / len(self.probe)
                for own in self.degradations
            ]
        )

    def _single(self, image: PairedImage, degradation: str, points: int) -> Tensor:
        lr, hr = image.lr[degradation][None], image.hr[None]
        names = [layer.name for layer in self.layout.layers]
        total = {name: torch.zeros_like(self.target[name]) for name in names}
        for k in range(points):
            share = k / points
            network = make_network(self.settings)
            network.load_state_dict({n: share * self.baseline[n] + (1 - share) * self.target[n] for n in self.target})
            network.zero_grad()
            ((network(lr) - hr) ** 2).sum().backward()
            gradients = {n: p.grad for n, p in network.named_parameters()}
            for name in names:
                total[name] += gradients[name]
        return self.layout.gather(
            {n: (total[n] * (self.baseline[n] - self.target[n]) / points).abs() for n in names}
        ).double()


def _cut(image: PairedImage, lr_size: tuple[int, int]) -> PairedImage:
    """The upper left corner of a paired image, at most so many LR pixels."""
    height, width = lr_size
    scale = image.hr.shape[-1] // image.lr["clean"].shape[-1]
    small = {name: lr[..., :height, :width].contiguous() for name, lr in image.lr.items()}
    return PairedImage(image.name, image.hr[..., : scale * height, : scale * width].contiguous(), small)


def compare(scores: Tensor, reference: Tensor) -> tuple[float, float]:
    """Relative L2 error, and agreement of the top sets, of the worse degradation."""
    error = (scores - reference).norm(dim=1) / reference.norm(dim=1)
    sets = [[set(discovered(row, PERCENT).tolist()) for row in each] for each in (scores, reference)]
    shared = [len(a & b) / len(b) for a, b in zip(*sets, strict=True)]
    return float(error.max()), min(shared)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turns(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, measured one after the other in every round."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            found[name].append(seconds(run))
    return {name: statistics.median(values) for name, values in found.items()}


def against_plain(case: Case, repeats: int) -> list[dict[str, object]]:
    """Part a: the ratios to the published algorithm."""
    reference = case.scores("midpoint", 400)
    start = time.perf_counter()
    plain = compare(case.plain(), reference)
    first = time.perf_counter() - start
    print(f"plain: error {plain[0]:.2e}, agreement {plain[1]:.3f} ({first:.1f} s the first time)", flush=True)
    quality = {
        (rule, points, precision): compare(case.scores(rule, points, precision), reference)
        for precision in (None, torch.bfloat16)
        for rule in ("midpoint", "gauss_legendre")
        for points in POINTS
    }
    chosen = {
        "float32, error no larger": _fewest(quality, lambda e, a, p: p is None and e <= plain[0]),
        "float32, agreement no smaller": _fewest(quality, lambda e, a, p: p is None and a >= plain[1]),
        "float32, the default": ("gauss_legendre", 16, None),
        "bfloat16, agreement at least 0.98": _fewest(quality, lambda e, a, p: p is not None and a >= 0.98),
    }
    runs: dict[str, Callable[[], object]] = {"plain": case.plain}
    runs |= {name: (lambda how=how: case.scores(*how)) for name, how in chosen.items() if how is not None}
    times = in_turns(runs, repeats)
    rows: list[dict[str, object]] = []
    for name, taken in times.items():
        rule, points, precision = chosen.get(name) or ("right", PLAIN_POINTS, None)
        error, agreement = plain if name == "plain" else quality[rule, points, precision]
        evaluations = len(case.probe) * len(case.degradations) * points * (2 if name == "plain" else 1)
        rows.append(
            {
                "part": "a",
                "what": name,
                "rule": rule,
                "evaluations": evaluations,
                "error": f"{error:.3g}",
                "agreement": f"{agreement:.4f}",
                "seconds": f"{taken:.3f}",
                "ratio": f"{times['plain'] / taken:.2f}",
            }
        )
    for name, how in chosen.items():
        if how is None:
            print(f"{name}: none of {POINTS} points reaches it")
    return rows


def _fewest(quality: dict, wanted: Callable[..., bool]) -> tuple[str, int, torch.dtype | None] | None:
    """The rule with the fewest points that is good enough; of two, the one with the smaller error."""
    good = [(how[1], values[0], how) for how, values in quality.items() if wanted(*values, how[2])]
    return min(good, key=lambda item: item[:2])[2] if good else None


def against_floor(case: Case, size: int, repeats: int) -> list[dict[str, object]]:
    """Part b: one gradient evaluation against counted operations over the machine's best rate."""
    image = case.probe[0]
    lr = torch.rand(1, 3, size, size).to(image.hr)
    hr = torch.rand(1, 3, 2 * size, 2 * size).to(image.hr)
    rows: list[dict[str, object]] = []
    for name, precision in (("float32", None), ("bfloat16", torch.bfloat16)):
        path = LossPath(case.network, case.baseline, case.target, lr, hr, precision)
        with FlopCounterMode(display=False) as counter:
            path.gradients(0.5)
        work = counter.get_total_flops()
        runs = _rates(precision or torch.float32) | {"ours": lambda path=path: path.gradients(0.5)}
        times = in_turns({n: (run if n == "ours" else run[0]) for n, run in runs.items()}, repeats)
        rate = max(runs[n][1] / times[n] for n in runs if n != "ours")
        rows.append(
            {
                "part": "b",
                "what": f"{name}, {size}×{size} LR",
                "evaluations": 1,
                "seconds": f"{times['ours']:.4f}",
                "floor": f"{work / rate:.4f}",
                "ratio": f"{work / rate / times['ours']:.3f}",
                "gflops": f"{work / times['ours'] / 1e9:.0f} of {rate / 1e9:.0f}",
            }
        )
    return rows


def _rates(dtype: torch.dtype) -> dict[str, tuple[Callable[[], object], float]]:
    """Operations whose rate bounds a network's: a matrix product and a convolution forward, with their FLOP."""
    side, channels, pixels = 2048, 64, 128
    matrix = torch.rand(side, side).to(dtype)
    image = torch.rand(4, channels, pixels, pixels).to(dtype).contiguous(memory_format=torch.channels_last)
    layer = nn.Conv2d(channels, channels, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)

    def convolve() -> Tensor:
        with torch.no_grad():
            return layer(image)

    return {
        "matrix product": (lambda: matrix @ matrix, 2.0 * side**3),
        "convolution": (convolve, 2.0 * 9 * channels**2 * 4 * pixels**2),
    }


def write(rows: Sequence[dict[str, object]], path: Path | None) -> None:
    heads = list(dict.fromkeys(key for row in rows for key in row))
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if path is not None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, heads, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run: its networks, data and degradations are used")
    parser.add_argument("--parts", default="ab")
    parser.add_argument("--images", type=int, default=1, help="probe images (default 1)")
    parser.add_argument("--lr-size", type=int, nargs=2, default=(78, 66), metavar=("H", "W"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    case = Case(given.run, given.images, tuple(given.lr_size))
    rows: list[dict[str, object]] = []
    if "a" in given.parts:
        rows += against_plain(case, given.repeats)
    if "b" in given.parts:
        rows += against_floor(case, 128, 4 * given.repeats + 1)
    write(rows, given.csv)


if __name__ == "__main__":
    main()
