"""The command line: `python -m faig_lab` and the installed `faig-lab`.

Exit codes: 0 done, 1 the run failed, 2 the input is wrong, 130 interrupted,
141 the reader of the output has ended, 143 terminated.
"""

import sys

if __name__ == "__main__":
    # Before the other imports, which take a second. This module is then imported by its name, so that both ways to
    # start run the same module and jobs can be pickled.
    from faig_lab.start import main as start

    sys.exit(start())

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from traceback import print_exc
from typing import Any, NoReturn, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from faig_lab.cli.arguments import Typed, continued, normalise, own_settings, parted, resumed
from faig_lab.cli.console import check_text, explain, explain_composing, explained, logged_warnings, print_anything
from faig_lab.config.check import check, objective_of
from faig_lab.config.messages import FOLDER, is_multirun
from faig_lab.errors import Terminated, UserError, note_way_on, terminable
from faig_lab.runs import processes
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.processes import GroupError, let_the_cause_speak, own_place, run_as_group
from faig_lab.runs.sweep import JobError, SweepError, discard, leave_failure, record_as_part, take_gpu

DONE, FAILED, REFUSED, INTERRUPTED, NO_READER, TERMINATED = 0, 1, 2, 130, 141, 143
_TASKS = {"compare": "compare", "store": "store", "inspect": "inspect_weights"}  # cli/study.py runs all other tasks
_CODES = (FAILED, REFUSED, INTERRUPTED, NO_READER, TERMINATED)
_FULL_ERROR = "HYDRA_FULL_ERROR"

log = logging.getLogger("faig_lab")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on `arguments` (default: those of the process) and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    asked = any(argument.lstrip("+").lower() in ("traceback=true", "traceback=yes") for argument in given)
    print_anything()
    try:
        with terminable(), logged_warnings():
            code = _start(given, asked or os.environ.get(_FULL_ERROR) == "1")
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at its end, so stdout must be open.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except (KeyboardInterrupt, Terminated) as error:
        word, code = ("terminated", TERMINATED) if isinstance(error, Terminated) else ("interrupted", INTERRUPTED)
        notes = getattr(error, "__notes__", [])  # in a sweep the last note is the note of the sweep
        way = f"continue with: python -m faig_lab {notes[-1]}" if notes else "no work was started; repeat the command"
        print(f"{word}; {way}", file=sys.stderr)
    return code


def _start(given: Sequence[str], traceback: bool) -> int:
    """Call Hydra. Every exception except an interruption becomes one line and an exit code."""
    typed = Typed([], list(given), None)
    try:
        check_text(given)
        typed = parted(given)
        settings = resumed(typed.flags, normalise(typed.settings, typed.flags))
        arguments = [*continued(typed.flags, settings), *own_place(), *(["++traceback=true"] if traceback else [])]
        # With the variable Hydra raises its errors. Otherwise Hydra prints several lines and exits.
        with _arguments(arguments), _environment(_FULL_ERROR, "1"):
            hydra.main(config_path=str(FOLDER), config_name="config", version_base="1.3")(job)()
        return DONE
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else DONE
    except JobError as error:  # from a sweeper of another package
        return error.code
    except SweepError as error:
        if traceback and error.__cause__ is not None:  # the launcher failed
            print_exc()
        print(f"error: {error.message}", file=sys.stderr)
        return error.code
    except BrokenPipeError:
        raise
    except Exception as error:
        if traceback:
            print_exc()
        return _report(error, typed)


