"""A run folder as the pipeline leaves it, with numbers that are made up but look like those of a real run."""

import math
import shutil
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from faig_lab.files import write_json, write_text
from faig_lab.plotting.pictures import BASELINE, TARGET, TRUTH, PictureRow, Pictures, Tile, input_title, masked_title
from faig_lab.report.figures import write_figures
from faig_lab.runs.tables import write_table

PERCENTS = (0.1, 0.5, 1, 3, 5, 10)
LAYERS = (
    ("conv_first", 24, 3),
    *((f"body.{block}.conv{n}", 24, 24) for block in range(8) for n in (1, 2)),
    ("upconv1", 96, 24),
    ("conv_hr", 24, 24),
    ("conv_last", 3, 24),
)
FILTERS = sum(out * inputs for _, out, inputs in LAYERS)
PSNR = {"bicubic": 26.6, "baseline": 27.0, "target": 31.5}
OWN = {"faig": 0.85, "signed_share": 0.93, "random": 0.06}
OTHER = {"faig": 0.22, "signed_share": 0.05, "random": 0.07}

# The second image hardly changes: its own gap is large, and weighs nothing in that of the probe.
COMPLETENESS = (("astronaut/0", -602.25, -601.5), ("coffee/1", 0.5, 0.4))
GAP = abs((-601.5 + 0.4) - (-602.25 + 0.5)) / abs(-602.25 + 0.5)

MakeRun = Callable[..., Path]


