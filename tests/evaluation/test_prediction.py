"""Estimators on known noise and blur, classifiers on points that a line separates, crops, and accuracies by hand."""

import numpy as np
import pytest
import torch
from kornia.filters import gaussian_blur2d

from faig_lab.data import PairedImage
from faig_lab.evaluation.prediction import (
    Guess,
    accuracies,
    choose_evenly,
    confusion,
    cut_crops,
    features,
    fit_linear,
    fit_thresholds,
    guess_metrics,
    image_numbers,
    noise_level,
    sharpness,
)
from faig_lab.networks import SRResNet


def plane(size=64):
    y, x = torch.meshgrid(torch.arange(size) / size, torch.arange(size) / size, indexing="ij")
    return (0.3 + 0.2 * x + 0.1 * y + 0.1 * x * x - 0.2 * x * y).expand(3, -1, -1).clone()


def texture(size=64):
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(1))


def noisy(image, sigma):
    return image + sigma * torch.randn(image.shape, generator=torch.Generator().manual_seed(2))


def test_noise_level_of_a_quadratic_surface_is_zero():
    assert noise_level(plane().double()) < 1e-7


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.1, 0.2])
def test_noise_level_finds_the_sigma_of_white_noise(sigma):
    assert noise_level(noisy(plane(128), sigma)) == pytest.approx(sigma, rel=0.03)


def test_noise_level_is_immerkaers_formula():
    image = texture(5).double()
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    total = sum(
        abs((image[c, y : y + 3, x : x + 3].numpy() * kernel).sum())
        for c in range(3) for y in range(3) for x in range(3)
    )  # fmt: skip
    assert noise_level(image) == pytest.approx(np.sqrt(np.pi / 2) / (6 * 3 * 3 * 3) * total)


def test_sharpness_falls_with_blur_and_not_with_contrast():
    image = texture()  # white itself, which would count as noise; a blurred one does not
    blurred = [gaussian_blur2d(image[None], (21, 21), (sigma, sigma))[0] for sigma in (1.0, 1.4, 2.0, 3.0)]
    values = [sharpness(one) for one in blurred]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.2 * values[0]
    smooth = gaussian_blur2d(image[None], (21, 21), (1.0, 1.0))[0]
    assert sharpness(0.2 * smooth + 0.1) == pytest.approx(sharpness(smooth), rel=0.01)


def test_noise_alone_is_not_sharp():
    detailed = gaussian_blur2d(texture(128)[None], (9, 9), (0.8, 0.8))[0]
    assert sharpness(noisy(plane(128), 0.1)) < 0.1 * sharpness(noisy(detailed, 0.02))


def test_a_flat_image_has_neither():
    assert image_numbers(torch.full((3, 8, 8), 0.4)).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_thresholds_lie_in_the_middle_of_the_gaps():
    vectors = np.array([[0.0, 5.0], [1.0, 6.0], [0.5, 1.0], [1.5, 2.0], [9.0, 1.5], [10.0, 5.5]])
    labels = ["clean", "clean", "blur", "blur", "noise", "noise"]
    classify = fit_thresholds(vectors, labels)
    assert classify(vectors) == labels
    middle = (1.5 + 9.0) / 2
    assert classify(np.array([[middle - 0.01, 3.49], [middle - 0.01, 3.51], [middle + 0.01, 0.0]])) == [
        "blur",
        "clean",
        "noise",
    ]


@pytest.mark.parametrize("fit", [fit_thresholds, fit_linear])
def test_both_classifiers_learn_what_can_be_separated_for_any_number_of_names(fit):
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    vectors = np.concatenate([centres + 0.1 * i for i in range(4)])
    labels = ["a", "b", "c", "d"] * 4
    classify = fit(vectors, labels)
    assert classify(vectors + 0.3) == labels
    assert fit(vectors[:3], ["only"] * 3)(vectors) == ["only"] * 16


def test_features_are_the_means_of_what_the_last_layer_reads():
    network = SRResNet(features=4, blocks=1)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    state |= {"conv_hr.weight": torch.zeros(4, 4, 3, 3), "conv_hr.bias": torch.tensor([1.0, 2.0, -1.0, 0.0])}
    found = features(network, state, torch.rand(3, 8, 8))
    slope = torch.nn.functional.leaky_relu(torch.tensor(-1.0), 0.1).item()
    assert found.tolist() == pytest.approx([1.0, 2.0, slope, 0.0])
    assert not any(module._forward_pre_hooks for module in network.modules())


def paired(height, width):
    place = torch.arange(height * width, dtype=torch.float32).view(1, height, width).expand(3, -1, -1)
    return PairedImage("image", torch.zeros(3, 2 * height, 2 * width), {"clean": place, "blur": -place})


