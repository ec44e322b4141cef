"""Sweeps: the table of jobs, GPUs for jobs, and the removal of folders of runs that never started."""

import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from faig_lab.config.messages import key_of
from faig_lab.runs.folder import RunFolder, is_running, now, read_status, seconds_of, state_of
from faig_lab.runs.tables import aligned, write_table

_new: set[Path] = set()


class FoldersBefore(Callback):
    """A callback that Hydra calls before it makes the folder of a run, so that new folders are known."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember which folders above the run's folder do not exist yet."""
        _new.clear()
        # Without normalisation a name such as ../x gives parents that are not above the run's folder.
        parents = (Path(os.path.normpath(folder)) for folder in Path(config.hydra.run.dir).absolute().parents)
        _new.update(folder for folder in parents if not folder.exists())


def discard(folder: Path) -> None:
    """Remove the folder of a run that never started, if it has only Hydra's files, and new empty folders above it."""
    ours = {".hydra", f"{HydraConfig.get().job.name}.log"}
    if {entry.name for entry in folder.iterdir()} <= ours:
        shutil.rmtree(folder)
        for parent in sorted(_new, key=lambda path: len(path.parts), reverse=True):
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


TABLE = "sweep.csv"
_TAG_LENGTH, _GROUP_LENGTH = 64, 128  # the maxima of W&B
_held: list[FileLock] = []


class JobError(Exception):
    """A job failed and has logged the reason.

    Attributes:
        code: the exit code.
        reason: the error in one line.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)  # both arguments, so that the error can be pickled
        self.code, self.reason = code, reason


class SweepError(Exception):
    """Some jobs of a sweep are not done; carries the exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


@dataclass(frozen=True)
class Job:
    """One row of sweep.csv.

    Attributes:
        number: number of the job, which is the name of its folder.
        overrides: the settings in which the jobs differ.
        state: done, failed, running, not started, or killed (running in the status, without a process).
        seconds: time from start to end; None if the job has not ended.
        error: the reason of a failure, in one line.
        report: path of the report, relative to the sweep's folder.
        objective: the number that the jobs are ranked by; None if the job has none.
    """

    number: int
    overrides: str
    state: str
    seconds: int | None
    error: str
    report: str
    objective: float | None = None


def is_done(folder: Path) -> bool:
    """Return whether the job of this folder is done."""
    return read_status(folder).get("state") == "done"


def jobs(
    folder: Path,
    overrides: Mapping[int, Sequence[str]],
    ended: Mapping[int, str | None],
    objectives: Mapping[int, float | None] | None = None,
) -> list[Job]:
    """Return the state of every job of a sweep.

    Args:
        folder: the folder of the sweep.
        overrides: the settings of each job.
        ended: the error of each ended job, or None for a job that is done. The state of other jobs is in their folder.
        objectives: the objective of each job that has one.
    """
    common = set.intersection(*map(set, overrides.values())) if len(overrides) > 1 else set()
    rows = []
    for number, settings in overrides.items():
        status, report = read_status(folder / str(number)), folder / str(number) / "report.html"
        state, error = state_of(status), str(status.get("error") or "")
        if number in ended:
            state, error = ("done", "") if ended[number] is None else ("failed", ended[number] or "")
        done = state == "done"
        rows.append(
            Job(
                number,
                " ".join(setting for setting in settings if setting not in common),
                state,
                seconds_of(status),
                error,
                f"{number}/report.html" if done and report.is_file() else "",
                (objectives or {}).get(number) if done else None,
            )
        )
    return rows


def recorded(folder: Path, objective: str) -> float | None:
    """Return a number of the metrics.json of a job; None if the job has no such number."""
    try:
        value = RunFolder(folder).metrics.get(objective)
    except (OSError, ValueError, TypeError):
        return None
    return float(value) if isinstance(value, int | float) else None


def best(rows: Sequence[Job], direction: str) -> Job | None:
    """Return the job with the highest objective (`maximize`) or the lowest; None if no job has an objective."""
    ranked = [row for row in rows if row.objective is not None]
    choose = max if direction == "maximize" else min
    return choose(ranked, key=lambda row: row.objective or 0.0, default=None)


