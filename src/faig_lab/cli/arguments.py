"""Command-line arguments: flags and settings, short forms, `resume=` and `sweep=`, and composition outside of Hydra."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import hydra
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from faig_lab.config.messages import FOLDER, is_multirun, key_of, keys_of, missing_path, nearest, quote_text, quoted
from faig_lab.config.targets import check_links, check_recorded, check_stored, read_stored, targets_of
from faig_lab.errors import UserError
from faig_lab.runs import processes
from faig_lab.runs.folder import is_running, read_status


class Typed(NamedTuple):
    """The arguments of the command line.

    Attributes:
        flags: the flags with their values.
        settings: all other arguments.
        config_dir: the user's folder of configuration files.
    """

    flags: list[str]
    settings: list[str]
    config_dir: Path | None


def parted(given: Sequence[str]) -> Typed:
    """Separate flags and settings. Hydra requires the flags before the settings.

    The parser is Hydra's, with two changes. An error is one line, not a page. Abbreviations are not allowed, since
    `--experiment` would be short for `--experimental-rerun`.

    Raises:
        UserError: a flag does not exist or has a wrong value.
    """
    parser = get_args_parser()
    parser.allow_abbrev = False

    def refuse(message: str) -> NoReturn:
        fault, _, unknown = message.partition("unrecognized arguments: ")
        if not fault:
            raise UserError(_unknown(unknown.split()[0], given, list(parser._option_string_actions)))
        raise UserError(f"{message}; --help lists all flags")

    parser.error = refuse  # type: ignore[method-assign]  # Hydra makes the parser, so there is no subclass
    options = [*parser._option_string_actions, "-", "--"]
    for flag in given:  # argparse still accepts abbreviations of flags with a single dash: -s for -sc
        if flag.startswith("-") and flag not in options and any(option.startswith(flag) for option in options):
            refuse(f"unrecognized arguments: {flag}")
    parsed = parser.parse_intermixed_args(list(given))
    if parsed.run and any("=" not in setting for setting in parsed.overrides):
        raise UserError(_unknown("--run", given, ()))
    folder = Path(parsed.config_dir) if parsed.config_dir else None
    if folder and not folder.is_dir():
        raise UserError(missing_path("--config-dir", folder, "folder"))
    flags = [argument for argument in given if argument not in parsed.overrides]
    return Typed(flags, list(parsed.overrides), folder)


def _unknown(flag: str, given: Sequence[str], known: Sequence[str]) -> str:
    """Return one line about an unknown flag, which most often is a setting with dashes before it."""
    name, _, value = flag.lstrip("-").partition("=")
    close = nearest(name, [option.lstrip("-") for option in known], 0.7)
    setting = nearest(name, [*known_keys(), *([close] if close else [])], 0.7)
    if setting and setting != close:
        after = list(given)[list(given).index(flag) + 1 :] if flag in given else []
        value = value or next((word for word in after[:1] if "=" not in word and not word.startswith("-")), "...")
        return f"{flag.partition('=')[0]}: a setting has no dashes; write {setting}={value}"
    return f"{flag}: unknown flag; {f'did you mean --{close}?' if close else '--help lists all flags'}"


# `experiment` is in the defaults list (empty), so Hydra refuses a `+`.
_EXPERIMENT = re.compile(r"^\+{1,2}(?=experiment=)")
# The user chooses these names, so Hydra requires a `+`.
_OWN_NAMES = re.compile(r"^\+{0,2}(?=(data\.(test_)?lr_dirs|export\.strengths)(\.\w+)?=)")
# Our files have a prefix, since a plugin already uses the plain names.
_LAUNCHER = re.compile(r"^hydra/launcher=(?=(joblib|submitit_local|submitit_slurm)$)")
_COMPARISON = "hydra.run.dir=outputs/${name}/compare-${now:%Y-%m-%d_%H-%M-%S}"
# Hydra would compose a list of choices to one run, in which the last choice wins.
_ONE_CHOICE = re.compile(r"^(attribution|data|network|training|trainer)=\[(.*)\]$")
_SWEEP = re.compile(r"^\+{0,2}sweep=")
_TRUST = re.compile(r"^\+{0,2}trust=(true|yes|on|1)$", re.IGNORECASE)
GROUP_CHOICE = re.compile(r"^[+~]{0,2}([\w/]+)=")
"""A setting that chooses the option of a group, such as `network=srcnn_style`, and other settings without a dot."""
_NOT_RECORDED = re.compile(r"^(\+{0,2}(traceback|trust)=|hydra\.(mode|sweep\.dir|sweeper\.resume)=)")


def normalise(arguments: Sequence[str], flags: Sequence[str] = ()) -> list[str]:
    """Rewrite settings in Hydra's syntax.

    `+experiment=x` becomes `experiment=x`, and `data.lr_dirs.blur=x` becomes `++data.lr_dirs.blur=x`. Paths and names
    are quoted if Hydra's grammar requires quotes. Launchers get our defaults: `hydra/launcher=joblib` becomes
    `hydra/launcher=faig_lab_joblib`. The folder of a comparison is named `compare-<time>`. `inspect FILE` becomes
    `task=inspect file=FILE`.

    Args:
        arguments: settings, without flags.
        flags: Hydra's flags, which decide whether commas separate the values of a sweep.

    Raises:
        UserError: a value without a key, or a list of choices for a group that takes one choice.
    """
    arguments = inspected(arguments)
    multirun = is_multirun(flags, arguments)
    for argument in arguments:
        if argument.lstrip("+~").startswith("="):
            raise UserError(f"{argument}: not a setting; write key=value")
        if match := _ONE_CHOICE.match(argument):
            raise UserError(
                f"{match[1]}: {argument} is a list, and a run has one {match[1]}; "
                f"write -m {match[1]}={match[2]} for a run with each"
            )
    plain = [_OWN_NAMES.sub("++", _EXPERIMENT.sub("", argument)) for argument in arguments]
    launched = [_LAUNCHER.sub("hydra/launcher=faig_lab_", argument) for argument in plain]
    settings = [quote_text(argument, multirun=multirun) for argument in launched]
    if "task=compare" in plain and not any(argument.startswith("hydra.run.dir=") for argument in plain):
        runs = [Path(s.partition("=")[2].strip("'\"")).expanduser() for s in plain if s.startswith("runs=")]
        inside = len(runs) == 1 and (runs[0] / "multirun.yaml").is_file()  # the comparison of a sweep is in its folder
        settings.append(f"hydra.run.dir={quoted(runs[0] / 'compare')}" if inside else _COMPARISON)
    return settings


def inspected(arguments: Sequence[str]) -> Sequence[str]:
    """Return `inspect FILE [OTHER]` as settings. An argument with `=` is a file if there is a file of this name."""
    if list(arguments[:1]) != ["inspect"]:
        return arguments
    files = [argument for argument in arguments[1:] if "=" not in argument or Path(argument).is_file()]
    if len(files) > 2:
        raise UserError(f"inspect: {len(files)} files; give one weights file, or two to compare")
    others = [argument for argument in arguments[1:] if argument not in files]
    return ["task=inspect", *(f"{key}={file}" for key, file in zip(("file", "other"), files, strict=False)), *others]


def continued(flags: Sequence[str], settings: Sequence[str]) -> list[str]:
    """Return the arguments for Hydra, flags before settings, with `sweep=FOLDER` replaced by the settings of the sweep.

    `sweep=FOLDER` runs the unfinished jobs of the sweep in that folder, or starts a sweep there. Alone it uses the
    settings that the sweep was started with. Other settings must be the same; only Hydra's settings, such as the
    launcher, may differ. The recorded settings may not name code or a configuration folder without `trust=true`.

    Args:
        flags: Hydra's flags with their values.
        settings: the normalised settings.

    Raises:
        UserError: the folder has no sweep to continue, or a sweep of other settings.
    """
    given = [setting for setting in settings if not _SWEEP.match(setting)]
    folders = [_SWEEP.sub("", setting) for setting in settings if _SWEEP.match(setting)]
    if not folders:
        return [*flags, *given]
    folder = Path(folders[-1].strip("'\"")).expanduser()
    file = folder / "multirun.yaml"
    task, of_hydra = _parted(given)
    trusted = any(map(_TRUST.match, given))
    if file.is_file():
        before = _recorded(file)
        if task and sorted(task) != sorted(before.task):
            raise UserError(
                f"sweep: {folder} holds another sweep ({' '.join(before.task)}); "
                f"continue it with sweep={folder} alone, or choose another folder"
            )
        names_folder = any(flag.startswith(("--config-dir", "-cd")) for flag in flags)
        if before.flags and not names_folder and not trusted:
            raise UserError(
                f"sweep: {file} names a configuration folder, which may call any code; repeat "
                f"{' '.join(before.flags)}, or, if you trust who made the folder, add trust=true"
            )
        if not trusted:  # settings that the user has typed are the user's code
            check_recorded([s for s in (*before.task, *before.hydra) if s not in given], f"sweep: {file}")
        keys = {key_of(setting) for setting in of_hydra}
        of_hydra += [setting for setting in before.hydra if key_of(setting) not in keys]
        task = before.task
        flags = [*flags, *([] if names_folder else before.flags)]
    elif not folder.is_dir() and not task:
        raise UserError(missing_path("sweep", folder, "folder"))
    elif not task:
        raise UserError(
            f"sweep: {folder} holds no sweep (multirun.yaml); add the settings of a sweep to start a sweep there"
        )
    mode = [] if {"-m", "--multirun"} & set(flags) else ["-m"]
    task = [*task, *(["trust=true"] if trusted else [])]
    return [*flags, *mode, *task, *of_hydra, f"hydra.sweep.dir={quoted(folder)}", "hydra.sweeper.resume=true"]


class _Recorded(NamedTuple):
    """The settings and flags that a sweep was started with."""

    task: list[str]
    hydra: list[str]
    flags: list[str]


def _recorded(file: Path) -> _Recorded:
    try:
        recorded = yaml.safe_load(file.read_text(encoding="utf-8"))["hydra"]
        task, of_hydra = _parted([*recorded["overrides"]["task"], *recorded["overrides"]["hydra"]])
        folders = [s["path"] for s in recorded["runtime"]["config_sources"] if s["provider"] == "command-line"]
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise UserError(f"sweep: {file} cannot be read ({type(error).__name__}); choose another folder") from error
    return _Recorded(task, of_hydra, [part for path in folders for part in ("--config-dir", str(path))])


def _parted(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the settings of the jobs from Hydra's settings, without the settings that differ each time."""
    kept = [setting for setting in settings if not _NOT_RECORDED.match(setting)]
    of_hydra = [setting for setting in kept if key_of(setting).startswith(("hydra.", "hydra/"))]
    return [setting for setting in kept if setting not in of_hydra], of_hydra


