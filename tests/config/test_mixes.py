"""Degradations are mixed by naming them: on the command line, or in a file of one's own."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from degradation_case import generators

from faig_lab.cli.arguments import compose
from faig_lab.cli.build import check_selection, make_degradation
from faig_lab.config import check
from faig_lab.config.messages import FOLDER
from faig_lab.data import clipped_kernels
from faig_lab.errors import UserError

SINGLE = [
    *("blur", "anisotropic_blur", "motion_blur", "sinc", "resize"),
    *("noise", "grey_noise", "poisson_noise", "jpeg"),
]
SECOND_ORDER = ["blur_1", "resize_1", "noise_1", "jpeg_1", "blur_2", "resize_2", "noise_2", "sinc", "jpeg_2"]


@pytest.mark.parametrize("name", sorted(path.stem for path in (FOLDER / "degradation").glob("*.yaml")))
def test_every_file_holds_the_part_of_its_name_or_a_mix_and_no_kernel_cuts_its_blur_off(name: str) -> None:
    settings = check(compose([f"degradation={name}"]))
    parts = list(settings.degradation.parts)
    assert parts == [name] if name in SINGLE else set(parts) <= {*SINGLE, *SECOND_ORDER}
    assert list(clipped_kernels(make_degradation(settings).parts)) == []


def test_one_part_a_sample_needs_a_part_that_can_be_chosen() -> None:
    mix = ["degradation=all_in_one"]
    degradation = make_degradation(check(compose(mix)))
    assert degradation.choose == "one"
    assert {len(degradation.draw(rng)) for rng in generators(50)} == {1}
    never = [f"degradation.parts.{name}.probability=0" for name in degradation.parts]
    assert make_degradation(check(compose([*mix, *never, "degradation.choose=each"]))).choose == "each"
    with pytest.raises(UserError, match=r"degradation.choose: one needs a part with a probability above 0"):
        check(compose([*mix, *never]))
    with pytest.raises(UserError, match=r"degradation.choose: .*two"):
        check(compose([*mix, "degradation.choose=two"]))


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
        "  wide_blur: {_target_: faig_lab.data.GaussianBlur, sigma: 3.0}\n"
    )
    parts = check(compose(["degradation=phone"], config_dir=tmp_path)).degradation.parts
    assert list(parts) == ["motion_blur", "poisson_noise", "jpeg", "wide_blur"]
    assert parts["motion_blur"]["length"] == [3, 15]
    assert (parts["motion_blur"]["probability"], parts["jpeg"]["probability"]) == (0.2, 0.5)
    assert parts["jpeg"]["quality"] == [30, 95]


@pytest.mark.parametrize(
    "severity",
    [
        *("blur.sigma=[0.5,3]", "blur.sigma=3", "noise.sigma=[0,0.2]", "jpeg.quality=[30,95]", "sinc.cutoff=[1,3.1]"),
        *("motion_blur.length=[3,21]", "motion_blur.angle=[0,45]", "motion_blur.angle=30", "resize.factor=0.5"),
        *("anisotropic_blur.sigma_x=[1,4]", "poisson_noise.peak=[20,200]", "grey_noise.sigma=[0,0.2]"),
    ],
)
def test_severities_may_be_ranges(severity: str) -> None:
    setting, _, value = severity.partition("=")
    part, key = setting.split(".")
    checked = check(compose([f"degradation={part}", f"degradation.parts.{severity}"]))
    assert checked.degradation.parts[part][key] == json.loads(value)


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
        ("sinc.cutoff=4", "sinc.cutoff: must be > 0 and at most π = 3.1415 radians per pixel, not 4"),
        (
            "resize.kernels=[cubic]",
            'resize.kernels.0: "cubic" is not a choice; did you mean bicubic? (choices: area, bicubic, bilinear)',
        ),
        ("resize.domain=sr", 'resize.domain: "sr" is not a choice; choices: hr, lr'),
        ("grey_noise.grey=2", "grey_noise.grey: must lie in 0..1, not 2"),
        ("grey_noise.gray=1", "grey_noise.gray: unknown key of GaussianNoise; did you mean grey?"),
    ],
)
def test_severities_that_are_refused(severity: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check(compose([f"degradation={severity.partition('.')[0]}", f"++degradation.parts.{severity}"]))
    assert str(caught.value) == f"degradation.parts.{message}"


def test_the_second_order_has_the_published_order_and_each_class_twice() -> None:
    settings = check(compose(["degradation=second_order"]))
    assert list(settings.degradation.parts) == SECOND_ORDER
    degradation = make_degradation(settings)
    for name in ("blur", "resize", "noise", "jpeg"):
        first, second = degradation.parts[f"{name}_1"], degradation.parts[f"{name}_2"]
        assert type(first) is type(second)
        assert (first.domain, second.domain) == ("hr", "lr")
        assert second.probability <= first.probability
    assert [degradation.parts[name].probability for name in SECOND_ORDER] == [1, 0.9, 1, 1, 0.8, 0.7, 1, 0.8, 1]
    everything = list(degradation.inputs())[-1]
    assert everything == "+".join(SECOND_ORDER)
    # The second time is weaker.
    parts = settings.degradation.parts
    assert parts["blur_2"]["sigma_x"][1] < parts["blur_1"]["sigma_x"][1]
    assert parts["resize_2"]["factor"][0] > parts["resize_1"]["factor"][0]
    assert parts["noise_2"]["parts"]["gaussian"]["sigma"][1] < parts["noise_1"]["parts"]["gaussian"]["sigma"][1]
    assert parts["noise_2"]["parts"]["poisson"]["peak"][0] > parts["noise_1"]["parts"]["poisson"]["peak"][0]
    # Every setting of one can differ from that of the other.
    other = check(compose(["degradation=second_order", "degradation.parts.jpeg_2.quality=20"])).degradation.parts
    assert (other["jpeg_1"]["quality"], other["jpeg_2"]["quality"]) == ([30, 95], 20)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("parts.gaussian.sigma=-1", "parts.gaussian.sigma: must be >= 0 (range [0, 1]), not -1"),
        ("parts.gaussian.sigm=1", "parts.gaussian.sigm: unknown key of GaussianNoise; did you mean sigma?"),
        ("parts.gaussian.sigma=a", 'parts.gaussian.sigma: expected a number or a range [low, high], not "a"'),
        ("parts.gaussian.domain=lr", "parts.gaussian.domain: must be hr, the domain of all, not lr"),
        ("parts.poisson._target_=faig_lab.data.Poisson", "parts.poisson._target_: faig_lab.data.Poisson: there is no "
         "Poisson in faig_lab.data; "
         "did you mean faig_lab.data.PoissonNoise?"),
        ("choose=two", 'choose: "two" is not a choice; choices: each, one'),
    ],
)  # fmt: skip
def test_parts_within_a_composed_part_are_checked_like_others(setting: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check(compose(["degradation=second_order", f"++degradation.parts.noise_1.{setting}"]))
    assert str(caught.value) == f"degradation.parts.noise_1.{message}"


def test_a_kernel_that_cuts_its_blur_off_is_warned_of_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    check_selection(check(compose(["trainer=cpu"])))
    assert not caplog.records
    check_selection(check(compose(["trainer=cpu", "degradation.parts.blur.sigma=6"])))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("degradation.parts.blur.kernel_size: 15 % of the Gaussian with sigma = 6")


@pytest.mark.parametrize("name", ["clean", "all", "mean"])
def test_a_degradation_cannot_have_a_name_that_tables_use(name):
    part = f"+degradation.parts.{name}={{_target_: faig_lab.data.GaussianNoise, sigma: 0.1}}"
    with pytest.raises(
        UserError, match=rf"degradation\.parts\.{name}: in tables {name} is the .*; choose another name"
    ):
        check(compose([part]))


@pytest.mark.parametrize(("name", "refused"), [("clean", False), ("all", True), ("rain", False)])
def test_folders_of_pairs_may_be_clean_but_not_all(name, refused, tmp_path):
    settings = ["data=paired", f"data.hr_dir={tmp_path}", f"+data.lr_dirs={{blur: {tmp_path}, {name}: {tmp_path}}}"]
    settings += ["baseline.weights=package:srresnet_small_baseline.safetensors"]
    settings += ["target.weights=package:srresnet_small_target.safetensors"]
    with pytest.raises(UserError, match=r"data\.lr_dirs\.all: ") if refused else nullcontext():
        check(compose(settings))
