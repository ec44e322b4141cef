"""What holds for all degradations: pure in every sample, within their reach, and refused with the argument's name."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from degradation_case import BLURS, HR_NOISE, LINEAR, PARTS, RANGED, generators
from numpy.typing import NDArray
from torch import Tensor

from faig_lab.data import (
    JPEG,
    AnisotropicGaussianBlur,
    Composed,
    Degradation,
    Downsample,
    GaussianBlur,
    GaussianNoise,
    MotionBlur,
    Part,
    PoissonNoise,
    Resize,
    Sinc,
    sample_rng,
)


@pytest.mark.parametrize("part", PARTS, ids=repr)
def test_a_sample_is_a_function_of_its_generator(part: Part, images: Tensor) -> None:
    before = images.clone()
    together = part.apply(images, generators(4))
    assert together.shape == images.shape
    assert together.dtype == images.dtype
    assert torch.equal(together, part.apply(images, generators(4)))
    for i in range(4):
        alone = part.apply(images[i : i + 1], [sample_rng(3, "test", i)])
        torch.testing.assert_close(alone, together[i : i + 1], rtol=0, atol=1e-6)
    assert torch.equal(images, before)


@pytest.mark.parametrize("part", RANGED, ids=repr)
def test_samples_differ_by_number_stream_and_seed(part: Part, images: Tensor) -> None:
    same = images[:1].expand(4, -1, -1, -1).contiguous()
    first = part.apply(same, generators(4))
    assert len({sample.numpy().tobytes() for sample in first}) > 1
    assert not torch.equal(first, part.apply(same, generators(4, "other")))
    assert not torch.equal(first, part.apply(same, generators(4, seed=4)))


@pytest.mark.parametrize("part", PARTS, ids=repr)
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_input_is_an_image_and_as_large_as_it_must_be(part: Part, scale: int) -> None:
    degradation = Degradation({"part": part}, Downsample(), scale)
    side = 6 * scale + 2 * degradation.margin
    hr = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (4, 3, side, side)).astype(np.float32))
    lr = degradation.apply(hr, [frozenset({"part"})] * 4, generators(4))
    assert lr.shape == (4, 3, 6, 6)
    assert 0 <= float(lr.min()) <= float(lr.max()) <= 1


@pytest.mark.parametrize("part", [*BLURS, *LINEAR], ids=repr)
def test_a_constant_image_stays(part: Part) -> None:
    grey = torch.full((4, 3, 31, 37), 0.3, dtype=torch.float64)
    exact = 1e-6 if isinstance(part, MotionBlur) else 1e-12  # its kernels are in float32
    torch.testing.assert_close(part.apply(grey, generators(4)), grey, rtol=0, atol=exact)


def distances(part: Part, side: int, place: int, stream: str) -> NDArray[np.intp]:
    """How far from a changed pixel other pixels change."""
    before = torch.from_numpy(np.random.default_rng(1).random((1, 3, side, side)))
    after = before.clone()
    after[..., place, place] = 1 - after[..., place, place]
    changed = part.apply(before, generators(1, stream)) != part.apply(after, generators(1, stream))
    return np.abs(np.argwhere(changed.any(dim=1)[0].numpy()) - place).max(axis=1)


FACTORS = [
    Resize(factor, kernels, antialias)
    for factor in (0.15, 0.37, 0.5, 1.0, 2.3)
    for kernels in (["area"], ["bilinear"], ["bicubic"], ["area", "bilinear", "bicubic"])
    for antialias in (True, False)
]


@pytest.mark.parametrize("part", [*FACTORS, *PARTS], ids=repr)
def test_no_pixel_depends_on_one_that_is_farther_than_the_reach(part: Part) -> None:
    if isinstance(part, JPEG) and part.domain == "lr":
        assert part.reach == 0  # the whole input is the file
        return
    for place in (40, 43, 47):
        for stream in ("a", "b", "c"):
            assert max(distances(part, 90, place, stream), default=0) <= part.reach


@pytest.mark.parametrize(
    ("part", "reach"),
    [
        (GaussianBlur(1.5, 9), 4),
        (AnisotropicGaussianBlur(2.5, 0.7, 20.0, 9), 4),
        (MotionBlur(9, 0.0), 4),
        (Sinc(2.0, 9), 4),
        (Sinc(2.0, 13), 6),
        (JPEG(95, domain="hr"), 16),
        (JPEG(95, domain="hr", shift=5), 16),
        (Composed({"a": GaussianBlur(1.5, 9, 1.0), "b": GaussianBlur(1.5, 5, 1.0), "c": HR_NOISE}), 6),
        (Composed({"a": GaussianBlur(1.5, 9, 1.0), "b": GaussianBlur(1.5, 5, 0.0)}, choose="one"), 4),
    ],
)
def test_the_reach_is_reached(part: Part, reach: int) -> None:
    assert part.reach == reach
    assert max(max(distances(part, 96, place, "a"), default=0) for place in range(31, 48)) == reach


def test_the_reach_of_resizing_is_at_most_two_pixels_too_large() -> None:
    for factor, antialias in ((0.5, True), (0.2, True), (0.2, False), (0.15, False)):
        part = Resize(factor, ["bicubic"], antialias)
        found = max(max(distances(part, side, p, "a"), default=0) for side in (101, 118) for p in range(48, 60))
        assert part.reach - 2 <= found <= part.reach


@pytest.mark.parametrize("part", [GaussianBlur, GaussianNoise, PoissonNoise])
def test_a_range_of_one_value_is_that_value(part: type[Any], images: Tensor) -> None:
    name = fields(part)[0].name
    ranged = part(**{name: [2.0, 2.0]})
    if part is GaussianBlur:
        torch.testing.assert_close(ranged.apply(images, generators(4)), part(sigma=2.0).apply(images, generators(4)))
    else:
        rngs = generators(4)
        for rng in rngs:
            rng.random()  # the severity's own draw
        assert torch.equal(ranged.apply(images, generators(4)), part(**{name: 2.0}).apply(images, rngs))


WAY = {"parts": {"a": GaussianBlur(probability=0)}, "downsample": Downsample(), "scale": 2}


@pytest.mark.parametrize(
    ("part", "arguments", "message"),
    [
        (GaussianBlur, {"sigma": 0}, "sigma must be > 0 HR pixels, not 0"),
        (GaussianBlur, {"sigma": -1.5}, "sigma must be > 0 HR pixels, not -1.5"),
        (GaussianBlur, {"kernel_size": -3}, "kernel_size must be odd and positive, not -3"),
        (GaussianBlur, {"probability": 1.1}, r"probability must lie in 0\.\.1, not 1.1"),
        (GaussianBlur, {"sigma": (0, 2)}, r"sigma must be > 0 HR pixels, not \(0, 2\)"),
        (GaussianBlur, {"sigma": (3, 2)}, r"sigma must be a number or a range \[low, high\], not \(3, 2\)"),
        (GaussianBlur, {"sigma": [1]}, r"sigma must be a number or a range \[low, high\], not \[1\]"),
        (GaussianBlur, {"sigma": float("nan")}, "sigma must be a number"),
        (GaussianNoise, {"sigma": (-0.1, 0.1)}, "sigma must be >= 0"),
        (GaussianNoise, {"sigma": -0.1}, r"sigma must be >= 0 \(range \[0, 1\]\), not -0.1"),
        (GaussianNoise, {"probability": -0.1}, r"probability must lie in 0\.\.1, not -0\.1"),
        (AnisotropicGaussianBlur, {"sigma_y": 0}, "sigma_y must be > 0 HR pixels"),
        (AnisotropicGaussianBlur, {"angle": (90, 0)}, "angle must be a number or a range"),
        (AnisotropicGaussianBlur, {"kernel_size": 8}, "kernel_size must be odd and positive, not 8"),
        (MotionBlur, {"length": 1}, "length must be odd and at least 3 HR pixels, not 1"),
        (MotionBlur, {"length": (3, 8)}, r"length must be odd and at least 3 HR pixels, not \(3, 8\)"),
        (PoissonNoise, {"peak": 0}, "peak must be > 0 photons, not 0"),
        (JPEG, {"quality": 0}, r"quality must lie in 1\.\.100, not 0"),
        (JPEG, {"quality": (50, 101)}, r"quality must lie in 1\.\.100"),
        (Downsample, {"mode": "area"}, "antialias must be false for area"),
        (Downsample, {"mode": "lanczos"}, "mode must be bicubic, bilinear, area or nearest, not lanczos"),
        (Sinc, {"cutoff": 0}, "cutoff must be > 0 and at most π"),
        (Sinc, {"cutoff": (1, 3.2)}, r"cutoff must be > 0 and at most π = 3\.1415 radians per pixel, not \(1, 3\.2\)"),
        (Sinc, {"cutoff": (2, 1)}, "cutoff must be a number or a range"),
        (Sinc, {"kernel_size": 8}, "kernel_size must be odd and positive, not 8"),
        (Sinc, {"probability": 2}, r"probability must lie in 0\.\.1"),
        (Resize, {"factor": 0}, "factor must be > 0, not 0"),
        (Resize, {"factor": (0.5, 0.2)}, "factor must be a number or a range"),
        (Resize, {"kernels": ["cubic"]}, r"kernels must be one or more of area, bilinear, bicubic, not \['cubic'\]"),
        (Resize, {"kernels": []}, "kernels must be one or more of"),
        (Resize, {"kernels": ["area", "area"]}, "kernels must be one or more of"),
        (Resize, {"factor": (0.5, 1.5), "enlarged": 1.5}, r"enlarged must lie in 0\.\.1, not 1\.5"),
        (Resize, {"factor": (0.5, 0.9), "enlarged": 0.5}, "enlarged must be null where the factors"),
        (GaussianNoise, {"grey": 1.5}, r"grey must lie in 0\.\.1, not 1\.5"),
        (PoissonNoise, {"grey": -0.5}, r"grey must lie in 0\.\.1, not -0\.5"),
        (JPEG, {"shift": 16}, r"shift must lie in 0\.\.15, not 16"),
        (JPEG, {"shift": (-1, 3)}, r"shift must lie in 0\.\.15"),
        (Composed, {"parts": {}}, "parts must hold at least one part"),
        (Composed, {"parts": {"a": GaussianNoise()}}, r"parts\.a\.domain must be hr, the domain of all, not lr"),
        (Composed, {"parts": {"a": HR_NOISE}, "choose": "two"}, "choose must be each or one, not two"),
        (Composed, {"parts": {"a": GaussianBlur(probability=0)}, "choose": "one"}, "parts must have a probability"),
        (Degradation, {**WAY, "choose": "two"}, "choose must be each or one, not two"),
        (Degradation, {**WAY, "choose": "one"}, "parts must have a probability above 0"),
    ],
)
def test_refusals_name_the_argument(part: type[Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        part(**arguments)
