"""Error per gradient evaluation of each quadrature rule, on the networks and the probe of a finished run.

    python benchmarks/quadrature.py outputs/blur_noise/<time> --csv quadrature.csv

Errors are of the discriminative FAIG scores (relative L2), against 200-point Gauss–Legendre: of the mean over the
probe, and the largest of a single image. The last adaptive row asks for no more than the error that the authors'
rule (right, 100 points) had; it stands for the claim about a quarter of its evaluations.
"""

import argparse
import csv
import time
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from faig_lab.attribution import Adaptive, ProbeIntegral, contrast, discovered, faig_scores, integrate_probe, quadrature
from faig_lab.build import compute_device, make, make_degradation, make_network
from faig_lab.config import check, compose
from faig_lab.networks import FilterLayout, load_weights

FIXED = [
    *(("left", n) for n in (16, 100)),
    *(("right", n) for n in (16, 100)),
    *(("midpoint", n) for n in (8, 16, 32)),
    *(("gauss_legendre", n) for n in (8, 16, 32)),
]
TOLERANCES = (0.03, 0.01, 0.003)
BUDGET = 129
PERCENT = 1.0


def config_of(run: Path) -> DictConfig:
    """The run's data, degradations and network in an otherwise default configuration."""
    own, config = OmegaConf.load(run / "config.yaml"), compose()
    OmegaConf.set_struct(config, False)
    for key in ("seed", "data", "degradation", "network"):
        config[key] = own[key]
    return config


class Bench:
    """The networks of a run, its probe, and the reference."""

    def __init__(self, run: Path, images: int | None) -> None:
        settings = check(config_of(run))
        self.network, device = make_network(settings), compute_device(settings)
        self.states = [
            {n: v.to(device) for n, v in load_weights(run / "weights" / f"{name}.pt", self.network).items()}
            for name in ("baseline", "target")
        ]
        data = make(settings.data).load(make_degradation(settings), settings.seed)
        self.probe, self.degradations = data.probe[:images], data.degradations
        self.layout = FilterLayout.of(self.network)
        self.reference = self.integral(quadrature("gauss_legendre", 200))

    def integral(self, rule) -> ProbeIntegral:
        return integrate_probe(self.network, *self.states, self.probe, self.degradations, self.layout, rule)

    def row(self, name: str, rule, tolerance: float | None = None) -> dict[str, object]:
        start = time.perf_counter()
        found = self.integral(rule)
        seconds = time.perf_counter() - start
        scores, expected = faig_scores(found.magnitude), faig_scores(self.reference.magnitude)
        images = zip(contrast(found.magnitude), contrast(self.reference.magnitude), strict=True)
        gaps = [row["gap"] for row in found.rows()]
        row = {
            "rule": name,
            "points": len(rule) if tolerance is None else None,
            "tolerance": tolerance,
            "evaluations": float(found.points.double().mean()),
            "evaluations_max": int(found.points.max()),
            "error": relative(scores, expected),
            "error_image": max(relative(a, b) for a, b in images),
            "error_estimate": found.effort()["error_estimate"],
            "agreement": min(agreement(a, b) for a, b in zip(scores, expected, strict=True)),
            "gap_min": min(gaps),
            "gap_max": max(gaps),
            "settled": found.effort()["settled"],
            "seconds": seconds,
        }
        print("  ".join(f"{shown(value):>15}" for value in row.values()), flush=True)
        return row


def relative(scores: torch.Tensor, expected: torch.Tensor) -> float:
    return float((scores - expected).norm() / expected.norm())


def agreement(scores: torch.Tensor, expected: torch.Tensor) -> float:
    ours, theirs = (set(discovered(values, PERCENT).tolist()) for values in (scores, expected))
    return len(ours & theirs) / len(theirs)


def shown(value: object) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run's folder")
    parser.add_argument("--images", type=int, help="only the first so many probe images")
    parser.add_argument("--csv", type=Path, help="write the table here too")
    given = parser.parse_args()
    bench = Bench(given.run, given.images)
    head = "rule points tolerance evaluations max error image estimate agreement gap_min gap_max settled seconds"
    print("  ".join(f"{name:>15}" for name in head.split()))
    rows = [bench.row(rule, quadrature(rule, points)) for rule, points in FIXED]
    authors = next(row for row in rows if (row["rule"], row["points"]) == ("right", 100))
    for tolerance in (*TOLERANCES, authors["error"]):
        rows.append(bench.row("adaptive", Adaptive(BUDGET, tolerance, PERCENT), tolerance))
    needed, error = rows[-1]["evaluations_max"], rows[-1]["error"]
    print(f"authors' rule: error {authors['error']:.2g} by 100 evaluations; adaptive: {error:.2g} by at most {needed}")
    if given.csv is not None:
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
