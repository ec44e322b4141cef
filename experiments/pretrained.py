"""Make the pair of networks that the package ships out of a run, and compare it with the run's own.

python experiments/pretrained.py write RUN FOLDER
    RUN is a finished run that trained both networks. Its weights, rounded to half precision, become two .safetensors
    files in FOLDER, each with a .yaml that says where it comes from.
python experiments/pretrained.py compare RUN HALF FOLDER TABLE
    HALF is the same run on the rounded weights. PSNR and isolation of both go to TABLE, PSNR into the .yaml files too.
"""

import csv
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from faig_lab.api.weights import load_weights
from faig_lab.cli.arguments import compose
from faig_lab.cli.build import make_network
from faig_lab.config import check
from faig_lab.files import write_text
from faig_lab.filters import save_weights

NAMES = ("baseline", "target")
INPUTS = ("blur", "noise", "clean")
COMPARED = re.compile(r"psnr/(baseline|target)/(blur|noise|clean)|isolation/(faig|isolation_share)/[\d.]+(/\w+)?")


def write(run: Path, folder: Path) -> None:
    """Round the run's two networks and describe them.

    Raises:
        ValueError: the run did not train them, or a weight is too large for half precision.
    """
    config = read(run / "config.yaml")
    network = make_network(check(compose(["experiment=blur_noise", f"seed={config['seed']}"])))
    rounded = {}
    for name in NAMES:  # before anything is written
        if config[name]["weights"] is not None:
            raise ValueError(f"{run} did not train its {name}")
        state = load_weights(run / "weights" / f"{name}.pt", network)
        rounded[name] = {key: value.half() for key, value in state.items()}
        if not all(torch.isfinite(value).all() for value in rounded[name].values()):
            raise ValueError(f"{run}: a weight of its {name} is too large for half precision")
    for name, half in rounded.items():
        path = folder / f"srresnet_small_{name}.safetensors"
        save_weights(path, half, described(run, config, name))
        add(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def described(run: Path, config: dict[str, Any], name: str) -> dict[str, Any]:
    """What the .yaml says: the run's own description, and all that the training was told."""
    training = dict(config["training"])
    schedule = {phase: training.pop(phase) for phase in NAMES}[name]
    degradation = config["degradation"] if name == "target" else {"downsample": config["degradation"]["downsample"]}
    provenance = json.loads((run / "attribution" / "provenance.json").read_text(encoding="utf-8"))
    return read(run / "weights" / f"{name}.yaml") | {
        "precision": "float16, rounded from float32",
        "licence": "Apache-2.0, as faig_lab; README.md beside this file names the photographs",
        "made_by": "make study STUDY=first_look",
        "start": "fresh weights" if name == "baseline" else "the baseline before it was rounded",
        "photographs": provenance["training"],
        "degradation": degradation,
        "training": training | schedule | {"precision": provenance["training_precision"]},
    }


def compare(run: Path, half: Path, folder: Path, table: Path) -> None:
    """Write what both runs measured beside each other, and the PSNR into the descriptions."""
    full, rounded = (json.loads((one / "metrics.json").read_text(encoding="utf-8")) for one in (run, half))
    keys = [key for key in full if COMPARED.fullmatch(key)]
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["key", "float32", "float16", "difference"])
        for key in keys:
            rows.writerow([key, *(f"{value:.5f}" for value in (full[key], rounded[key], rounded[key] - full[key]))])
    for name in NAMES:
        psnr = {
            precision: {of: round(found[f"psnr/{name}/{of}"], 3) for of in INPUTS}
            for precision, found in (("float32", full), ("float16", rounded))
        }
        add(folder / f"srresnet_small_{name}.safetensors", psnr=psnr)


def add(path: Path, **facts: object) -> None:
    """Add facts to the description beside a weights file."""
    beside = path.with_suffix(".yaml")
    write_text(beside, yaml.safe_dump(read(beside) | facts, sort_keys=False))


def read(path: Path) -> dict[str, Any]:
    """A YAML file of plain data."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


if __name__ == "__main__":
    {"write": write, "compare": compare}[sys.argv[1]](*map(Path, sys.argv[2:]))
