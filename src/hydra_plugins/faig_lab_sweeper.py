"""Hydra's basic sweeper with additions: on request it runs only unfinished jobs, and it reports all jobs and the best.

Hydra takes sweepers from this package only. The functions of the sweeper are in `faig_lab.runs.sweep`.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class FaigLabSweeper(BasicSweeper):
    """Runs a job for every combination. A job that fails does not stop other jobs.

    Args:
        max_batch_size: jobs for the launcher at a time, null = all.
        params: further settings to sweep over, beside the command line.
        resume: run only the jobs that are not done.
        direction: `maximize` or `minimize`: which objective is the best.
    """

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: dict[str, str] | None = None,
        resume: bool = False,
        direction: str = "maximize",
    ) -> None:
        super().__init__(max_batch_size, params)
        self.resume, self.direction = resume, direction

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Wrap the chosen launcher in a launcher that sets the folders of jobs."""
        from faig_lab.config.messages import suggest
        from faig_lab.errors import UserError
        from faig_lab.files import file_name

        # Before a folder is made: the name is a part of its path and could lead to any place.
        file_name(str(config.name), "name", several=False)
        if config.task in ("compare", "store", "inspect"):
            raise UserError(f"task: {config.task} is one command for all runs and no sweep; leave out -m")
        # Without `resolve` the type of a container is wide; here it is a dict.
        subdir = OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index,call-overload]
        if subdir != "${hydra.job.num}":
            raise UserError("hydra.sweep.subdir: the folders of jobs are their numbers; leave it out")
        if self.direction not in ("maximize", "minimize"):
            hint = suggest(self.direction, ["maximize", "minimize"])
            raise UserError(f"hydra.sweeper.direction: {self.direction} is not a choice; {hint}")
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        assert self.launcher is not None
        self.launcher = Numbered(self.launcher, Path(str(config.hydra.sweep.dir)), self.resume)

    def run_jobs(self, arguments: list[str]) -> None:
        """Run a job for every combination."""
        super().sweep(arguments)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs, then write and print the table, also after an error of the launcher.

        Raises:
            SweepError: not all jobs are done, or no job has the objective.
        """
        from faig_lab.config.objective import DEFAULT
        from faig_lab.errors import Terminated, UserError, note_way_on, terminable
        from faig_lab.runs import sweep

        assert isinstance(self.launcher, Numbered)
        assert self.config is not None
        done, folder = self.launcher, self.launcher.folder
        objective = str(self.config.objective or DEFAULT)
        broken: Exception | None = None
        try:
            with terminable():  # so that the launcher ends its processes
                self.run_jobs(arguments)
        except (KeyboardInterrupt, Terminated) as error:
            note_way_on(error, "sweep", folder)
            raise
        except Exception as error:
            if isinstance(error, UserError | HydraException | OmegaConfBaseException) or not done.overrides:
                raise  # the settings are wrong
            broken = error
        finally:
            reasons = {n: reason for n, (_, reason) in done.ended.items()}
            rows = sweep.jobs(folder, done.overrides, reasons, done.objectives(objective))
            best = sweep.best(rows, self.direction)
            if rows:
                print(f"\n{sweep.table(rows, objective)}\n\nsweep         {sweep.write_jobs(folder, rows)}")
            if best is not None:
                print(_conclusion(best, rows, objective, folder))
        unfinished = [row for row in rows if row.state != "done"]
        if unfinished:
            code = next((code for code, _ in done.ended.values() if code), 1)
            again = shlex.quote(f"sweep={folder}")
            why = f"{type(broken).__name__}: {' '.join(str(broken).split())}; " if broken else ""
            raise sweep.SweepError(
                code, f"{why}{len(unfinished)} of {len(rows)} jobs are not done; again: python -m faig_lab {again}"
            ) from broken
        if broken:
            raise broken
        if best is None and self.config.objective is not None:
            raise sweep.SweepError(2, f"objective: no job has {objective}; the warnings above name the nearest key")


def _conclusion(best: Any, rows: Sequence[Any], objective: str, folder: Path) -> str:
    """Return the lines about the best job, its settings and the command that compares the jobs."""
    ranked = [row.objective for row in rows if row.objective is not None]
    order = "highest" if best.objective == max(ranked) else "lowest"
    lines = [
        f"best          job {best.number}: {objective} {best.objective:.4f}, the {order} of {len(ranked)}",
        f"              {best.overrides}" if best.overrides else "",
        f"compare       python -m faig_lab task=compare {shlex.quote(f'runs={folder}')}" if len(ranked) > 1 else "",
    ]
    return "\n".join(line for line in lines if line)


class Numbered(Launcher):
    """A launcher around a launcher. It names the folder of each job by its number and records the end of each job.

    Attributes:
        overrides: settings of every job, by number.
        ended: exit code (0 = done) and error of each ended job.
        returned: the objective that each ended job has returned.
    """

    def __init__(self, launcher: Launcher, folder: Path, resume: bool) -> None:
        self.launcher, self.folder, self.resume = launcher, folder, resume
        self.overrides: dict[int, Sequence[str]] = {}
        self.ended: dict[int, tuple[int, str | None]] = {}
        self.returned: dict[int, float | None] = {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Do nothing, since the wrapped launcher has been set up."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Launch all jobs, or all jobs that are not done."""
        self.launch_numbered(dict(enumerate(job_overrides, start=initial_job_idx)))
        return []

    def launch_numbered(self, handed: Mapping[int, Sequence[str]]) -> None:
        """Launch all jobs, or all jobs that are not done. The key of a job is its number."""
        from faig_lab.runs import sweep

        self.overrides |= handed
        wanted = [n for n in handed if not (self.resume and sweep.is_done(self.folder / str(n)))]
        if wanted:
            numbered = [[*handed[n], f"hydra.sweep.subdir={n}"] for n in wanted]
            returns = self.launcher.launch(numbered, initial_job_idx=wanted[0])
            self.ended |= {n: _end(job) for n, job in zip(wanted, returns, strict=True)}
            self.returned |= {n: _objective(job) for n, job in zip(wanted, returns, strict=True)}

    def objectives(self, objective: str) -> dict[int, float | None]:
        """Return the objective of each job. A job that was done before this sweep has it in its metrics.json."""
        from faig_lab.runs.sweep import recorded

        return {n: self.returned.get(n, recorded(self.folder / str(n), objective)) for n in self.overrides}


def _end(job: JobReturn) -> tuple[int, str | None]:
    from faig_lab.runs.sweep import JobError

    if job.status is JobStatus.COMPLETED:
        return 0, None
    error = job._return_value  # return_value would raise it
    return (error.code, error.reason) if isinstance(error, JobError) else (1, f"{type(error).__name__}: {error}")


def _objective(job: JobReturn) -> float | None:
    value = job._return_value if job.status is JobStatus.COMPLETED else None
    return value if isinstance(value, float) else None
