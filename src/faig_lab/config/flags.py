"""The flags of the command line, which are Hydra's, told apart from settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from hydra._internal.utils import get_args_parser

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
    from faig_lab.config.messages import nearest
    from faig_lab.config.refusals import known_keys

    name, _, value = flag.lstrip("-").partition("=")
    close = nearest(name, [option.lstrip("-") for option in known], 0.7)
    setting = nearest(name, [*known_keys(), *([close] if close else [])], 0.7)
    if setting and setting != close:
        after = list(given)[list(given).index(flag) + 1 :] if flag in given else []
        value = value or next((word for word in after[:1] if "=" not in word and not word.startswith("-")), "...")
        return f"{flag.partition('=')[0]}: a setting has no dashes; write {setting}={value}"
    return f"{flag}: there is no such flag; {f'did you mean --{close}?' if close else '--help shows what there is'}"