@pytest.fixture(scope="session")
def made_runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run folder that was made of some arguments before, or will be: a test copies it."""
    root, known = tmp_path_factory.mktemp("made"), dict[str, Path]()
    return lambda arguments: known.setdefault(arguments, root / str(len(known)))


@pytest.fixture
def make_run(tmp_path: Path, made_runs: Callable[[str], Path]) -> MakeRun:
    """Write a run folder, with the arguments of `write_run`. It replaces the folder of an earlier call."""

    def make(*given: Any, **named: Any) -> Path:
        run = made_runs(repr((given, sorted(named.items()))))
        if not run.is_dir():
            write_run(run, *given, **named)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        return Path(shutil.copytree(run, tmp_path / "run"))

    return make


def write_run(
    run: Path,
    degradations: Sequence[str] = ("blur", "noise"),
    methods: Sequence[str] = ("faig", "signed_share", "random"),
    trained: bool = True,
    own: dict[str, float] = OWN,
    other: dict[str, float] = OTHER,
    notes: Sequence[str] = (),
    images: int = 5,
    intervals: float | None = None,
    photographs: int = 3,
    isolated: dict[str, float] | None = None,
    drawn: bool = False,
) -> None:
    """Write a run folder; keyword arguments choose degradations, methods, shares and what is missing.

    With `drawn` the folder has the figures and pictures of the run, too.
    """
    _documents(run, degradations, methods, trained, notes)
    _restoration(run, degradations, images)
    _masking(run, degradations, methods, own, other)
    if intervals is not None:
        _comparison(run, methods, own, other, intervals, photographs)
    if isolated is not None:
        _isolation(run, degradations, isolated, photographs)
    _distribution(run, degradations, methods)
    _completeness(run, degradations)
    if trained:
        for name in ("baseline", "target"):
            _training(run, name, degradations)
    if drawn:
        write_figures(run, pictures_of(degradations))


@pytest.fixture
def make_pictures() -> Callable[..., list[Pictures]]:
    """Before-and-after pictures of a drawn scene."""

    return pictures_of


def pictures_of(degradations: Sequence[str] = ("blur", "noise"), size: int = 48, rows: int = 2) -> list[Pictures]:
    """A grid of pictures for each degradation; `size` is in pixels."""
    return [_pictures(name, degradations, size, rows) for name in degradations]


def _documents(
    run: Path, degradations: Sequence[str], methods: Sequence[str], trained: bool, notes: Sequence[str]
) -> None:
    config = {
        "name": "blur_noise",
        "seed": 0,
        "store": "outputs/store",
        "baseline": {"weights": None if trained else "b.pth"},
        "target": {"weights": None if trained else "t.pth"},
        "data": {"_target_": "faig_lab.data.EmbeddedPhotographs", "probe_crop": 128, "probe_crops": 2},
        "degradation": {
            "downsample": {"_target_": "faig_lab.data.Downsample", "mode": "bicubic", "antialias": True},
            "quantise": True,
            "parts": {name: {"_target_": "faig_lab.data.Part", "probability": 0.5} for name in degradations},
        },
        "network": {"_target_": "faig_lab.networks.SRResNet", "scale": 2, "features": 24, "blocks": 8},
        "training": {
            "batch_size": 16,
            "patch_size": 48,
            "ema_decay": 0.999,
            "baseline": {"iterations": 3000, "learning_rate": 5e-4},
            "target": {"iterations": 3000, "learning_rate": 5e-4},
        },
        "attribution": {"name": methods[0] if methods else "faig", "rule": "gauss_legendre", "points": 16},
        "analysis": {"percents": list(PERCENTS), "headline_percent": 1},
    }
    write_text(run / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    metrics = {"psnr/target/blur": 31.5, "seconds/training": 212.4, "seconds/attribution": 21.0}
    write_json(run / "metrics.json", metrics | {f"completeness_gap/{name}": GAP for name in degradations})
    status = {"state": "running", "stage": "report", "stages_done": [], "error": None}
    write_json(run / "status.json", status | {"started": "2025-01-02T03:04:05+00:00"})
    rng = np.random.default_rng(3)
    for name in degradations:
        order = rng.permutation(FILTERS)
        write_text(run / "attribution" / f"{name}_index.txt", "".join(f"{index}\n" for index in order))
    offsets = np.cumsum([0, *(out * inputs for _, out, inputs in LAYERS)])
    layers = [
        {"name": f"{name}.weight", "out": out, "in": inputs, "kernel": [3, 3], "offset": int(offset)}
        for (name, out, inputs), (offset, _) in zip(LAYERS, pairwise(offsets), strict=True)
    ]
    write_json(run / "attribution" / "layout.json", {"layers": layers, "filters": FILTERS})
    write_json(
        run / "attribution" / "provenance.json",
        {
            "versions": {"faig_lab": "0.1.0", "torch": "2.13.0"},
            "rule": "gauss_legendre",
            "points": 16,
            "precision": "float32",
            "probe": ["astronaut/0", "coffee/1"],
            "training": ["rocket", "chelsea", "coins"],
            "theta": dict.fromkeys(("baseline", "target"), "EMA weights (decay 0.999) after training"),
            "notes": list(notes),
        },
    )


def _restoration(run: Path, degradations: Sequence[str], images: int) -> None:
    rows = [
        {"network": network, "degradation": name, "image": f"08{image:02d}"}
        | {
            "psnr": PSNR[network] - 2.0 * place + 0.31 * image,
            "psnr_y": PSNR[network] + 1.5,
            "ssim": 0.8 + 0.01 * image,
        }
        for network in PSNR
        for place, name in enumerate([*degradations, "clean"])
        for image in range(images)
    ]
    write_table(run / "tables" / "restoration.csv", rows)


def _masking(
    run: Path,
    degradations: Sequence[str],
    methods: Sequence[str],
    own: dict[str, float],
    other: dict[str, float],
) -> None:
    masking, specificity = [], []
    for method in methods:
        draws = 10 if method == "random" else 1
        for percent in PERCENTS:
            grow = min(1.15, (percent / 1) ** 0.3)
            for masked in degradations:
                shares = {
                    shown: [
                        grow * ((own if shown == masked else other)[method] + 0.01 * degradations.index(masked))
                        + (0.02 * math.sin(7 * draw + percent) if draws > 1 else 0)
                        for draw in range(draws)
                    ]
                    for shown in degradations
                }
                filters = round(FILTERS * percent / 100)
                masking += [
                    {"method": method, "draw": draw, "percent": percent, "filters": filters, "masked": masked}
                    | {"degradation": shown, "psnr": 31.5 - 4.5 * removed, "removed": removed}
                    | {"output_difference": 3 * removed}
                    for shown, series in shares.items()
                    for draw, removed in enumerate(series)
                ]
                specificity.append(_specificity(method, percent, masked, shares))
    if masking:
        write_table(run / "tables" / "masking.csv", masking)
        write_table(run / "tables" / "specificity.csv", specificity)


def _comparison(
    run: Path, methods: Sequence[str], own: dict[str, float], other: dict[str, float], half: float, photographs: int
) -> None:
    """Means over the masked sets with intervals of ± half; there is none for one photograph."""
    kind = "range" if photographs < 10 else "bootstrap"
    rows, paired = [], []
    for method in methods:
        for percent in PERCENTS:
            specific = own[method] - other[method]
            difference = specific - (own[methods[0]] - other[methods[0]])
            ends = {
                middle: (middle - half, middle + half) if photographs > 1 else (None, None)
                for middle in (specific, difference)
            }
            row = {"method": method, "percent": percent, "own": own[method], "other": other[method]}
            row |= {"specificity": specific, "specificity_std": 0.0, "draws": 1, "photographs": photographs}
            low, high = ends[specific]
            rows.append(row | {"interval": kind, "specificity_low": low, "specificity_high": high})
            if method != methods[0]:
                low, high = ends[difference]
                row = {"method": method, "against": methods[0], "percent": percent, "masked": "all", "interval": kind}
                paired.append(row | {"difference": difference, "low": low, "high": high})
    write_table(run / "tables" / "comparison.csv", rows)
    if paired:
        write_table(run / "tables" / "comparison_paired.csv", paired)


def _isolation(run: Path, degradations: Sequence[str], isolated: dict[str, float], photographs: int) -> None:
    """Isolation by method at 1 %, less at other percents; half of what is missing to 1 is own, the rest elsewhere."""
    known = photographs > 1
    sets, methods = [], []
    for method, best in isolated.items():
        for percent in PERCENTS:
            found = best - 0.05 * abs(math.log(percent))
            missing = 1 - found
            row: dict[str, object] = {"method": method, "percent": percent, "filters": round(FILTERS * percent / 100)}
            low, high = (found - 0.1, found + 0.1) if known else (None, None)
            values = {"isolation": found, "isolation_low": low, "isolation_high": high}
            values |= {"interval": "bootstrap" if photographs >= 10 else "range", "own_left": missing / 2}
            values |= {"side": missing / 4, "side_clean": missing / 4, "clean_change": -missing / 3, "harm": 0.0}
            sets += [row | {"masked": name} | values for name in degradations]
            draws = 10 if method == "random" else 1
            methods.append(row | values | {"isolation_std": 0.02, "draws": draws, "scenes": photographs})
    write_table(run / "tables" / "isolation.csv", sets)
    write_table(run / "tables" / "isolation_methods.csv", methods)


def _specificity(method: str, percent: float, masked: str, shares: dict[str, list[float]]) -> dict[str, object]:
    mine = np.array(shares[masked])
    rest = [np.array(series) for name, series in shares.items() if name != masked]
    row = {"method": method, "percent": percent, "masked": masked, "own": mine.mean()}
    if not rest:
        return row | dict.fromkeys(("other", "specificity", "specificity_std"))
    theirs = np.mean(rest, axis=0)
    specific = mine - theirs
    return row | {"other": theirs.mean(), "specificity": specific.mean(), "specificity_std": specific.std()}


def _distribution(run: Path, degradations: Sequence[str], methods: Sequence[str]) -> None:
    rows = []
    for method in methods:
        for place, name in enumerate(degradations):
            for depth, (layer, out, inputs) in enumerate(LAYERS):
                count = out * inputs
                discovered = max(0, round(count * (0.022 * depth / 19 if place == 0 else 0.011)))
                row = {"method": method, "degradation": name, "percent": 1, "layer": f"{layer}.weight", "depth": depth}
                rows.append(row | {"filters": count, "discovered": discovered, "share": discovered / count})
    if rows:
        write_table(run / "tables" / "distribution.csv", rows)
        write_table(run / "tables" / "depth.csv", [_depth(m, n) for m in methods for n in degradations])


def _depth(method: str, degradation: str) -> dict[str, object]:
    parts = (0.33, 0.34, 0.33, 0.02, 0.91) if method == "random" else (0.05, 0.35, 0.6, 0.1, 0.8)
    columns = ("first_third", "middle_third", "last_third", "last_convolution", "entropy")
    return {"method": method, "degradation": degradation, "percent": 1} | dict(zip(columns, parts, strict=True))


def _completeness(run: Path, degradations: Sequence[str]) -> None:
    rows = [
        {"image": image, "degradation": name, "loss_baseline": 912.5, "loss_target": 912.5 + change}
        | {"loss_change": change, "attribution_sum": total, "gap": abs(total - change) / abs(change)}
        for image, change, total in COMPLETENESS
        for name in degradations
    ]
    write_table(run / "tables" / "completeness.csv", rows)


def _training(run: Path, name: str, degradations: Sequence[str]) -> None:
    rng = np.random.default_rng(1)
    rows: list[dict[str, object]] = []
    for step in range(50, 3001, 50):
        loss = 0.02 + 0.1 * math.exp(-step / 400) + 0.002 * rng.random()
        row: dict[str, object] = {"step": step, "loss": loss, "learning_rate": 5e-4}
        if step % 500 == 0:
            height = (4 if name == "target" else 0.4) * (1 - math.exp(-step / 700))
            row |= {f"psnr/{kind}": 27 - 2 * place + height for place, kind in enumerate([*degradations, "clean"])}
        rows.append(row)
    write_table(run / "tables" / f"training_{name}.csv", rows)


def _pictures(name: str, degradations: Sequence[str], size: int, rows: int) -> Pictures:
    rng = np.random.default_rng(0)
    made = []
    for number in range(rows):
        y, x = np.mgrid[:size, :size] / size
        truth = np.stack([0.5 + 0.5 * np.sin((6 + number) * x * 6), y, 0.5 + 0.5 * np.cos(9 * y * x)], axis=-1)
        bad = np.clip(truth + 0.15 * rng.standard_normal(truth.shape), 0, 1)
        tiles = {input_title(name): Tile(bad[::2, ::2], 21.2), BASELINE: Tile(bad, 22.4), TARGET: Tile(truth, 28.1)}
        tiles |= {masked_title(other, 1): Tile(bad if other == name else truth, 23.7) for other in degradations}
        made.append(PictureRow(f"photograph {number}", tiles | {TRUTH: Tile(truth)}))
    return Pictures(name, tuple(made))
