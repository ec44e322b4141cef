"""Degradations beside blur and noise, through the command line: at scale 1, of the second order, ready-made pairs."""

import numpy as np
import pytest
import torch
from PIL import Image
from run_files import arrays, read, table
from tiny_case import run, tiny, without_figures

from faig_lab import SRResNet, save_weights
from faig_lab.data import Downsample
from faig_lab.metrics import bicubic

FOUR = ("blur", "motion_blur", "noise", "jpeg")
NINE = ("blur_1", "resize_1", "noise_1", "jpeg_1", "blur_2", "resize_2", "noise_2", "sinc", "jpeg_2")
COMMON = ["experiment=blur_noise", "analysis.percents=[5]", "analysis.headline_percent=5"]


@pytest.fixture(scope="module")
def restored(tmp_path_factory):
    """A run of four degradations at scale 1."""
    settings = [f"degradation=[{','.join(FOUR)}]", "network.scale=1", "training.patch_size=17"]
    return run(tmp_path_factory.mktemp("scale 1") / "run", *tiny(*COMMON, *settings), report=without_figures)


def test_every_degradation_has_its_scores_its_set_and_its_isolation(restored):
    metrics = read(restored / "metrics.json")
    assert all(arrays(restored)[name].shape == (88,) for name in FOUR)
    assert {row["masked"] for row in table(restored, "isolation")} == set(FOUR)
    for name in FOUR:
        assert f"removed/faig/5/{name}/{name}" in metrics
        assert metrics[f"completeness_gap/{name}"] < 0.5


def test_the_reference_at_scale_1_is_the_input_itself(restored):
    """So the clean input, which is the ground truth, has the ceiling of the PSNR."""
    image = torch.rand(2, 3, 8, 9)
    assert torch.equal(bicubic(image, 1), image)
    assert torch.equal(Downsample().apply(image, 1), image)
    assert Downsample().reach(1) == 0
    metrics = read(restored / "metrics.json")
    assert metrics["psnr/bicubic/clean"] > 90
    assert metrics["psnr/bicubic/noise"] < 40


def test_the_report_at_scale_1_speaks_of_restoration(restored):
    page = (restored / "report.html").read_text(encoding="utf-8")
    assert "A blind restoration network removes the degradation of a photograph" in page
    assert "The baseline only copies its input." in page
    assert "upscales a photograph" not in page


def test_the_second_order_has_nine_parts_of_which_some_are_of_one_class(tmp_path):
    settings = ["degradation=second_order", "training.patch_size=16", "name=second_order"]
    folder = run(tmp_path / "run", *tiny(*COMMON, *settings))
    scores = [arrays(folder)[name] for name in NINE]
    assert all(np.isfinite(score).all() and np.ptp(score) > 0 for score in scores)
    assert len({score.tobytes() for score in scores}) == len(NINE)
    metrics = read(folder / "metrics.json")
    assert all(metrics[f"completeness_gap/{name}"] < 0.05 for name in NINE)
    assert {row["degradation"] for row in table(folder, "masking")} >= set(NINE)


def test_ready_made_pairs_of_a_degradation_that_no_formula_makes(tmp_path):
    """Rain as a folder of rainy photographs beside a folder of clean ones, at the same size."""
    rng = np.random.default_rng(0)
    for number in range(3):
        clean = rng.integers(0, 200, (40, 40, 3), dtype=np.uint8)
        rainy = clean.copy()
        rainy[:, ::7] += 50
        for folder, pixels in (("clean", clean), ("rain", rainy), ("haze", clean // 2 + 100)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    given = [f"data.hr_dir={tmp_path}/clean", f"data.lr_dirs={{rain: {tmp_path}/rain, haze: {tmp_path}/haze}}"]
    for seed, name in enumerate(("baseline", "target")):
        torch.manual_seed(seed)
        save_weights(tmp_path / f"{name}.pt", SRResNet(scale=1, features=4, blocks=1).state_dict(), {"scale": 1})
        given.append(f"{name}.weights={tmp_path}/{name}.pt")
    small = [setting for setting in tiny(*COMMON, "network.scale=1") if not setting.startswith("data.")]
    folder = run(tmp_path / "run", *small, "data=paired", *given)
    assert {"psnr/target/rain", "psnr/target/haze"} <= read(folder / "metrics.json").keys()
