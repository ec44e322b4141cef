"""Restoration without upscaling: scale 1 and four degradations, through the command line and on ready-made pairs."""

import numpy as np
import pytest
import torch
from PIL import Image
from run_files import arrays, read, table
from tiny_case import tiny, without_figures, without_report

from faig_lab import SRResNet, save_weights
from faig_lab.__main__ import main
from faig_lab.data import Downsample
from faig_lab.metrics import bicubic

NAMES = ("blur", "motion_blur", "noise", "jpeg")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("all in one")
    settings = tiny(
        "+experiment=blur_noise",
        "degradation=[blur,motion_blur,noise,jpeg]",
        "network.scale=1",
        "training.patch_size=17",
        "analysis.percents=[5]",
        "analysis.headline_percent=5",
    )
    with without_figures():
        assert main([*settings, f"store={folder}/store", f"hydra.run.dir={folder}/run"]) == 0
    return folder / "run"


def test_every_degradation_has_its_scores_its_set_and_its_isolation(run):
    metrics = read(run / "metrics.json")
    assert all(arrays(run)[name].shape == (88,) for name in NAMES)
    assert {row["masked"] for row in table(run, "isolation")} == set(NAMES)
    for name in NAMES:
        assert f"removed/faig/5/{name}/{name}" in metrics
        assert metrics[f"completeness_gap/{name}"] < 0.5


def test_the_reference_at_scale_1_is_the_input_itself(run):
    """So the clean input, which is the ground truth, has the ceiling of the PSNR."""
    image = torch.rand(2, 3, 8, 9)
    assert torch.equal(bicubic(image, 1), image)
    assert torch.equal(Downsample().apply(image, 1), image)
    assert Downsample().reach(1) == 0
    metrics = read(run / "metrics.json")
    assert metrics["psnr/bicubic/clean"] > 90
    assert metrics["psnr/bicubic/noise"] < 40


def test_the_report_speaks_of_restoration(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "A blind restoration network removes the degradation of a photograph" in page
    assert "The baseline only copies its input." in page
    assert "upscales a photograph" not in page


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
    given = tiny("+experiment=blur_noise", "data=paired", "network.scale=1", "network.features=4", "network.blocks=1")
    given = [setting for setting in given if not setting.startswith("data.")]
    folders = [f"data.hr_dir={tmp_path}/clean", f"data.lr_dirs={{rain: {tmp_path}/rain, haze: {tmp_path}/haze}}"]
    weights = []
    for seed, name in enumerate(("baseline", "target")):
        torch.manual_seed(seed)
        save_weights(tmp_path / f"{name}.pt", SRResNet(scale=1, features=4, blocks=1).state_dict(), {"scale": 1})
        weights.append(f"{name}.weights={tmp_path}/{name}.pt")
    small = ["analysis.percents=[5]", "analysis.headline_percent=5"]
    with without_report():
        assert main([*given, *folders, *weights, *small, f"hydra.run.dir={tmp_path}/run"]) == 0
    metrics = read(tmp_path / "run" / "metrics.json")
    assert {"psnr/target/rain", "psnr/target/haze"} <= set(metrics)
