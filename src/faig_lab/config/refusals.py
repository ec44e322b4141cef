"""What Hydra and OmegaConf refuse while composing, in one line with the nearest valid choice."""

import re
from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from faig_lab.config.composition import FOLDER, compose
from faig_lab.config.messages import keys_of, suggest, unknown_key

_NOT_IN_CONFIG = re.compile(r"Could not (?:override|append to|delete from config\.) '([^']+)'")
_PRESENT = re.compile(r"An item is already at '([^']+)'")
_FULL_KEY = re.compile(r"full_key: (\S+)")
_EXTRAS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit"}
_GROUP = re.compile(r"^[+~]{0,2}([\w/]+)=")


def explain(error: HydraException | OmegaConfBaseException, arguments: Sequence[str]) -> str:
    """One line about `error`; `arguments` are those of the command line that led to it."""
    if isinstance(error, OverrideParseException):
        return _bad_override(error)
    if isinstance(error, MissingConfigException):
        return _missing_config(error)
    text = f"{error}\n{error.__cause__ or ''}"
    found = _NOT_IN_CONFIG.search(text)
    if found:
        known = [*keys_of(_composed(arguments)), *_groups()]
        # A whole group was given, and one key in it is wrong.
        within = _FULL_KEY.search(text) if found[1] in known else None
        return unknown_key(within[1] if within else found[1], known)
    present = _PRESENT.search(text)
    if present:
        return f"{present[1]}: it is there already; write {present[1]}=... without the +"
    return _plain(error)


def _bad_override(error: OverrideParseException) -> str:
    lines = [line for line in error.message.splitlines() if not line.startswith(("Error parsing", "See "))]
    reason = f" ({lines[0].rstrip('.')})" if lines else ""
    return f"{error.override}: not a setting; write key=value, with quotes around special characters{reason}"


def _missing_config(error: MissingConfigException) -> str:
    wanted = error.missing_cfg_file or ""
    group, _, option = wanted.rpartition("/")
    if not group:
        return _plain(error)
    if group == "hydra/launcher" and option in _EXTRAS:
        return f'hydra/launcher: {option} is not installed; pip install "faig_lab[{_EXTRAS[option]}]"'
    # Hydra lists no options for a name within a list, as in degradation=[noise,blr].
    options = error.options or [path.stem for path in (FOLDER / group).glob("*.yaml")]
    return f"{group}: there is no {option!r}; {suggest(option, options)}"


def _plain(error: Exception) -> str:
    """The message without its lines of internals."""
    lines = [line.strip() for line in f"{error}\n{error.__cause__ or ''}".splitlines()]
    inner = ("full_key:", "object_type=", "reference_type=", "child config", "See https://")
    kept = [line for line in lines if line and not line.startswith(inner)]
    return "; ".join(dict.fromkeys(kept))


def _composed(arguments: Sequence[str]) -> dict[str, Any]:
    """The configuration without the command line's values, but with its choices as far as they compose."""
    choices = [a for a in arguments if (found := _GROUP.match(a)) and found[1] in _groups() and "," not in a]
    for overrides in (choices, []):
        try:
            tree = OmegaConf.to_container(compose(overrides))
        except (HydraException, OmegaConfBaseException):
            continue
        assert isinstance(tree, dict)
        return {str(name): value for name, value in tree.items()}
    return {}


def _groups() -> list[str]:
    return [folder.relative_to(FOLDER).as_posix() for folder in FOLDER.rglob("*") if folder.is_dir()]
