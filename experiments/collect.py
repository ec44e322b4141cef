"""Collect the headline numbers of several runs into one table.

python experiments/collect.py outputs/blur_noise/<time> … > experiments/blur_noise/results.csv

One row per run, metric and value; of several runs the mean and the sample standard deviation follow as rows
whose run is `mean` and `std`.
"""

import csv
import json
import statistics
import sys
from pathlib import Path

import yaml

PREFIXES = (
    *("psnr/", "removed/", "output_difference/", "completeness_gap/", "share/"),
    *("prediction/", "boundary/", "retrained/", "carried/", "best_strength/", "filters_needed/"),
    *("area_log/", "area_linear/", "restored_without_target_biases/", "sanity/", "stability/"),
)


def main(folders: list[str]) -> None:
    values: dict[str, list[float]] = {}
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["run", "metric", "value"])
    for folder in map(Path, folders):
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        metrics |= {f"specificity/{name}": value for name, value in specificity(metrics, config).items()}
        name = f"seed {config['seed']}"
        for metric, value in sorted(metrics.items()):
            if metric.startswith((*PREFIXES, "specificity/")):
                writer.writerow([name, metric, f"{value:.4f}"])
                values.setdefault(metric, []).append(value)
    for metric, found in values.items():
        if len(found) > 1:
            writer.writerow(["mean", metric, f"{statistics.mean(found):.4f}"])
            writer.writerow(["std", metric, f"{statistics.stdev(found):.4f}"])


def specificity(metrics: dict[str, float], config: dict[str, object]) -> dict[str, float]:
    """`<method>/<percent>` → own minus other removed share, mean over the masked sets."""
    sets: dict[str, list[float]] = {}
    names = {key.split("/")[3] for key in metrics if key.startswith("removed/")}
    for key, own in metrics.items():
        if not key.startswith("removed/"):
            continue
        _, method, percent, masked, shown = key.split("/")
        if masked == shown:
            others = [metrics[f"removed/{method}/{percent}/{masked}/{name}"] for name in names - {masked}]
            sets.setdefault(f"{method}/{percent}", []).append(own - sum(others) / max(len(others), 1))
    return {name: sum(gaps) / len(gaps) for name, gaps in sets.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