_RESUME = re.compile(r"^\+{0,2}resume=(?!null$)")
# Settings that change no number: the record of the run, and the display of errors.
_WITH_RESUME = re.compile(r"^\+{0,2}(logger(\.\w+)?|traceback|trust)=")


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
        if not _WITH_RESUME.match(setting):
            raise UserError(
                f"{setting}: an interrupted run continues with its original settings; with resume only logger, "
                "traceback and trust may be given"
            )
    try:
        value = OverridesParser.create().parse_override(f"resume={given[0]}").value()
    except HydraException:  # a path that Hydra cannot read stays as typed
        value = given[0]
    folder = Path(str(value)).expanduser()
    if not processes.launched():  # the process that started the group has checked the folder
        _check_resumable(folder)
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
    for key in (key_of(override) for override in overrides if _WITH_RESUME.match(override)):
        OmegaConf.update(original, key, OmegaConf.select(cfg, key), force_add=True)
    return original


def _check_resumable(folder: Path) -> None:
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


def compose(overrides: Sequence[str] = (), config_dir: Path | None = None, *, of_hydra: bool = False) -> DictConfig:
    """Compose the configuration that `faig-lab <overrides>` would run, without a check.

    Args:
        overrides: arguments as on the command line, without flags.
        config_dir: the user's configuration folder, as in `--config-dir`.
        of_hydra: whether the result contains Hydra's settings, below `hydra`.
    """
    added = [f"hydra.searchpath=[{quoted(f'file://{config_dir.resolve()}')}]"] if config_dir else []
    with hydra.initialize_config_dir(str(FOLDER), version_base="1.3"):
        return hydra.compose("config", overrides=[*normalise(overrides), *added], return_hydra_config=of_hydra)


def known_keys(settings: Sequence[str] = (), config_dir: Path | None = None, *, of_hydra: bool = False) -> list[str]:
    """Return every dotted key and every group, with the choices among `settings` as far as they compose.

    Args:
        settings: the settings of the command line. The first choice of a sweep counts.
        config_dir: the user's configuration folder.
        of_hydra: whether the keys of Hydra are included.
    """
    groups = {*_groups(), *_groups(config_dir), "experiment"}
    choices = [
        setting if "[" in setting else setting.partition(",")[0]
        for setting in settings
        if setting.startswith("hydra.searchpath=") or ((m := GROUP_CHOICE.match(setting)) and m[1] in groups)
    ]
    keys: list[str] = []
    for overrides in (choices, []):
        with suppress(HydraException, OmegaConfBaseException, UserError):
            composed = OmegaConf.to_container(compose(overrides, config_dir, of_hydra=of_hydra))
            keys = list(keys_of(cast("dict[str, Any]", composed)))
            break
    return [*keys, *_groups(), "experiment"]


def _groups(config_dir: Path | None = FOLDER) -> list[str]:
    if config_dir is None:
        return []
    return [folder.relative_to(config_dir).as_posix() for folder in config_dir.rglob("*") if folder.is_dir()]
