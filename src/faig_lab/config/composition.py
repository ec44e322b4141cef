"""Where `conf/` is, and composing it outside of `hydra.main`."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig


def _folder() -> Path:
    """`conf/` travels inside the package in a wheel and lies beside `src/` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


FOLDER = _folder()


def compose(overrides: Sequence[str] = (), config_dir: Path | None = None) -> DictConfig:
    """The configuration that `faig-lab <overrides>` would run, unchecked.

    Args:
        overrides: arguments as on the command line, without flags.
        config_dir: a folder of the user's own, as in `--config-dir`.
    """
    import hydra

    from faig_lab.config.arguments import normalise

    added = [f"hydra.searchpath=[file://{config_dir.resolve()}]"] if config_dir else []
    with hydra.initialize_config_dir(str(FOLDER), version_base="1.3"):
        return hydra.compose("config", overrides=[*normalise(overrides), *added])
