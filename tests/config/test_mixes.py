"""Degradations are mixed by naming them: on the command line, or in a file of one's own."""

from pathlib import Path

import pytest

from faig_lab.cli.arguments import compose
from faig_lab.config import check
from faig_lab.config.folder import FOLDER
from faig_lab.errors import UserError

SINGLE = ["blur", "anisotropic_blur", "motion_blur", "noise", "poisson_noise", "jpeg"]


@pytest.mark.parametrize("name", SINGLE)
def test_a_file_holds_the_part_of_its_name(name: str) -> None:
    settings = check(compose([f"degradation={name}"]))
    assert list(settings.degradation.parts) == [name]


@pytest.mark.parametrize("name", sorted(path.stem for path in (FOLDER / "degradation").glob("*.yaml")))
def test_every_file_is_a_single_one_or_a_mix_of_them(name: str) -> None:
    assert set(check(compose([f"degradation={name}"])).degradation.parts) <= set(SINGLE)


@pytest.mark.parametrize("experiment", [[], ["experiment=blur_noise"]], ids=["default", "experiment"])
@pytest.mark.parametrize("mix", [["noise", "blur"], ["motion_blur", "poisson_noise", "jpeg"], SINGLE])
def test_any_mix_on_the_command_line_in_its_order(experiment: list[str], mix: list[str]) -> None:
    settings = check(compose([*experiment, f"degradation=[{','.join(mix)}]", "degradation/downsample=area"]))
    assert list(settings.degradation.parts) == mix
    assert settings.degradation.downsample["mode"] == "area"


def test_a_mix_of_ones_own_with_severities(tmp_path: Path) -> None:
    (tmp_path / "degradation").mkdir()
    (tmp_path / "degradation" / "phone.yaml").write_text(
        "defaults: [motion_blur, poisson_noise, jpeg, _self_]\n"
        "parts:\n"
        "  motion_blur: {length: [3, 15], probability: 0.2}\n"
        "  jpeg: {quality: [30, 95]}\n"
    )
    parts = check(compose(["degradation=phone"], config_dir=tmp_path)).degradation.parts
    assert list(parts) == ["motion_blur", "poisson_noise", "jpeg"]
    assert parts["motion_blur"]["length"] == [3, 15]
    assert (parts["motion_blur"]["probability"], parts["jpeg"]["probability"]) == (0.2, 0.5)
    assert parts["jpeg"]["quality"] == [30, 95]


def test_one_kind_twice_under_two_names(tmp_path: Path) -> None:
    (tmp_path / "degradation").mkdir()
    (tmp_path / "degradation" / "two_blurs.yaml").write_text(
        "defaults: [blur, _self_]\nparts:\n  wide_blur: {_target_: faig_lab.data.GaussianBlur, sigma: 3.0}\n"
    )
    assert list(check(compose(["degradation=two_blurs"], config_dir=tmp_path)).degradation.parts) == [
        "blur",
        "wide_blur",
    ]


@pytest.mark.parametrize(
    "severity",
    [
        "blur.sigma=[0.5,3]",
        "blur.sigma=3",
        "noise.sigma=[0,0.2]",
        "jpeg.quality=[30,95]",
        "motion_blur.length=[3,21]",
        "motion_blur.angle=[0,45]",
        "motion_blur.angle=30",
        "anisotropic_blur.sigma_x=[1,4]",
        "poisson_noise.peak=[20,200]",
    ],
)
def test_severities_may_be_ranges(severity: str) -> None:
    check(compose([f"degradation={severity.partition('.')[0]}", f"degradation.parts.{severity}"]))


@pytest.mark.parametrize(
    ("severity", "message"),
    [
        ("blur.sigma=[3,1]", "blur.sigma: must be a number or a range [low, high], not [3, 1]"),
        ("blur.sigma=[0,1]", "blur.sigma: must be > 0 HR pixels, not [0, 1]"),
        ("blur.sigma=wide", 'blur.sigma: expected a number or a range [low, high], not "wide"'),
        ("blur.sigma=[1]", "blur.sigma: expected a number or a range [low, high], not [1]"),
        ("blur.sigma=[1,2,3]", "blur.sigma: expected a number or a range [low, high], not [1, 2, 3]"),
        ("motion_blur.angle=[a,1]", 'motion_blur.angle: expected a number or a range [low, high], not ["a", 1]'),
        ("jpeg.quality=30.5", "jpeg.quality: expected a whole number or a range [low, high], not 30.5"),
        ("jpeg.quality=101", "jpeg.quality: must lie in 1..100, not 101"),
        ("jpeg.qualty=30", "jpeg.qualty: unknown key of JPEG; did you mean quality?"),
        ("motion_blur.length=8", "motion_blur.length: must be odd and at least 3 HR pixels, not 8"),
    ],
)
def test_severities_that_are_refused(severity: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check(compose([f"degradation={severity.partition('.')[0]}", f"++degradation.parts.{severity}"]))
    assert str(caught.value) == f"degradation.parts.{message}"
