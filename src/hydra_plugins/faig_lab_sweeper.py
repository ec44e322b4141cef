"""Hydra's own sweeper, and beside it: only unfinished jobs on request, and a table of how each job ended.

Hydra takes sweepers from this package alone; what they work with is in `faig_lab.runs.sweep`.
"""

import shlex
from collections.abc import Sequence
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
    """One job for every combination; a failing one stops no other.

    Args:
        max_batch_size: jobs handed to the launcher at a time, null = all.
        params: settings to sweep over beside those of the command line.
        resume: run only those jobs whose folder does not say that they are done.
    """

    def __init__(
        self, max_batch_size: int | None = None, params: dict[str, str] | None = None, resume: bool = False
    ) -> None:
        super().__init__(max_batch_size, params)
        self.resume = resume

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Put the wanted launcher behind one that knows about job folders."""
        from faig_lab.errors import UserError
        from faig_lab.files import file_name

        # Before there is a folder: the name is a part of its path, and could lead anywhere.
        file_name(str(config.name), "name", several=False)
        if config.task in ("compare", "store", "inspect"):
            raise UserError(f"task: {config.task} is one command for all runs and no sweep; leave out -m")
        subdir = OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index,call-overload]
        if subdir != "${hydra.job.num}":
            raise UserError("hydra.sweep.subdir: the folders of jobs are their numbers; leave it out")
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        assert self.launcher is not None
        self.launcher = _Numbered(self.launcher, Path(str(config.hydra.sweep.dir)), self.resume)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs, then write and print the table, also when a launcher broke off.

        Raises:
            SweepError: not all jobs are done.
        """
        from faig_lab.errors import Terminated, UserError, note_way_on, terminable
        from faig_lab.runs import sweep

        assert isinstance(self.launcher, _Numbered)
        done, folder = self.launcher, self.launcher.folder
        broken: Exception | None = None
        try:
            with terminable():  # so that the launcher ends its processes on the way out
                super().sweep(arguments)
        except (KeyboardInterrupt, Terminated) as error:
            note_way_on(error, "sweep", folder)
            raise
        except Exception as error:
            if isinstance(error, UserError | HydraException | OmegaConfBaseException) or not done.overrides:
                raise  # it is the settings
            broken = error
        finally:
            rows = sweep.jobs(folder, done.overrides, {n: reason for n, (_, reason) in done.ended.items()})
            if rows:
                print(f"\n{sweep.table(rows)}\n\nsweep         {sweep.write_jobs(folder, rows)}")
        open_ones = [row for row in rows if row.state != "done"]
        if open_ones:
            code = next((code for code, _ in done.ended.values() if code), 1)
            again = shlex.quote(f"sweep={folder}")
            why = f"{type(broken).__name__}: {' '.join(str(broken).split())}; " if broken else ""
            raise sweep.SweepError(
                code, f"{why}{len(open_ones)} of {len(rows)} jobs are not done; again: python -m faig_lab {again}"
            ) from broken
        if broken:
            raise broken


class _Numbered(Launcher):
    """A launcher before a launcher: it gives each job the folder of its number, and takes down how the job ended.

    Attributes:
        overrides: settings of every job that it has been handed, by number.
        ended: exit code (0 = done) and error of the jobs that came back.
    """

    def __init__(self, launcher: Launcher, folder: Path, resume: bool) -> None:
        self.launcher, self.folder, self.resume = launcher, folder, resume
        self.overrides: dict[int, Sequence[str]] = {}
        self.ended: dict[int, tuple[int, str | None]] = {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing: the launcher behind has been set up."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Launch the jobs, or those that are not done."""
        from faig_lab.runs import sweep

        handed = dict(enumerate(job_overrides, start=initial_job_idx))
        self.overrides |= handed
        wanted = [n for n in handed if not (self.resume and sweep.is_done(self.folder / str(n)))]
        if wanted:
            numbered = [[*handed[n], f"hydra.sweep.subdir={n}"] for n in wanted]
            found = self.launcher.launch(numbered, initial_job_idx=initial_job_idx)
            self.ended |= {n: _end(job) for n, job in zip(wanted, found, strict=True)}
        return []


def _end(job: JobReturn) -> tuple[int, str | None]:
    from faig_lab.runs.sweep import JobError

    if job.status is JobStatus.COMPLETED:
        return 0, None
    error = job._return_value  # return_value would raise it
    return (error.code, error.reason) if isinstance(error, JobError) else (1, f"{type(error).__name__}: {error}")
