"""Bad input: one line that names the key, what is wrong, and the nearest valid choice."""

import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from faig_lab.cli.arguments import compose
from faig_lab.config import Settings, check
from faig_lab.errors import UserError

BLUR = "degradation.parts.blur"
BAD = [
    # unknown keys, with + since Hydra itself refuses them without
    (f"+{BLUR}.sgima=2", f"{BLUR}.sgima: unknown key of GaussianBlur; did you mean sigma?"),
    ("+sede=1", "sede: unknown key; did you mean seed?"),
    ("+sigma=1", f"sigma: unknown key; did you mean {BLUR}.sigma?"),
    ("+netwrok=srresnet", "netwrok: unknown key; did you mean network?"),
    ("+training.baseline.iteration=1", "training.baseline.iteration: unknown key; did you mean iterations?"),
    ("+attribution.point=1", "attribution.point: unknown key; did you mean points?"),
    ("+network.block=1", "network.block: unknown key of SRResNet; did you mean blocks?"),
    ("+training.loss.reductoin=sum", "unknown key of L1Loss; did you mean reduction?"),
    ("+training.optimizer.beta=[0.9,0.99]", "unknown key of Adam; did you mean betas?"),
    ("+trainer.gradient_clip_vall=1", "unknown key of Trainer; did you mean gradient_clip_val?"),
    ("+attribution.methods.random.drwas=3", "unknown key of random_filters; did you mean draws?"),
    # wrong types
    ("seed=abc", 'seed: expected a whole number, not "abc"'),
    ("seed='\"1\"'", 'seed: expected a whole number, not "\\"1\\""'),
    ("seed=1.5", "seed: expected a whole number, not 1.5"),
    ("seed=true", "seed: expected a whole number, not true"),
    ("seed=null", "seed: a value is required; give seed=..."),
    ("training.channels_last=3", "training.channels_last: expected true or false or auto, not 3"),
    ("training.channels_last=fast", 'training.channels_last: expected true or false or auto, not "fast"'),
    ("analysis.percents=3", "analysis.percents: expected a list such as [1, 2], not 3"),
    ("analysis.percents=[1,x]", 'analysis.percents.1: expected a number, not "x"'),
    ("training.baseline=3", "training.baseline: expected a group of settings, not 3"),
    ("network.features=big", 'network.features: expected a whole number, not "big"'),
    (f"{BLUR}.sigma=wide", f'{BLUR}.sigma: expected a number or a range [low, high], not "wide"'),
    ("+trainer.gradient_clip_val=lots", 'trainer.gradient_clip_val: expected a number, not "lots"'),
    # out of range
    ("seed=-1", "seed: must be at least 0, not -1"),
    ("name=a/b", "name: "),
    ("training.batch_size=0", "training.batch_size: must be at least 1, not 0"),
    ("training.target.iterations=0", "training.target.iterations: must be at least 1, not 0"),
    ("training.ema_decay=1", "training.ema_decay: must be less than 1, not 1"),
    ("training.baseline.learning_rate=0", "training.baseline.learning_rate: must be more than 0, not 0"),
    ("training.target.minimum_learning_rate=1", "minimum_learning_rate: 1 is above training.target.learning"),
    ("training.patch_size=47", "training.patch_size: 47 is not a multiple of network.scale = 2; nearest: 48"),
    ("network.scale=5", "network.scale: 5 is not supported; 1, 2, 3 or 4 (nearest: 4)"),
    ("network.features=-1", "network.features: must be > 0"),
    (f"{BLUR}.sigma=-1", f"{BLUR}.sigma: must be > 0 HR pixels, not -1"),
    (f"{BLUR}.kernel_size=4", f"{BLUR}.kernel_size: must be odd"),
    (f"{BLUR}.probability=1.5", f"{BLUR}.probability: must be from 0 to 1, not 1.5"),
    ("degradation.downsample.mode=bicubi", 'mode: "bicubi" is not a choice; did you mean bicubic?'),
    ("data.probe_crop=3", "data.probe_crop: 3 HR pixels is too small"),
    ("analysis.percents=[0,1]", "analysis.percents.0: must be more than 0, not 0"),
    ("analysis.percents=[1,101]", "analysis.percents.1: must be at most 100, not 101"),
    ("analysis.percents=[1,5,3]", "analysis.percents.2: 3 after 5; percents must increase"),
    ("analysis.headline_percent=2", "analysis.headline_percent: 2 is not one of percents; nearest: 1"),
    ("attribution.points=0", "attribution.points: must be at least 1, not 0"),
    ("attribution.tolerance=0", "attribution.tolerance: must be more than 0, not 0"),
    ("attribution.tolerance=1", "attribution.tolerance: must be less than 1, not 1"),
    # not a choice
    ("attribution.name=signed_shar", "attribution.name: signed_shar is not in attribution.methods; did you mean"),
    ("attribution.rule=simson", 'attribution.rule: "simson" is not a choice; did you mean simpson?'),
    ("attribution.rule=adaptiv", 'attribution.rule: "adaptiv" is not a choice; did you mean adaptive?'),
    ("attribution.methods.faig.contrast=maxx", 'faig.contrast: "maxx" is not a choice; did you mean max?'),
    ("attribution.precision=float16", '"float16" is not a choice; did you mean'),
    ("trainer.accelerator=gpuu", 'trainer.accelerator: "gpuu" is not a choice; did you mean gpu?'),
    ("trainer.precision=bf16", 'trainer.precision: "bf16" is not a choice; did you mean bf16-'),
    ("trainer.devices=0", "trainer.devices: 0 is not a choice; give a number of at least 1"),
    ("trainer.devices=some", 'trainer.devices: "some" is not a choice'),
    ("logger.mode=onlin", 'logger.mode: "onlin" is not a choice; did you mean online?'),
    # settings that contradict others, or the machine
    ("+trainer.max_steps=3", "trainer.max_steps: comes from training.*.iterations; set it there"),
    ("+training.optimizer.lr=1", "training.optimizer.lr: set training.*.learning_rate"),
    ("trainer=gpu", "trainer.accelerator: this machine has no gpu; use auto or cpu"),
    # targets
    ("training.loss._target_=torch.nn.L1Los", "there is no L1Los in torch.nn; did you mean torch.nn.L1Loss?"),
    ("training.loss._target_=torhc.nn.L1Loss", "training.loss._target_: torhc.nn.L1Loss: there is no module torhc"),
    ("network._target_=faig_lab.networks.SRResnet", "did you mean faig_lab.networks.SRResNet?"),
    ("network._target_=torch.nn", "network._target_: torch.nn is a module, not a class or function"),
    ("~network._target_", "network._target_: missing"),
    # missing
    ("~seed", "seed: missing"),
    ("name=???", "name: a value is required; give name=..."),
    ("store='${stoer}'", "store: Interpolation key 'stoer' not found"),
    ("data=folder", "data.train_dir: a folder is required; give data.train_dir=FOLDER"),
    ("data=paired", "data.hr_dir: a folder is required; give data.hr_dir=FOLDER"),
]


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def refusal(*overrides: str, multirun: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        check(compose(overrides), multirun=multirun)
    message = str(caught.value)
    assert "\n" not in message
    assert re.match(r"[\w.]+: ", message), message
    return message


@pytest.mark.parametrize(("override", "expected"), BAD, ids=[override for override, _ in BAD])
def test_bad_input_is_refused(override: str, expected: str) -> None:
    assert expected in refusal(override)


@pytest.mark.parametrize(("rule", "points"), [("simpson", 16), ("simpson", 1), ("trapezoid", 1), ("adaptive", 4)])
def test_points_that_a_rule_cannot_have(rule: str, points: int) -> None:
    assert f"attribution.points: {rule} needs" in refusal(f"attribution.rule={rule}", f"attribution.points={points}")


def test_several_devices_are_welcome_in_a_multirun_and_several_machines_are_not() -> None:
    for devices in ("[0]", "2", "-1"):
        assert isinstance(check(compose([f"trainer.devices={devices}"]), multirun=True), Settings)
    assert "trainer.num_nodes: 2 in a multirun" in refusal("trainer.num_nodes=2", multirun=True)


def test_nearest_folder(tmp_path: Path) -> None:
    (tmp_path / "train_HR").mkdir()
    folders = [f"data.{name}={tmp_path / 'train_HR'}" for name in ("probe_dir", "test_dir")]
    message = refusal("data=folder", f"data.train_dir={tmp_path / 'train_RH'}", *folders)
    assert message.startswith("data.train_dir: ")
    assert message.endswith(f"no such folder; did you mean {tmp_path / 'train_HR'}?")


def test_nearest_weights_file(tmp_path: Path) -> None:
    (tmp_path / "baseline.pth").touch()
    message = refusal(f"baseline.weights={tmp_path / 'basline.pth'}")
    assert message.startswith("baseline.weights: ")
    assert message.endswith(f"no such file; did you mean {tmp_path / 'baseline.pth'}?")
    assert "there is no folder nowhere" in refusal("target.weights=nowhere/target.pth")


def test_paired_data_needs_both_networks_and_a_degradation(tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    weights.touch()
    folder = ["data=paired", f"data.hr_dir={tmp_path}"]
    assert "data.lr_dirs: a folder per degradation" in refusal(*folder)
    assert "data.lr_dirs: a folder per degradation" in refusal(*folder, f"data.lr_dirs.clean={tmp_path}")
    folder += [f"data.lr_dirs.blur={tmp_path}", f"baseline.weights={weights}"]
    assert "target.weights: a file is required; paired data has nothing to train on" in refusal(*folder)
    folder += [f"target.weights={weights}"]
    assert "data.lr_dirs.noise: nowhere: no such folder" in refusal(*folder, "data.lr_dirs.noise=nowhere")
    check(compose(folder))


def test_folder_data_needs_no_training_folder_when_nothing_is_trained(tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    weights.touch()
    given = ["data=folder", f"data.probe_dir={tmp_path}", f"data.test_dir={tmp_path}", f"baseline.weights={weights}"]
    assert "data.train_dir: a folder is required" in refusal(*given)
    check(compose([*given, f"target.weights={weights}"]))


def test_settings_are_typed_and_cannot_be_changed() -> None:
    cfg = compose(["training.target.learning_rate=1", "analysis.percents=[1]"])
    before = OmegaConf.to_yaml(cfg)
    settings = check(cfg)
    assert OmegaConf.to_yaml(cfg) == before
    assert isinstance(settings.training.target.learning_rate, float)
    assert settings.analysis.percents == [1.0]
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 1  # type: ignore[misc]
