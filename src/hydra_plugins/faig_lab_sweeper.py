"""Sweepers: Hydra's basic sweeper with additions, and Optuna, which chooses settings from the objectives of jobs.

Both run only unfinished jobs on request, and report all jobs and the best. Hydra takes sweepers from this package only.
The functions of the sweepers are in `faig_lab.runs.sweep`.

Hydra's own plugin for Optuna requires optuna 2, which does not run with today's SQLAlchemy. So `FaigLabOptunaSweeper`
asks optuna itself. Optuna is imported only by a sweep that uses it, since Hydra imports this module at every start.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

_REPEATS = 20
"""Suggestions that repeat earlier jobs, for each job, after which Optuna's sweep ends: it has found its optimum."""


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
        direction: Literal["maximize", "minimize"] = "maximize",
    ) -> None:
        super().__init__(max_batch_size, params)
        self.resume, self.direction = resume, direction
        self.jobs: dict[int, Sequence[str]] = {}  # number → settings
        self.ended: dict[int, tuple[int, str | None]] = {}  # number → exit code (0 = done) and error
        self.returned: dict[int, float | None] = {}  # number → objective

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Check the settings that no job has, before a folder is made."""
        from faig_lab.config.check import DEFAULT_OBJECTIVE
        from faig_lab.config.messages import suggest
        from faig_lab.errors import UserError
        from faig_lab.files import file_name

        # The name is a part of the folder's path and could lead to any place.
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
        self.cfg, self.launch_all = config, self.launcher.launch
        self.folder = Path(str(config.hydra.sweep.dir))
        self.objective = str(config.objective or DEFAULT_OBJECTIVE)

    def parsed(self, arguments: Sequence[str]) -> list[Override]:
        """Return the settings of the sweep."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return parser.parse_overrides([*self._parse_config(), *arguments])

    def run_jobs(self, arguments: Sequence[str]) -> None:
        """Run a job for every combination."""
        number = 0
        for batch in self.split_arguments(self.parsed(arguments), self.max_batch_size):
            self.launch(dict(enumerate(batch, start=number)))
            number += len(batch)

    def launch(self, jobs: Mapping[int, Sequence[str]]) -> None:
        """Launch all jobs, or all jobs that are not done, and record their ends. The key of a job is its number."""
        from faig_lab.runs import sweep

        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.cfg, self.folder / "multirun.yaml")
        self.validate_batch_is_legal([list(settings) for settings in jobs.values()])
        self.jobs |= jobs
        wanted = [n for n in jobs if not (self.resume and sweep.is_done(self.folder / str(n)))]
        if not wanted:
            return
        numbered = [[*jobs[n], f"hydra.sweep.subdir={n}"] for n in wanted]
        for number, job in zip(wanted, self.launch_all(numbered, initial_job_idx=wanted[0]), strict=True):
            value, done = job._return_value, job.status is JobStatus.COMPLETED  # `return_value` would raise the error
            self.returned[number] = value if done and isinstance(value, float) else None
            if isinstance(value, sweep.JobError):
                self.ended[number] = value.code, value.reason
            else:
                self.ended[number] = (0, None) if done else (1, f"{type(value).__name__}: {value}")

    def objective_of(self, number: int) -> float | None:
        """Return the objective of a job. A job that was done before this sweep has it in its metrics.json."""
        from faig_lab.runs.sweep import recorded

        if number in self.returned:
            return self.returned[number]
        return recorded(self.folder / str(number), self.objective)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs, then write and print the table, also after an error of the launcher.

        Raises:
            SweepError: not all jobs are done, or no job has the objective.
        """
        from faig_lab.errors import Terminated, UserError, note_way_on, terminable
        from faig_lab.runs import sweep

        broken: Exception | None = None
        try:
            with terminable():  # so that the launcher ends its processes
                self.run_jobs(arguments)
        except (KeyboardInterrupt, Terminated) as error:
            note_way_on(error, "sweep", self.folder)
            raise
        except Exception as error:
            if isinstance(error, UserError | HydraException | OmegaConfBaseException) or not self.jobs:
                raise  # the settings are wrong
            broken = error
        finally:
            reasons = {n: reason for n, (_, reason) in self.ended.items()}
            rows = sweep.jobs(self.folder, self.jobs, reasons, {n: self.objective_of(n) for n in self.jobs})
            best = sweep.best(rows, self.direction)
            if rows:
                table = sweep.table(rows, self.objective)
                print(f"\n{table}\n\nsweep         {sweep.write_jobs(self.folder, rows)}")
            if best is not None:
                print(_conclusion(best, rows, self.objective, self.folder))
        unfinished = [row for row in rows if row.state != "done"]
        if unfinished:
            code = next((code for code, _ in self.ended.values() if code), 1)
            again = shlex.quote(f"sweep={self.folder}")
            why = f"{type(broken).__name__}: {' '.join(str(broken).split())}; " if broken else ""
            raise sweep.SweepError(
                code, f"{why}{len(unfinished)} of {len(rows)} jobs are not done; again: python -m faig_lab {again}"
            ) from broken
        if broken:
            raise broken
        if best is None and self.cfg.objective is not None:
            raise sweep.SweepError(
                2, f"objective: no job has {self.objective}; the warnings above name the nearest key"
            )


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


class FaigLabOptunaSweeper(FaigLabSweeper):
    """Runs jobs whose settings Optuna chooses. Settings that were chosen before are not run again.

    If the settings have at most `n_trials` combinations, every combination is run once. The sampler is started with its
    seed, so the same sweep chooses the same settings.

    Args:
        sampler: `_target_` and arguments of a sampler of optuna.
        direction: `maximize` or `minimize` the objective.
        n_trials: number of jobs.
        n_jobs: jobs for the launcher at a time. Their settings are chosen together.
        params: further settings to sweep over, beside the command line.
        resume: keep the jobs that are done.
    """

    def __init__(
        self,
        sampler: DictConfig,
        direction: Literal["maximize", "minimize"],
        n_trials: int,
        n_jobs: int,
        *,
        params: dict[str, str] | None = None,
        resume: bool = False,
    ) -> None:
        super().__init__(None, params, resume, direction)
        self.sampler, self.n_trials, self.n_jobs = sampler, n_trials, n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Check that optuna is installed, before a folder is made."""
        from faig_lab.errors import UserError

        try:
            import optuna
        except ImportError:
            raise UserError('hydra/sweeper: optuna is not installed; pip install "faig_lab[optuna]"') from None
        for name in ("n_trials", "n_jobs"):
            if getattr(self, name) < 1:
                raise UserError(f"hydra.sweeper.{name}: must be at least 1, not {getattr(self, name)}")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def run_jobs(self, arguments: Sequence[str]) -> None:
        """Ask for settings, run the jobs, tell their objectives, until there are `n_trials` jobs."""
        import optuna

        from faig_lab.config.targets import build, check_node
        from faig_lab.errors import UserError

        given = {}  # the value of each setting, or the distribution that its value is chosen from
        for override in self.parsed(arguments):
            present = OmegaConf.select(self.cfg, (key := override.get_key_element()).lstrip("+~"))
            given[key] = _choices(override, whole=isinstance(present, int) and not isinstance(present, bool))
        space = {name: value for name, value in given.items() if not isinstance(value, str)}
        if not space:
            raise UserError("hydra/sweeper: optuna needs settings to choose, e.g. attribution=faig,ig")
        node = cast("dict[str, Any]", OmegaConf.to_container(self.sampler))
        check_node(node, "hydra.sweeper.sampler")
        study = optuna.create_study(sampler=build(node, "hydra.sweeper.sampler"), direction=self.direction)
        before = self._before(space) if self.resume else {}
        trials: dict[tuple[str, ...], int] = {}
        repeats = 0
        for number, params in before.items():
            study.enqueue_trial(params)  # the next trial has these values
            trial = study.ask(space)
            trials[settings := _overrides(given, trial.params)] = number
            self._run(study, {number: (trial, settings)})
        for params in _grid(space, self.n_trials):
            if _overrides(given, params) not in trials:
                study.enqueue_trial(params)
        while len(trials) < self.n_trials and repeats < _REPEATS * self.n_trials:
            batch: dict[int, tuple[Trial, tuple[str, ...]]] = {}
            while len(batch) < min(self.n_jobs, self.n_trials - len(trials)) and repeats < _REPEATS * self.n_trials:
                trial = study.ask(space)
                settings = _overrides(given, trial.params)
                if settings in trials:
                    repeats += 1
                    self._tell(study, trial, trials[settings])
                    continue
                number = next(n for n in range(self.n_trials + len(before)) if n not in trials.values())
                trials[settings] = number
                batch[number] = trial, settings
            self._run(study, batch)

    def _run(self, study: "Study", batch: "Mapping[int, tuple[Trial, tuple[str, ...]]]") -> None:
        """Run jobs and tell their objectives."""
        self.launch({number: settings for number, (_, settings) in batch.items()})
        for number, (trial, _) in batch.items():
            self._tell(study, trial, number)

    def _tell(self, study: "Study", trial: "Trial", number: int) -> None:
        """Tell the objective of a job. A job without an objective has failed, as far as Optuna is concerned."""
        from optuna.trial import TrialState

        value = self.objective_of(number)
        known = value is not None and math.isfinite(value)
        study.tell(trial, value if known else None, state=TrialState.COMPLETE if known else TrialState.FAIL)

    def _before(self, space: "Mapping[str, BaseDistribution]") -> dict[int, dict[str, Any]]:
        """Return the settings of the jobs that an earlier start of this sweep has left, by number."""
        files = self.folder.glob("*/.hydra/overrides.yaml")
        jobs = {int(name): _chosen(file, space) for file in files if (name := file.parents[1].name).isdecimal()}
        return dict(sorted(jobs.items()))


