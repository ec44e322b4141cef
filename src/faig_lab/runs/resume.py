"""`resume=FOLDER`: an interrupted run continues in its folder with its original settings."""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from faig_lab.config.messages import missing_path, quoted
from faig_lab.config.trust import check_links, check_stored, read_stored, targets_of
from faig_lab.errors import UserError
from faig_lab.runs import processes
from faig_lab.runs.status import is_running, read_status

_RESUME = re.compile(r"^\+{0,2}resume=(?!null$)")
# Settings that change no number: the record of the run, and the display of errors.
_ALLOWED = re.compile(r"^\+{0,2}(logger(\.\w+)?|traceback|trust)=")


def resumed(flags: Sequence[str], settings: Sequence[str]) -> list[str]:
    """Return the settings for Hydra. With `resume=FOLDER` they let the run work in that folder.

    Args:
        flags: Hydra's flags.
        settings: the normalised settings.

    Raises:
        UserError: the folder has no run to continue, or another setting would change the results.
    """
    given = [_RESUME.sub("", setting) for setting in settings if _RESUME.match(setting)]
    if not given:
        return list(settings)
    others = [setting for setting in settings if not _RESUME.match(setting)]
    if len(given) > 1 or {"-m", "--multirun"} & set(flags) or any("sweep=" in setting for setting in others):
        raise UserError("resume: one run at a time, without -m; sweep=FOLDER runs the unfinished jobs of a sweep")
    for setting in others:
        if not _ALLOWED.match(setting):
            raise UserError(
                f"{setting}: an interrupted run continues with its original settings; with resume only logger, "
                "traceback and trust may be given"
            )
    folder = Path(_plain(given[0])).expanduser()
    if not processes.launched():  # the process that started the group has checked the folder
        _check(folder)
    return [f"resume={quoted(folder)}", *others, f"hydra.run.dir={quoted(folder)}", "hydra.output_subdir=null"]


def own_settings(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration with which the run in `cfg.resume` was started.

    Args:
        cfg: the composed configuration.
        overrides: the other settings of the command line. Their values come from `cfg`.

    Raises:
        UserError: config.yaml is not a configuration, or names code that it may not call.
    """
    file = Path(cfg.resume) / "config.yaml"
    config = read_stored(file, "resume")
    if cfg.trust is not True:
        check_links(file.parent, "resume")
        check_stored(config, f"resume: {file}", named=targets_of(OmegaConf.to_container(cfg)))
    try:
        original = OmegaConf.create(config)
    except OmegaConfBaseException as error:
        raise UserError(f"resume: {file} cannot be read ({type(error).__name__})") from error
    for key in (override.partition("=")[0].lstrip("+") for override in overrides if _ALLOWED.match(override)):
        OmegaConf.update(original, key, OmegaConf.select(cfg, key), force_add=True)
    return original


def _plain(value: str) -> str:
    """Return a value without Hydra's quotes. A path that Hydra cannot read stays unchanged."""
    try:
        return str(OverridesParser.create().parse_override(f"resume={value}").value())
    except HydraException:
        return value


def _check(folder: Path) -> None:
    """Refuse a folder without a run, with a finished run, or with an active run."""
    if not folder.is_dir():
        raise UserError(missing_path("resume", folder, "folder"))
    if not (folder / "config.yaml").is_file():
        raise UserError(f"resume: {folder} holds no run (config.yaml); repeat the command that started it")
    status = read_status(folder)
    if status.get("state") == "done":
        raise UserError(f"resume: {folder} is done; task=analyse run={folder} adds analyses to it")
    if is_running(status):
        raise UserError(f"resume: process {status['pid']} is still running in {folder}; wait for its end")
