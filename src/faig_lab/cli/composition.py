"""Composing the configuration outside of `hydra.main`."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from faig_lab.cli.arguments import normalise
from faig_lab.config.folder import FOLDER
from faig_lab.config.quoting import quoted


def compose(overrides: Sequence[str] = (), config_dir: Path | None = None, *, of_hydra: bool = False) -> DictConfig:
    """The configuration that `faig-lab <overrides>` would run, unchecked.

    Args:
        overrides: arguments as on the command line, without flags.
        config_dir: a folder of the user's own, as in `--config-dir`.
        of_hydra: with Hydra's own settings, below `hydra`.
    """
    import hydra

    added = [f"hydra.searchpath=[{quoted(f'file://{config_dir.resolve()}')}]"] if config_dir else []
    with hydra.initialize_config_dir(str(FOLDER), version_base="1.3"):
        return hydra.compose("config", overrides=[*normalise(overrides), *added], return_hydra_config=of_hydra)
