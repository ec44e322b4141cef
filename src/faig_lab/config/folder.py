"""The configuration folder `conf/`: its place, and the settings of its choices."""

from pathlib import Path

import yaml


def _folder() -> Path:
    """Return `conf/`, which is inside the package in a wheel and beside `src/` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


FOLDER = _folder()


def other_choices(key: str, config_dir: Path | None = None) -> str | None:
    """Return one line about an unknown key that other choices of its group have, or None if no choice has the key.

    Args:
        key: a dotted key of a group and a setting, such as `data.train_dir`.
        config_dir: the user's configuration folder, as in `--config-dir`.
    """
    group, _, name = key.partition(".")
    if group == "hydra":  # `conf/hydra` is not a group of settings
        return None
    folders = [folder / group for folder in (FOLDER, config_dir) if folder is not None]
    setting = name.partition(".")[0]
    choices = sorted({file.stem for folder in folders for file in folder.glob("*.yaml") if setting in _keys(file)})
    return f"{key}: unknown key here; it belongs to {group}={f' or {group}='.join(choices)}" if choices else None


def _keys(file: Path) -> set[str]:
    """Return the settings in a file of a group, without its defaults. A file that cannot be read has no settings."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return set()
    return set(content) - {"defaults", "_target_"} if isinstance(content, dict) else set()
