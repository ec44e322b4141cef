"""Every shipped YAML is found by glob: it composes with the others' defaults and passes the check."""

from pathlib import Path

import pytest
import spandrel_stand_in
import torch
from omegaconf import DictConfig, OmegaConf

from faig_lab.attribution import Adaptive
from faig_lab.cli.arguments import compose
from faig_lab.cli.build import make_rule
from faig_lab.config import Settings, check
from faig_lab.config.messages import FOLDER

FILES = sorted(FOLDER.rglob("*.yaml"))
OPTIONS = [
    f"{path.parent.relative_to(FOLDER).as_posix()}={path.stem}"
    for path in FILES
    if path.parent != FOLDER and path.relative_to(FOLDER).parts[0] != "hydra"
]
EXPERIMENTS = [option for option in OPTIONS if option.startswith("experiment=")]


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with a GPU, since some options ask for it."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


def given_folders(cfg: DictConfig, tmp_path: Path) -> DictConfig:
    """Fill in what these options require from the user."""
    if "train_dir" in cfg.data:
        cfg.data.update({name: str(tmp_path) for name in ("train_dir", "probe_dir", "test_dir")})
    if "lr_dirs" in cfg.data:
        weights = tmp_path / "weights.pt"
        weights.touch()
        cfg.baseline.weights = cfg.target.weights = str(weights)
        OmegaConf.set_struct(cfg, False)
        cfg.data.hr_dir, cfg.data.lr_dirs = str(tmp_path), {"blur": str(tmp_path), "noise": str(tmp_path)}
    if str(cfg.baseline.weights).startswith("outputs/"):  # files that a script of experiments/ makes
        weights = tmp_path / "weights.pt"
        weights.touch()
        cfg.baseline.weights = cfg.target.weights = str(weights)
    return cfg


@pytest.mark.parametrize("option", OPTIONS)
def test_option_composes_and_passes_the_check(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The answer of a planted pair is known; without such a pair there is nothing to compare with.
    cfg = compose([option, "+experiment=planted"] if option == "analysis=planted" else [option])
    assert not OmegaConf.missing_keys(cfg)
    assert option not in EXPERIMENTS or cfg.name == option.removeprefix("experiment=")
    if option == "network=spandrel":  # reads its architecture from a file
        spandrel_stand_in.install(monkeypatch)
        spandrel_stand_in.write(tmp_path / "a.pth")
        cfg.baseline.weights = str(tmp_path / "a.pth")
    assert isinstance(check(given_folders(cfg, tmp_path)), Settings)


@pytest.mark.parametrize("name", sorted(p.stem for p in (FOLDER / "attribution").glob("*.yaml")))
def test_each_method_brings_the_common_ones(name: str) -> None:
    attribution = compose([f"attribution={name}"]).attribution
    common = {"faig", "signed_share", "ig", "weight_change", "random"}
    if name == "all":
        assert attribution.name == "faig"
        others = "weight_change_absolute taylor fisher faig_shares signed_sum isolation_share learned_mask"
        assert set(attribution.methods) == common | set(others.split())
    elif name == "ideas":
        ideas = {"isolation_integral", "isolation_share", "iterated_isolation", "share_given_clean", "share_per_change"}
        assert (attribution.name, set(attribution.methods)) == ("faig", common | ideas)
    elif name == "first_look":  # has a minute for everything
        quick = {"faig", "signed_share", "isolation_share", "random"}
        assert (attribution.name, set(attribution.methods)) == ("isolation_share", quick)
    else:
        assert attribution.name == name
        assert set(attribution.methods) == common | {name}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_file_has_no_mandatory_gap_and_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "???" not in text
    assert "#" in text or "help" in path.parts


def test_groups_folders_and_keys_are_one() -> None:
    groups = {path.name for path in FOLDER.iterdir() if path.is_dir()} - {"hydra", "experiment"}
    assert groups <= set(compose())
    assert groups == {key for key, field in Settings.model_fields.items()} - {
        *("name", "task", "objective", "run", "runs", "file", "other", "resume", "compare", "prune"),
        *("export", "seed", "store", "trust", "traceback", "baseline", "target"),
    }


def test_paper_experiment_has_the_paper_schedule() -> None:
    cfg = compose(["experiment=blur_noise_paper"])
    assert cfg.network.features == 64
    assert cfg.network.blocks == 16
    assert (cfg.training.baseline.iterations, cfg.training.baseline.restart_every) == (1_000_000, 250_000)
    assert (cfg.training.target.iterations, cfg.training.target.learning_rate) == (100_000, 5e-5)
    assert cfg.trainer.accelerator == "gpu"
    # The command line wins over the experiment.
    assert compose(["experiment=blur_noise_paper", "network=srcnn_style_small"]).network.widths[0] == 24


def test_adaptive_quadrature_looks_at_the_top_set_of_the_headline() -> None:
    overrides = ["attribution.rule=adaptive", "attribution.points=65", "attribution.tolerance=0.02"]
    settings = check(compose([*overrides, "analysis.headline_percent=3"]))
    assert make_rule(settings) == Adaptive(budget=65, tolerance=0.02, percent=3)


def test_own_config_folder(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /network: tiny\nname: mine\nseed: 7\n"
    )
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "tiny.yaml").write_text(
        "_target_: faig_lab.networks.SRResNet\nscale: 2\nfeatures: 4\nblocks: 1\n"
    )
    settings = check(compose(["experiment=mine"], config_dir=tmp_path))
    assert (settings.name, settings.seed, settings.network["blocks"]) == ("mine", 7, 1)
