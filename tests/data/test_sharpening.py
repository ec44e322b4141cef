"""The sharpened truth: Real-ESRGAN's unsharp mask, in the losses and nowhere else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from faig_lab.cli.arguments import compose
from faig_lab.cli.build import determinants, make_degradation, make_network, make_problem
from faig_lab.cli.trained import train_once
from faig_lab.config import check
from faig_lab.data import (
    Batch,
    Degradation,
    Downsample,
    GaussianNoise,
    PairedImage,
    Photograph,
    StudyData,
    degrade,
    sharpened,
)
from faig_lab.filters import fingerprint
from faig_lab.training.finetuning import _one_part

SHARPEN = "degradation.sharpen_truth=true"
TINY = ["trainer=cpu", "network.features=4", "network.blocks=1"]


def published_usm(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """`USMSharp(radius=50)` of Real-ESRGAN on (3, H, W), by SciPy's dense convolution with the full 51×51 kernel."""
    size = 50 + 1
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8  # cv2.getGaussianKernel of sigma 0
    line = np.exp(-((np.arange(size) - (size - 1) / 2) ** 2) / (2 * sigma**2))
    kernel = np.outer(line / line.sum(), line / line.sum())

    def blurred(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([ndimage.convolve(channel, kernel, mode="mirror") for channel in x])

    residual = image - blurred(image)
    soft_mask = blurred((np.abs(residual) * 255 > 10).astype(np.float64))
    sharp = np.clip(image + 0.5 * residual, 0, 1)
    return soft_mask * sharp + (1 - soft_mask) * image


def detailed(height: int, width: int) -> NDArray[np.float64]:
    """Edges of several heights beside flat parts."""
    rng = np.random.default_rng(0)
    coarse = rng.random((3, -(-height // 9), -(-width // 9))).repeat(9, axis=1).repeat(9, axis=2)
    coarse[:, :, : coarse.shape[2] // 2] *= 0.1
    return np.clip(coarse[:, :height, :width] + rng.normal(0, 0.01, (3, height, width)), 0, 1)


@pytest.mark.parametrize("size", [(60, 71), (26, 90), (12, 17), (1, 30)])
def test_sharpening_is_the_published_one(size: tuple[int, int]) -> None:
    image = detailed(*size)
    result = sharpened(torch.from_numpy(image)[None])[0].numpy()
    np.testing.assert_allclose(result, published_usm(image), rtol=0, atol=1e-12)
    assert np.abs(result - image).max() > 0.01
    assert 0 <= result.min() <= result.max() <= 1


def test_sharpening_in_single_precision_and_in_a_batch() -> None:
    weak = 0.5 + (np.random.default_rng(0).random((3, 40, 40)) - 0.5) * 0.06
    images = torch.from_numpy(np.stack([detailed(40, 40), weak])).float()
    before = images.clone()
    result = sharpened(images)
    assert result.dtype == torch.float32
    assert torch.equal(images, before)
    assert torch.equal(result[1], images[1])  # residuals of at most 10 of 255 levels are not sharpened
    for image, single in zip(images, result, strict=True):
        torch.testing.assert_close(sharpened(image[None])[0], single, rtol=0, atol=1e-6)


def way(sharpen_truth: bool) -> Degradation:
    return Degradation({"noise": GaussianNoise()}, Downsample(), 2, sharpen_truth=sharpen_truth)


@pytest.mark.parametrize("clean", [True, False])
def test_training_compares_with_the_sharpened_patch_and_lr_stays(clean: bool) -> None:
    margin = way(True).margin
    assert margin == way(False).margin
    patches = torch.from_numpy((detailed(32 + 2 * margin, 32 + 2 * margin) * 255).astype(np.uint8))[None]
    batch = Batch(patches, (0,))
    lr, truth = degrade(batch, way(True), 0, "target", clean)
    plain_lr, plain = degrade(batch, way(False), 0, "target", clean)
    assert torch.equal(lr, plain_lr)
    inner = published_usm(patches[0].double().numpy() / 255)[:, margin:-margin, margin:-margin]
    np.testing.assert_allclose(truth[0].numpy(), inner, rtol=0, atol=1e-5)
    assert float((truth - plain).abs().max()) > 0.01


def study() -> StudyData:
    rng = np.random.default_rng(0)
    hr = torch.from_numpy(detailed(32, 32)).float()
    lr = {name: torch.rand(3, 16, 16) for name in ("clean", "blur", "noise")}
    image = PairedImage("i", hr, lr)
    photo = Photograph("p", "p", rng.integers(0, 255, (8, 8, 3), dtype=np.uint8), "hash")
    return StudyData((photo,), (image,), (image,), ("blur", "noise"))


def problem_hr(*more: str) -> tuple[Tensor, StudyData]:
    settings, data = check(compose([*TINY, *more])), study()
    state: Any = make_network(settings).state_dict()
    problem = make_problem(settings, data, state, state)
    assert torch.equal(problem.probe[0].lr["blur"], data.probe[0].lr["blur"])
    return problem.probe[0].hr, data


def test_the_loss_of_attribution_compares_with_the_sharpened_probe_and_psnr_does_not() -> None:
    hr, data = problem_hr(SHARPEN)
    np.testing.assert_allclose(hr.numpy(), published_usm(detailed(32, 32)), rtol=0, atol=1e-5)
    for image in (data.probe[0], data.held_out[0]):  # what validation and evaluation measure PSNR against
        np.testing.assert_allclose(image.hr.numpy(), detailed(32, 32), rtol=0, atol=1e-6)
    plain, data = problem_hr()
    assert plain is data.probe[0].hr


@pytest.mark.parametrize("name", ["baseline", "target"])
@pytest.mark.parametrize("choice", ["blur_noise", "blur_noise_jpeg", "motion_blur", "[noise,poisson_noise]"])
def test_off_it_leaves_no_trace_in_the_key_of_a_network_and_on_it_determines_both(name: str, choice: str) -> None:
    key, off, on = (
        determinants(check(compose([*TINY, f"degradation={choice}", *more])), name, study(), None)
        for more in ([], [SHARPEN.replace("true", "false")], [SHARPEN])
    )
    assert list(key["degradation"]) == ["downsample", "quantise", *(["parts"] if name == "target" else [])]
    assert "sharpen" not in str(key)
    assert fingerprint(off) == fingerprint(key) != fingerprint(on)


def test_the_setting_reaches_the_degradation_and_what_is_derived_from_it() -> None:
    on, off = (make_degradation(check(compose([*TINY, *more]))) for more in ([SHARPEN], []))
    assert (on.sharpen_truth, off.sharpen_truth) == (True, False)
    one = _one_part(on, "blur")
    assert one.sharpen_truth
    assert one.draw(np.random.default_rng(0)) in ({"blur"}, {"noise"}, frozenset())


def test_networks_are_trained_against_it(tmp_path: Path) -> None:
    """Whole trainings of three steps; with it off the weights are those without the setting."""
    few = ["training.baseline.iterations=3", "training.batch_size=2", "training.patch_size=16"]
    photo = Photograph("p", "p", (detailed(60, 60) * 255).astype(np.uint8).transpose(1, 2, 0).copy(), "hash")

    def trained(folder: str, *more: str) -> list[Tensor]:
        store = f"store={tmp_path / folder}"
        settings = check(compose([*TINY, *few, *more, "trainer.precision=32-true", store]))
        data = replace(study(), train=(photo,))
        return list(train_once(settings, "baseline", data, make_degradation(settings)).state.values())

    plain, off, on = trained("a"), trained("b", SHARPEN.replace("true", "false")), trained("c", SHARPEN)
    assert all(torch.equal(one, same) for one, same in zip(plain, off, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(plain, on, strict=True))
