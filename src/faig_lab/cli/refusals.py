"""Errors of Hydra and OmegaConf while composing, in one line with the nearest valid choice."""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from faig_lab.cli.arguments import GROUP_CHOICE, known_keys
from faig_lab.config.folder import FOLDER, other_choices
from faig_lab.config.messages import nearest, suggest, unknown_key, words_to_type

_NOT_IN_CONFIG = re.compile(r"Could not (?:override|append to|delete from config\.) '([^']+)'")
_PRESENT = re.compile(r"An item is already at '([^']+)'")
_TWICE = re.compile(
    r"Multiple values for ([\w/@]+)|^([\w/@]+) appears more than once"
    r"|force-add of config groups is not supported: '\+\+([\w/@]+)="
)
_FULL_KEY = re.compile(r"full_key: (\S+)")
_EXTRAS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit"}


def explain(error: HydraException | OmegaConfBaseException, settings: Sequence[str], config_dir: Path | None) -> str:
    """Return one line about an error.

    Args:
        error: an error that was raised while composing.
        settings: the settings of the command line, without flags.
        config_dir: the user's configuration folder, as in `--config-dir`.
    """
    if isinstance(error, OverrideParseException):
        return _bad_override(error, config_dir)
    if isinstance(error, MissingConfigException):
        return _missing_config(error, config_dir)
    text = f"{error}\n{error.__cause__ or ''}"
    absent = _NOT_IN_CONFIG.search(text)
    if absent:
        known = known_keys(settings, config_dir, of_hydra=absent[1].startswith("hydra."))
        # A whole group was given, and a key of the group is wrong.
        within = _FULL_KEY.search(text) if absent[1] in known else None
        key = within[1] if within else absent[1]
        if key in known and _is_swept(key.partition(".")[0], settings):
            return f"{key}: Hydra looks for it in the default {key.partition('.')[0]}; in a sweep write ++{key}=..."
        missing = ".".join(key.split(".")[:2]) not in known
        return (missing and other_choices(key, config_dir)) or unknown_key(key, known)
    present = _PRESENT.search(text)
    if present:
        return f"{present[1]}: the key exists already; write {present[1]}=... without the +"
    twice = _TWICE.search(text)
    if twice:
        return _chosen_twice(next(filter(None, twice.groups())), settings)
    return _plain(error)


def _is_swept(group: str, settings: Sequence[str]) -> bool:
    return any("," in setting and (m := GROUP_CHOICE.match(setting)) and m[1] == group for setting in settings)


def _chosen_twice(group: str, settings: Sequence[str]) -> str:
    given = [setting.lstrip("+") for setting in settings if setting.lstrip("+").startswith(f"{group}=")]
    if len(given) > 1:
        return f"{group}: chosen {len(given)} times ({' '.join(given)}); leave one choice"
    return f"{group}: a choice exists already; write {given[0] if given else f'{group}=...'} without the +"


def _bad_override(error: OverrideParseException, config_dir: Path | None) -> str:
    """Return one line about a setting that Hydra cannot read. Hydra's reasons name tokens and are left out."""
    typed = words_to_type(error.override)
    how = f"; if the value is text, type {typed}" if typed else ", with quotes around special characters"
    if "=" not in error.override:
        name = re.split(r"[^\w./]", error.override)[0]
        return f"{error.override}: not a setting; write {nearest(name, known_keys((), config_dir)) or 'key'}=value"
    return f"{error.override}: not a setting; write key=value{how}"


def _missing_config(error: MissingConfigException, config_dir: Path | None) -> str:
    wanted = error.missing_cfg_file or ""
    group, _, option = wanted.rpartition("/")
    if not group:
        return _plain(error)
    if group == "hydra/launcher" and option in _EXTRAS:
        return f'hydra/launcher: {option} is not installed; pip install "faig_lab[{_EXTRAS[option]}]"'
    # Hydra lists no options for a name within a list, as in degradation=[noise,blr].
    folders = [folder / group for folder in (FOLDER, config_dir) if folder is not None]
    options = error.options or [path.stem for folder in folders for path in folder.glob("*.yaml")]
    # Launchers are typed by their own names; see `normalise`.
    names = {name.removeprefix("faig_lab_") for name in options} if group == "hydra/launcher" else set(options)
    return f"{group}: unknown option {option!r}; {suggest(option, names)}"


def _plain(error: Exception) -> str:
    """Return the message without lines about internals."""
    lines = [line.strip() for line in f"{error}\n{error.__cause__ or ''}".splitlines()]
    inner = ("full_key:", "object_type=", "reference_type=", "child config", "See https://")
    kept = [line for line in lines if line and not line.startswith(inner)]
    return "; ".join(dict.fromkeys(kept))