def _choices(override: Override, *, whole: bool) -> "str | BaseDistribution":
    """Return the value of a setting, or the distribution of a setting with several values.

    Args:
        override: a setting of the command line.
        whole: whether the setting is a whole number. Hydra reads the ends of an interval as floats.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not override.is_sweep_override():
        return override.get_value_element_as_str()
    if override.is_discrete_sweep():
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    interval = override.value()
    low, high, log = float(interval.start), float(interval.end), "log" in interval.tags  # type: ignore  # Hydra types no value of a sweep
    if whole and low.is_integer() and high.is_integer():
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(low, high, log=log)


def _grid(space: "Mapping[str, BaseDistribution]", most: int) -> list[dict[str, Any]]:
    """Return every combination of the settings; none if there are more than `most`."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    values = []
    for distribution in space.values():
        if isinstance(distribution, CategoricalDistribution):
            values.append(distribution.choices)
        elif isinstance(distribution, IntDistribution):
            values.append(tuple(range(distribution.low, min(distribution.high, distribution.low + most) + 1)))
        else:
            return []
    combinations = list(islice(product(*values), most + 1))
    return [dict(zip(space, chosen, strict=True)) for chosen in combinations] if len(combinations) <= most else []


def _overrides(given: "Mapping[str, str | BaseDistribution]", params: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name}={params.get(name, value)}" for name, value in given.items())


def _chosen(file: Path, space: "Mapping[str, BaseDistribution]") -> dict[str, Any]:
    """Read the chosen values of a job. Only values that the sweep itself may choose are taken from the file.

    Raises:
        UserError: the job belongs to another sweep.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    from faig_lab.errors import UserError

    try:
        typed = dict(str(setting).split("=", 1) for setting in yaml.safe_load(file.read_text(encoding="utf-8")))
        chosen = {}
        for name, distribution in space.items():
            if isinstance(distribution, CategoricalDistribution):
                chosen[name] = distribution.choices[distribution.choices.index(typed[name])]
            else:
                assert isinstance(distribution, IntDistribution | FloatDistribution)  # of `_choices`
                number = int(typed[name]) if isinstance(distribution, IntDistribution) else float(typed[name])
                if not distribution.low <= number <= distribution.high:
                    raise ValueError(f"{name}={number}")
                chosen[name] = number
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"sweep: {file} is not of a job of this sweep ({error}); choose another folder") from error
    return chosen