def test_crops_side_by_side_share_no_pixel_and_those_that_overlap_cover_all():
    image = paired(10, 17)
    apart = cut_crops([image], 8, overlapping=False)
    assert len(apart) == 2 * 4
    seen = torch.cat([crop.inputs["clean"][0].flatten() for crop in apart])
    assert len(seen) == len(seen.unique()) == 8 * 16
    covering = cut_crops([image], 8, overlapping=True)
    assert len(covering) == 3 * 5
    assert len(torch.cat([crop.inputs["clean"][0].flatten() for crop in covering]).unique()) == 170
    assert all(torch.equal(crop.inputs["blur"], -crop.inputs["clean"]) for crop in apart)


def test_an_image_that_is_smaller_than_a_crop_is_one_crop():
    (crop,) = cut_crops([paired(5, 6)], 96, overlapping=False)
    assert crop.inputs["clean"].shape == (3, 5, 6)
    assert not hasattr(crop, "hr")


def test_at_most_so_many_crops_evenly():
    crops = cut_crops([paired(2, 20)], 4, overlapping=False)
    assert choose_evenly(crops, 50) == crops
    assert choose_evenly(crops, 4) == [crops[0], crops[3], crops[6], crops[9]]


def guesses(*said):
    return [Guess("overlap", *guess) for guess in said]


SAID = guesses(
    ("one", "clean", "clean", "blur"),
    ("one", "blur", "blur", "blur"),
    ("one", "noise", "noise", "noise"),
    ("one", "blur+noise", "noise", "noise"),
    ("two", "clean", "blur", "blur"),
    ("two", "blur", "clean", "blur"),
    ("two", "noise", "noise", "noise"),
    ("two", "blur+noise", "blur", "noise"),
)
NAMES = ("blur", "noise")


def test_confusion_counts_every_answer():
    counts = {(r["truth"], r["predicted"]): r["count"] for r in confusion(SAID, NAMES)}
    assert len(counts) == 4 * 3
    assert counts["clean", "clean"] == counts["clean", "blur"] == counts["blur", "clean"] == 1
    assert counts["noise", "noise"] == 2
    assert counts["blur+noise", "noise"] == counts["blur+noise", "blur"] == 1


APART = {"one": "one", "two": "two"}


def test_accuracies_by_hand():
    with_clean, forced = accuracies(SAID, NAMES, {"overlap": ("probe", 4)}, scenes=APART, seed=0)
    assert with_clean["value"] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert (with_clean["low"], with_clean["high"]) == pytest.approx((1 / 3, 1))  # either image alone
    assert (with_clean["images"], with_clean["inputs"], with_clean["fitted_crops"]) == (2, 6, 4)
    assert (forced["value"], forced["low"], forced["high"], forced["inputs"]) == (1, 1, 1, 4)


def test_one_image_has_no_interval():
    (row,) = accuracies(SAID[:2], ("blur",), {"overlap": ("probe", 4)}, scenes=APART, seed=0)
    assert (row["value"], row["low"], row["high"]) == (1, None, None)


def test_whole_photographs_are_resampled():
    """Two crops of one photograph, one right and one wrong, say nothing about how much photographs differ."""
    halves = [
        Guess("overlap", image, "blur", said, said)
        for image, said in (("a_left", "blur"), ("a_right", "clean"), ("b_left", "blur"), ("b_right", "clean"))
    ]
    fitted = {"overlap": ("probe", 4)}
    (apart,) = accuracies([*halves, *CLEANS], ("blur",), fitted, scenes={name: name for name in ALIKE}, seed=0)
    (alike,) = accuracies([*halves, *CLEANS], ("blur",), fitted, scenes=ALIKE, seed=0)
    assert (apart["photographs"], alike["photographs"], alike["images"], alike["inputs"]) == (4, 2, 4, 8)
    assert apart["value"] == alike["value"] == 0.75
    assert apart["low"] < 0.75 < apart["high"]
    assert (alike["low"], alike["high"]) == (0.75, 0.75)  # both photographs are as hard


ALIKE = {f"{scene}_{side}": scene for scene in "ab" for side in ("left", "right")}
CLEANS = [Guess("overlap", image, "clean", "clean", "blur") for image in ALIKE]


def test_metrics_of_the_main_method_and_the_mix():
    rows = accuracies(SAID, NAMES, {"overlap": ("probe", 4)}, scenes=APART, seed=0)
    metrics = guess_metrics(SAID, rows, NAMES, main="overlap")
    assert metrics["prediction/balanced_accuracy"] == 1
    assert metrics["prediction/accuracy_low"] == pytest.approx(1 / 3)
    assert metrics["prediction/mixed/blur+noise/noise"] == 0.5
    assert metrics["prediction/mixed/blur+noise/clean"] == 0
    assert "prediction/overlap/accuracy" in guess_metrics(SAID, rows, NAMES, main="another")