def write_jobs(folder: Path, rows: Sequence[Job]) -> Path:
    """Write sweep.csv, atomically, and return its path."""
    jobs = pd.DataFrame([vars(row) for row in rows], columns=list(Job.__annotations__))
    write_table(folder / TABLE, jobs.astype({"seconds": "Int64"}))  # whole numbers, of which some are missing
    return folder / TABLE


def table(rows: Sequence[Job], objective: str = "objective") -> str:
    """Return the jobs as aligned text, one line for each job. The objective has a column if a job has one."""
    ranked = any(row.objective is not None for row in rows)
    cells = [["job", "overrides", "state", "seconds", *[objective] * ranked, "error or report"]]
    for row in rows:
        numbers = ["" if row.seconds is None else str(row.seconds)]
        numbers += ["" if row.objective is None else f"{row.objective:.4f}"] * ranked
        cells.append([str(row.number), row.overrides, row.state, *numbers, row.error or row.report])
    return "\n".join(aligned(cells, left=(1, 2, len(cells[0]) - 1)))


def leave_failure(folder: Path, reason: str) -> None:
    """Record in status.json that a job failed before its run opened the folder. Another run's status stays."""
    status = read_status(folder)
    if status.get("state") == "done" or status.get("error") == reason or is_running(status):
        return
    RunFolder(folder).start().update(state="failed", error=reason, ended=now())


def record_as_part(cfg: DictConfig, sweep: Path, overrides: Sequence[str]) -> None:
    """Group the job's W&B run by the question of its sweep, and tag it with the settings that vary in the sweep.

    The question is the experiment and the settings that vary, with the sweep's folder: `blur_noise: attribution × seed
    (2026-01-01_10-00-00)`. A group and tags of the settings stay.
    """
    logger = cfg.logger
    if "tags" not in logger:  # no W&B
        return
    varied = _varied(sweep)
    told = [override for override in overrides if varied is None or key_of(override) in varied]
    question = " × ".join(dict.fromkeys(map(key_of, told)))
    group = f"{cfg.name}: {question}"[: _GROUP_LENGTH - len(sweep.name) - 3] + f" ({sweep.name})"
    logger.group = logger.group or (group if question else sweep.name)
    logger.tags = list(dict.fromkeys([*logger.tags, *(override[:_TAG_LENGTH] for override in told)]))


def _varied(sweep: Path) -> set[str] | None:
    """Return the settings that have several values in a sweep; None if multirun.yaml cannot be read."""
    try:
        hydra = yaml.safe_load((sweep / "multirun.yaml").read_text(encoding="utf-8"))["hydra"]
        typed = [*hydra["overrides"]["task"], *(f"{k}={v}" for k, v in (hydra["sweeper"].get("params") or {}).items())]
        parsed = OverridesParser.create().parse_overrides([str(setting) for setting in typed])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, HydraException):
        return None
    return {key_of(str(override.key_or_group)) for override in parsed if override.is_sweep_override()}


def take_gpu(cfg: DictConfig, sweep: Path) -> str | None:
    """Let this process see one GPU only: the GPU with the fewest jobs of the sweep.

    Each GPU has lock files for its jobs. A process holds its lock file until the process ends. The function does
    nothing with fewer than two GPUs, or if the settings name devices or the CPU.

    Returns:
        The GPU as CUDA_VISIBLE_DEVICES names it; None if nothing was changed.
    """
    if _held or OmegaConf.select(cfg, "trainer.devices") not in (1, "1"):
        return None
    if OmegaConf.select(cfg, "trainer.accelerator") not in ("auto", "gpu", "cuda"):
        return None
    visible = visible_gpus()
    if len(visible) < 2:
        return None
    folder = sweep / ".gpus"
    folder.mkdir(parents=True, exist_ok=True)
    for place in count():  # first the GPUs without a job, then the GPUs with one job, and so on
        round_, gpu = divmod(place, len(visible))
        # The name has the host, since GPU 0 of another machine is another GPU.
        lock = FileLock(folder / f"{socket.gethostname()}-gpu{gpu}-{round_}.lock")
        with suppress(Timeout):
            lock.acquire(timeout=0)
            break
    _held.append(lock)
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[gpu]
    return visible[gpu]


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them. CUDA is not started."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch ships it without types
        return []
    gpus = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:gpus] if named else [str(index) for index in range(gpus)]
