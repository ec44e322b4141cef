"""Whether the machine has what attribution asks for is known, and said, before anything is trained."""

import json
import logging

import numpy as np
import pytest
import torch
import yaml

from faig_lab.cli.arguments import compose
from faig_lab.cli.build import determinants, make_network, make_planted_sets, make_turns
from faig_lab.cli.preflight import (
    check_compiler,
    check_memory,
    check_network,
    check_planted,
    check_precision,
    check_sizes,
    save_planted,
)
from faig_lab.cli.provenance import describe_weights
from faig_lab.config import check
from faig_lab.data import CLEAN, PairedImage, Photograph, StudyData
from faig_lab.errors import UserError
from faig_lab.filters import FilterLayout, fingerprint, save_weights
from faig_lab.metrics import quality
from faig_lab.training import Trained

SMALL = ("+experiment=blur_noise", "network.features=4", "network.blocks=1")


def data(*sides):
    images = [(torch.rand(3, 2 * side, 2 * side), torch.rand(3, side, side)) for side in sides]
    probe = tuple(PairedImage(f"{i}", hr, {CLEAN: lr, "blur": lr, "noise": lr}) for i, (hr, lr) in enumerate(images))
    return StudyData([], probe, probe[:1], ("blur", "noise"))


def settings(memory, *more):
    return check(compose([*SMALL, f"attribution.memory={memory}", *more]))


def test_images_that_fit_are_not_spoken_of(caplog):
    with caplog.at_level(logging.INFO):
        check_memory(settings(3), data(32, 100))
        check_memory(settings("null"), data(100))
    assert not caplog.records


def test_images_that_are_cut_are_named_once_for_each_size(caplog):
    with caplog.at_level(logging.INFO):
        check_memory(settings(0.002), data(48, 100, 100, 160))
    assert [record.getMessage().split(" for each ")[1] for record in caplog.records] == [
        "probe image of 200×200 HR pixels",
        "probe image of 320×320 HR pixels",
    ]


def test_a_network_that_cannot_be_cut_is_refused():
    two_branch = ("network=two_branch_small", "network.features=4", "network.blocks=1")
    with pytest.raises(UserError, match=r"^attribution\.memory: 0\.004 GB .* TwoBranchSRResNet"):
        check_memory(settings(0.004, *two_branch), data(160))


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    check_compiler(settings(3))
    with pytest.raises(UserError, match=r"^attribution\.compile: .*no no-such-compiler here; .*compile=null$"):
        check_compiler(settings(3, "attribution.compile=default", "trainer=cpu"))


def odd(name):
    return check(compose([*SMALL[:1], f"network._target_=odd_networks.{name}", "~network.features", "~network.blocks"]))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ReturningTuple", "ReturningTuple returns a tuple; expected one tensor"),
        ("OfAnotherScale", "OfAnotherScale makes 128×128 pixels of 32×32, but the images have 64×64 at scale 2"),
        ("WithoutGradients", "the output of WithoutGradients has no gradient"),
    ],
)
def test_a_network_that_does_not_work_is_named(name, words):
    with pytest.raises(UserError, match=f"^network: {words}"):
        check_network(odd(name), data(32))


@pytest.mark.parametrize("sides", [(7,), (200,), (32, 16)])
def test_a_network_that_works_is_not_spoken_of(sides, caplog):
    check_network(odd("IndexFirst"), data(*sides))
    check_network(settings(3), data(*sides))
    assert not caplog.records


