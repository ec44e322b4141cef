"""The configuration folder `conf/`: where it is, and which settings its choices have."""

from pathlib import Path

import yaml


def _folder() -> Path:
    """`conf/` travels inside the package in a wheel and lies beside `src/` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


FOLDER = _folder()


def other_choices(key: str, config_dir: Path | None = None) -> str | None:
    """One line about an unknown key that other choices of its group have, as `data.train_dir`; None where none has it.

    Args:
        key: dotted, a group and a setting.
        config_dir: a folder of the user's own, as in `--config-dir`.
    """
    group, _, name = key.partition(".")
    if group == "hydra":  # its folder here is no group of ours
        return None
    folders = [folder / group for folder in (FOLDER, config_dir) if folder is not None]
    setting = name.partition(".")[0]
    choices = sorted({file.stem for folder in folders for file in folder.glob("*.yaml") if setting in _keys(file)})
    return f"{key}: unknown key here; it belongs to {group}={f' or {group}='.join(choices)}" if choices else None


def _keys(file: Path) -> set[str]:
    """The settings that a file of a group gives, without those of its defaults; none where it cannot be read."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return set()
    return set(content) - {"defaults", "_target_"} if isinstance(content, dict) else set()