def job(cfg: DictConfig) -> float | None:
    """One run: check the composed configuration, then run the pipeline in Hydra's output folder.

    Returns:
        The objective of the run, for a sweeper; None for a task that leaves no metrics.
    """
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    multirun = hydra_config.mode == RunMode.MULTIRUN
    print_anything()  # again, since a parallel launcher runs jobs in other processes
    try:
        if cfg.resume is not None:
            cfg = own_settings(cfg, hydra_config.overrides.task)
        # Plain data, since an interpolation that cannot be resolved would replace its own error.
        plain = cast("dict[str, Any]", OmegaConf.to_container(cfg))
        # The processes that the run starts do not get the variable.
        with _environment(_FULL_ERROR, None), explained(plain, folder):
            # Before the check, since CUDA fixes its devices at the first question.
            if multirun and (gpu := take_gpu(cfg, folder.parent)):
                log.info("GPU %s", gpu)
            check(cfg, multirun=multirun)
            if multirun:
                record_as_part(cfg, folder.parent, hydra_config.overrides.task)
            count = processes.needed(cfg, multirun)
            if count > 1:
                run_as_group(cfg, folder, count)
            else:
                import_module(f"faig_lab.cli.{_TASKS.get(cfg.task, 'study')}").run(cfg, folder)
        if cfg.task != "study":  # the results are in the folder of the finished run, or in the exported file
            discard(folder)
        return _objective(cfg, folder, multirun)
    except BrokenPipeError:
        raise
    except (KeyboardInterrupt, Terminated) as error:
        if cfg.task == "study" and (folder / "config.yaml").is_file():
            note_way_on(error, "resume", folder)
        elif not multirun:
            discard(folder)
        raise
    except GroupError as error:  # its processes have logged the reason
        _end(error.code if error.code in _CODES else FAILED, str(error), folder, multirun)
    except UserError as error:
        _say(str(error), cfg)
        if not multirun:
            discard(folder)
        _end(REFUSED, _one_line(error), folder, multirun)
    except Exception as error:
        reason = f"{type(error).__name__}: {_one_line(error)}"
        _say(f"{reason} (traceback in {folder})", cfg)
        _end(FAILED, reason, folder, multirun)


def _objective(cfg: DictConfig, folder: Path, multirun: bool) -> float | None:
    """Return the objective of the run that the task has finished. A job of a sweep without the objective is done."""
    places = {"study": folder, "analyse": Path(str(cfg.run)).expanduser()}
    try:
        return objective_of(RunFolder(places[cfg.task]).metrics, cfg.objective) if cfg.task in places else None
    except UserError as error:
        if not multirun:
            raise
        log.warning("%s", error)
        return None


def _end(code: int, reason: str, folder: Path, multirun: bool) -> NoReturn:
    """End a job. A sweep continues with the next job; a single run exits."""
    if not multirun:
        raise SystemExit(code)
    leave_failure(folder, reason)
    raise JobError(code, reason)


def _say(message: str, cfg: DictConfig) -> None:
    """Log one line to console and log file. The traceback goes to the file, and on request to the console."""
    let_the_cause_speak()
    log.error("error: %s", message)
    shown = cfg.get("traceback") is True
    log.log(logging.ERROR if shown else logging.DEBUG, "traceback:", exc_info=True)


def _report(error: Exception, typed: Typed) -> int:
    """Print an error that was raised outside of a job, and return the exit code."""
    if isinstance(error, HydraException | OmegaConfBaseException):
        error = UserError(explain_composing(error, typed.settings, typed.config_dir))
    elif isinstance(error, OSError) and error.filename is not None:  # Hydra makes the folder of the run
        key = "hydra.sweep.dir" if is_multirun(typed.flags, typed.settings) else "hydra.run.dir"
        error = explain(error, {}, Path(error.filename), key=key) or error
    known = isinstance(error, UserError)
    print(f"error: {'' if known else type(error).__name__ + ': '}{_one_line(error)}", file=sys.stderr)
    return REFUSED if known else FAILED


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or "no message"


@contextmanager
def _arguments(arguments: Sequence[str]) -> Iterator[None]:
    """Let Hydra (and the ranks that Lightning starts) see `arguments` as the arguments of the process."""
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """Set a variable of the environment, or remove it with None. The variable is restored at the end."""
    before = os.environ.get(name)
    try:
        _set(name, value)
        yield
    finally:
        _set(name, before)


def _set(name: str, value: str | None) -> None:
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