def sized(height, width, scale=2):
    lr = torch.rand(3, height // scale, width // scale)
    return PairedImage("small", torch.rand(3, height, width), {CLEAN: lr, "blur": lr, "noise": lr})


@pytest.mark.parametrize(("height", "width", "scale"), [(8, 40, 2), (40, 8, 2), (9, 30, 3), (12, 12, 4)])
def test_images_too_small_for_ssim_are_named(height, width, scale):
    large, small = sized(60, 60, scale), sized(height, width, scale)
    least = 11 + 2 * scale
    words = rf"image small has {width}×{height} HR pixels; SSIM needs at least {least}×{least} at scale {scale}$"
    with pytest.raises(UserError, match=rf"^data: the held-out {words}"):
        check_sizes(StudyData((), (large,), (small,), ("blur",)))
    check_sizes(StudyData((), (small,), (large,), ("blur",)))  # nothing is trained, so the probe is not judged
    with pytest.raises(UserError, match=rf"^data: the probe {words}"):
        check_sizes(StudyData((object(),), (small,), (large,), ("blur",)))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_smallest_images_have_an_ssim(scale):
    side = 11 + 2 * scale
    hr = torch.rand(1, 3, side, side)
    assert torch.isfinite(quality(hr, hr, scale)["ssim"]).all()
    with pytest.raises(ValueError, match="SSIM needs at least"):
        quality(hr[..., 1:], hr[..., 1:], scale)


TINY = ["network.features=4", "network.blocks=1", "trainer=cpu", "training.target.iterations=6"]
PLANTED = ["+experiment=planted", *TINY]
PLANTED += [f"target.planted.{setting}" for setting in ("percent=5", "turn=2", "drift_steps=0")]


def settings_of(*overrides):
    return check(compose([*PLANTED, *overrides]))


def key(settings, name):
    """The fingerprint of a network in the store; the photographs are the same for all."""
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    data = StudyData.__new__(StudyData)
    object.__setattr__(data, "train", (Photograph("a", "a", pixels, "a"),))
    start = None if name == "baseline" else make_network(settings).state_dict()
    return fingerprint(determinants(settings, name, data, start))


def test_the_baseline_is_that_of_the_usual_study_and_the_target_is_not():
    planted, usual = settings_of(), check(compose(["experiment=blur_noise", "training=laptop", *TINY]))
    assert key(planted, "baseline") == key(usual, "baseline")
    assert key(planted, "target") != key(usual, "target")


PLANTING = ["percent=6", "turn=1", "rate=7", "drift=3", "drift_steps=2", "layers=[body.*]"]
SCORING = [["attribution=taylor", "analysis.percents=[1]", "analysis.headline_percent=1"]]


@pytest.mark.parametrize("given", [*([f"target.planted.{setting}"] for setting in PLANTING), *SCORING], ids=str)
def test_every_setting_of_planting_makes_another_target_and_no_other_setting_does(given):
    changed = settings_of(*given)
    assert (key(changed, "target") == key(settings_of(), "target")) == (given in SCORING)
    assert key(changed, "baseline") == key(settings_of(), "baseline")


def test_the_groups_are_the_sets_that_are_kept_beside_the_scores(tmp_path):
    settings = settings_of("seed=3", "target.planted.rate=4", "target.planted.drift=2")
    save_planted(settings, tmp_path)
    sets = json.loads((tmp_path / "planted.json").read_text())
    network = make_network(settings)
    turns = make_turns(settings, network.state_dict())
    layout = FilterLayout.of(network)
    assert [(group.input, group.rate) for group in turns.groups] == [("blur", 4), ("noise", 4), ("clean", 2)]
    for group in turns.groups[:2]:
        masks = {name: group.chosen[name].expand_as(value) for name, value in network.named_parameters()}
        assert torch.nonzero(layout.gather(masks)).flatten().tolist() == sets[group.input]
    assert sets != {name: s.tolist() for name, s in make_planted_sets(settings_of("seed=4")).items()}


def test_a_usual_target_has_no_sets(tmp_path):
    usual = check(compose(TINY))
    save_planted(usual, tmp_path)
    assert make_planted_sets(usual) is None
    assert make_turns(usual, make_network(usual).state_dict()) is None
    assert not list(tmp_path.iterdir())
    assert "planted" not in describe_weights(usual, "target", Trained({}, []))


@pytest.fixture
def given(tmp_path):
    """Weights of a planted target with their description."""
    settings, path = settings_of(), tmp_path / "target.pt"
    state = make_network(settings).state_dict()
    save_weights(path, state, describe_weights(settings, "target", Trained(state, [])))
    return path


@pytest.mark.parametrize("change", ["seed=1", "target.planted.percent=6", "target.planted.layers=[body.*]"])
def test_given_weights_that_were_planted_otherwise_are_refused(given, change):
    assert yaml.safe_load(given.with_suffix(".yaml").read_text())["planted"]["percent"] == 5
    check_planted(settings_of(f"target.weights={given}"))
    line = r"^target\.planted: .*target\.yaml does not record these settings of planted"
    with pytest.raises(UserError, match=line):
        check_planted(settings_of(f"target.weights={given}", change))


@pytest.mark.parametrize("content", [None, "[]", "a: [", "\x00"])
def test_given_weights_without_a_description_are_refused(given, content):
    beside = given.with_suffix(".yaml")
    beside.unlink()
    if content is not None:
        beside.write_text(content)
    with pytest.raises(UserError, match=r"^target\.planted: "):
        check_planted(settings_of(f"target.weights={given}"))
    check_planted(check(compose([*TINY, f"target.weights={given}"])))  # as a usual target they are fine


@pytest.mark.parametrize(
    ("has_bfloat16", "given", "keys"),
    [
        (False, [], []),
        (False, ["attribution.precision=bfloat16"], ["attribution.precision"]),
        (False, ["analysis.precision=bfloat16", "trainer.precision=bf16-mixed"], ["analysis.pr", "trainer.pr"]),
        (True, ["attribution.precision=bfloat16"], []),
    ],
)
def test_bfloat16_that_the_processor_does_not_have_is_warned_about(has_bfloat16, given, keys, monkeypatch, caplog):
    monkeypatch.setattr("faig_lab.cli.preflight.cpu_has_bfloat16", lambda: has_bfloat16)
    check_precision(check(compose(["trainer=cpu", *given])))
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == len(keys)
    assert all(message.startswith(key) for message, key in zip(messages, keys, strict=True))
    assert all("use float32" in message or "use auto" in message for message in messages)
