"""Command-line arguments: flags and settings told apart, short forms completed, composing outside of Hydra."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import yaml
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from faig_lab.config.folder import FOLDER
from faig_lab.config.messages import is_multirun, missing_path, quote_text, quoted
from faig_lab.config.trust import check_recorded
from faig_lab.errors import UserError


class Typed(NamedTuple):
    """The arguments of the command line.

    Attributes:
        flags: with their values.
        settings: all that is no flag.
        config_dir: the user's own folder of configuration files.
    """

    flags: list[str]
    settings: list[str]
    config_dir: Path | None


def parted(given: Sequence[str]) -> Typed:
    """The flags and the settings among the arguments; Hydra reads them in this order only.

    It is Hydra's own parser that is asked, except that it says what is wrong in one line, not in a page, and that it
    knows no abbreviation: `--experiment` would be short for `--experimental-rerun`.

    Raises:
        UserError: there is no such flag, or it has a wrong value.
    """
    parser = get_args_parser()
    parser.allow_abbrev = False

    def refuse(message: str) -> NoReturn:
        kind, _, unknown = message.partition("unrecognized arguments: ")
        if not kind:
            raise UserError(_unknown(unknown.split()[0], given, list(parser._option_string_actions)))
        raise UserError(f"{message}; --help shows what there is")

    parser.error = refuse  # type: ignore[method-assign]
    options = [*parser._option_string_actions, "-", "--"]
    for flag in given:  # argparse still takes abbreviations of flags with a single dash: -s for -sc
        if flag.startswith("-") and flag not in options and any(option.startswith(flag) for option in options):
            refuse(f"unrecognized arguments: {flag}")
    parsed = parser.parse_intermixed_args(list(given))
    if parsed.run and any("=" not in setting for setting in parsed.overrides):
        raise UserError(_unknown("--run", given, ()))
    folder = Path(parsed.config_dir) if parsed.config_dir else None
    if folder and not folder.is_dir():
        from faig_lab.config.messages import missing_path

        raise UserError(missing_path("--config-dir", folder, "folder"))
    flags = [argument for argument in given if argument not in parsed.overrides]
    return Typed(flags, list(parsed.overrides), folder)


def _unknown(flag: str, given: Sequence[str], known: Sequence[str]) -> str:
    """One line about a flag that there is not; most often it is a setting with dashes before it."""
    from faig_lab.cli.refusals import known_keys
    from faig_lab.config.messages import nearest

    name, _, value = flag.lstrip("-").partition("=")
    close = nearest(name, [option.lstrip("-") for option in known], 0.7)
    setting = nearest(name, [*known_keys(), *([close] if close else [])], 0.7)
    if setting and setting != close:
        after = list(given)[list(given).index(flag) + 1 :] if flag in given else []
        value = value or next((word for word in after[:1] if "=" not in word and not word.startswith("-")), "...")
        return f"{flag.partition('=')[0]}: a setting has no dashes; write {setting}={value}"
    return f"{flag}: there is no such flag; {f'did you mean --{close}?' if close else '--help shows what there is'}"


# `experiment` has its (empty) place in the defaults list, where Hydra refuses a `+`.
_EXPERIMENT = re.compile(r"^\+{1,2}(?=experiment=)")
# Here the names are the user's own, where Hydra insists on a `+`.
_OWN_NAMES = re.compile(r"^\+{0,2}(?=(data\.(test_)?lr_dirs|export\.strengths)(\.\w+)?=)")
# Files of ours, since a file cannot have the name of what a plugin brings.
_LAUNCHER = re.compile(r"^hydra/launcher=(?=(joblib|submitit_local|submitit_slurm)$)")
_COMPARISON = "hydra.run.dir=outputs/${name}/compare-${now:%Y-%m-%d_%H-%M-%S}"
# A list of them would be one run with the last one's values.
_ONE_CHOICE = re.compile(r"^(attribution|data|network|training|trainer|logger)=\[(.*)\]$")
_SWEEP = re.compile(r"^\+{0,2}sweep=")
_TRUST = re.compile(r"^\+{0,2}trust=(true|yes|on|1)$", re.IGNORECASE)
_NOT_RECORDED = re.compile(r"^(\+{0,2}(traceback|trust)=|hydra\.(mode|sweep\.dir|sweeper\.resume)=)")


def normalise(arguments: Sequence[str], flags: Sequence[str] = ()) -> list[str]:
    """Rewrite settings as Hydra wants them typed.

    `+experiment=x` becomes `experiment=x`, and `data.lr_dirs.blur=x` becomes `++data.lr_dirs.blur=x`. Paths and names
    are quoted where Hydra's grammar needs it. Launchers are taken with our defaults: `hydra/launcher=joblib` becomes
    `hydra/launcher=faig_lab_joblib`. A comparison gets a folder that is named so.
    `inspect FILE` becomes `task=inspect file=FILE`.

    Args:
        arguments: settings, without flags.
        flags: those of Hydra, which say whether commas separate the values of a sweep.

    Raises:
        UserError: a value without a key, or a list of choices in a group that has one choice.
    """
    arguments = inspected(arguments)
    multirun = is_multirun(flags, arguments)
    for argument in arguments:
        if argument.lstrip("+~").startswith("="):
            raise UserError(f"{argument}: not a setting; write key=value")
        _refuse_list(argument)
    plain = [_OWN_NAMES.sub("++", _EXPERIMENT.sub("", argument)) for argument in arguments]
    place = [] if any(argument.startswith("hydra.run.dir=") for argument in plain) else [_COMPARISON]
    return [
        *(quote_text(_LAUNCHER.sub("hydra/launcher=faig_lab_", argument), multirun=multirun) for argument in plain),
        *(place if "task=compare" in plain else []),
    ]


def inspected(arguments: Sequence[str]) -> Sequence[str]:
    """`inspect FILE [OTHER]` as settings; a name with = in it is a file where there is such a file."""
    if list(arguments[:1]) != ["inspect"]:
        return arguments
    files = [argument for argument in arguments[1:] if "=" not in argument or Path(argument).is_file()]
    if len(files) > 2:
        raise UserError(f"inspect: {len(files)} files; give one weights file, or two to compare")
    others = [argument for argument in arguments[1:] if argument not in files]
    return ["task=inspect", *(f"{key}={file}" for key, file in zip(("file", "other"), files, strict=False)), *others]


def _refuse_list(setting: str) -> None:
    found = _ONE_CHOICE.match(setting)
    if found:
        raise UserError(
            f"{found[1]}: {setting} is a list, and a run has one {found[1]}; "
            f"write -m {found[1]}={found[2]} for a run with each"
        )


def continued(flags: Sequence[str], settings: Sequence[str]) -> list[str]:
    """The arguments for Hydra: flags, then settings, with `sweep=FOLDER` replaced by what it stands for.

    `sweep=FOLDER` runs the unfinished jobs of the sweep in that folder, or starts one there. Alone it brings the
    settings that the sweep was started with; beside them only Hydra's own may differ (the launcher, say). What the
    folder records may not name code, nor a configuration folder, unless `trust=true` is there.

    Args:
        flags: those of Hydra, with their values.
        settings: normalised.

    Raises:
        UserError: there is no sweep to continue in the folder, or one of other settings.
    """
    given = [setting for setting in settings if not _SWEEP.match(setting)]
    folders = [_SWEEP.sub("", setting) for setting in settings if _SWEEP.match(setting)]
    if not folders:
        return [*flags, *given]
    folder = Path(folders[-1].strip("'\"")).expanduser()
    task, hydra = _parted(given)
    trusted = any(map(_TRUST.match, given))
    before = _recorded(folder) if (folder / "multirun.yaml").is_file() else None
    if before is None and not task:
        raise UserError(_no_sweep(folder))
    if before and task and sorted(task) != sorted(before.task):
        raise UserError(
            f"sweep: {folder} holds another sweep ({' '.join(before.task)}); "
            f"continue it with sweep={folder} alone, or choose another folder"
        )
    if before and not trusted:
        _check(before, folder / "multirun.yaml", flags, given)
    if before:
        keys = {_key(setting) for setting in hydra}
        hydra = [*hydra, *(setting for setting in before.hydra if _key(setting) not in keys)]
        task = before.task
        flags = [*flags, *([] if _names_config_dir(flags) else before.flags)]
    mode = [] if {"-m", "--multirun"} & set(flags) else ["-m"]
    task = [*task, *(["trust=true"] if trusted else [])]
    return [*flags, *mode, *task, *hydra, f"hydra.sweep.dir={quoted(folder)}", "hydra.sweeper.resume=true"]


class _Recorded(NamedTuple):
    """What a sweep was started with."""

    task: list[str]
    hydra: list[str]
    flags: list[str]


def _recorded(folder: Path) -> _Recorded:
    file = folder / "multirun.yaml"
    try:
        hydra = yaml.safe_load(file.read_text(encoding="utf-8"))["hydra"]
        task, of_hydra = _parted([*hydra["overrides"]["task"], *hydra["overrides"]["hydra"]])
        own = [source["path"] for source in hydra["runtime"]["config_sources"] if source["provider"] == "command-line"]
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise UserError(f"sweep: {file} cannot be read ({type(error).__name__}); choose another folder") from error
    return _Recorded(task, of_hydra, [part for path in own for part in ("--config-dir", str(path))])


def _check(before: _Recorded, file: Path, flags: Sequence[str], given: Sequence[str]) -> None:
    """Refuse what a stranger's sweep may not bring; what the user has typed as well is his own."""
    if before.flags and not _names_config_dir(flags):
        raise UserError(
            f"sweep: {file} names a configuration folder, which may call any code; repeat {' '.join(before.flags)}, "
            "or, if you trust who made the folder, add trust=true"
        )
    check_recorded([s for s in (*before.task, *before.hydra) if s not in given], f"sweep: {file}")


def _parted(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """The settings of the jobs, and those of Hydra; not what differs each time."""
    kept = [setting for setting in settings if not _NOT_RECORDED.match(setting)]
    hydra = [setting for setting in kept if _key(setting).startswith(("hydra.", "hydra/"))]
    return [setting for setting in kept if setting not in hydra], hydra


def _key(setting: str) -> str:
    return setting.partition("=")[0].lstrip("+~")


def _names_config_dir(flags: Sequence[str]) -> bool:
    return any(flag.startswith(("--config-dir", "-cd")) for flag in flags)


def _no_sweep(folder: Path) -> str:
    if not folder.is_dir():
        return missing_path("sweep", folder, "folder")
    return f"sweep: {folder} holds no sweep (multirun.yaml); beside the settings of one it is started there"


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
