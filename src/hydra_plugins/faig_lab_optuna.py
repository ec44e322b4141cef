"""`hydra/sweeper=optuna`: Optuna chooses the settings of each job from the objectives of the jobs before.

Hydra's own plugin for Optuna requires optuna 2, which does not run with today's SQLAlchemy. So this sweeper asks optuna
itself. Optuna is imported only by a sweep that uses it, since Hydra imports this module at every start.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins import faig_lab_sweeper  # the module, since Hydra loads it a second time

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

_REPEATS = 20
"""Suggestions that repeat earlier jobs, for each job, after which the sweep ends: the sampler has found its optimum."""


class FaigLabOptunaSweeper(faig_lab_sweeper.FaigLabSweeper):
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
        direction: str,
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

    def run_jobs(self, arguments: list[str]) -> None:
        """Ask for settings, run the jobs, tell their objectives, until there are `n_trials` jobs."""
        import optuna

        from faig_lab.config.targets import build, check_node
        from faig_lab.errors import UserError

        assert self.config is not None
        assert isinstance(self.launcher, faig_lab_sweeper.Numbered)
        given = self._settings(arguments)
        space = {name: value for name, value in given.items() if not isinstance(value, str)}
        if not space:
            raise UserError("hydra/sweeper: optuna needs settings to choose, e.g. attribution=faig,ig")
        node = OmegaConf.to_container(self.sampler)
        assert isinstance(node, dict)
        check_node(node, "hydra.sweeper.sampler")
        sampler = build(node, "hydra.sweeper.sampler")
        study = optuna.create_study(sampler=sampler, direction=self.direction)
        self.launcher.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, self.launcher.folder / "multirun.yaml")
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

    def _settings(self, arguments: Sequence[str]) -> "dict[str, str | BaseDistribution]":
        """Return the value of each setting, or the distribution that its value is chosen from."""
        assert self.config is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        keys = [override.get_key_element() for override in overrides]
        present = [OmegaConf.select(self.config, key.lstrip("+~")) for key in keys]
        return {
            key: _choices(override, whole=isinstance(value, int) and not isinstance(value, bool))
            for key, override, value in zip(keys, overrides, present, strict=True)
        }

    def _run(self, study: "Study", batch: "Mapping[int, tuple[Trial, tuple[str, ...]]]") -> None:
        """Run jobs and tell their objectives."""
        assert isinstance(self.launcher, faig_lab_sweeper.Numbered)
        self.validate_batch_is_legal([list(settings) for _, settings in batch.values()])
        self.launcher.launch_numbered({number: settings for number, (_, settings) in batch.items()})
        for number, (trial, _) in batch.items():
            self._tell(study, trial, number)

    def _tell(self, study: "Study", trial: "Trial", number: int) -> None:
        """Tell the objective of a job. A job without an objective has failed, as far as Optuna is concerned."""
        from optuna.trial import TrialState

        from faig_lab.config.objective import DEFAULT

        assert self.config is not None
        assert isinstance(self.launcher, faig_lab_sweeper.Numbered)
        value = self.launcher.objectives(str(self.config.objective or DEFAULT))[number]
        known = value is not None and math.isfinite(value)
        study.tell(trial, value if known else None, state=TrialState.COMPLETE if known else TrialState.FAIL)

    def _before(self, space: "Mapping[str, BaseDistribution]") -> dict[int, dict[str, Any]]:
        """Return the settings of the jobs that an earlier start of this sweep has left, by number."""
        assert isinstance(self.launcher, faig_lab_sweeper.Numbered)
        jobs = {}
        for file in self.launcher.folder.glob("*/.hydra/overrides.yaml"):
            if file.parents[1].name.isdecimal():
                jobs[int(file.parents[1].name)] = _chosen(file, space)
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
    from optuna.distributions import CategoricalDistribution, IntDistribution

    from faig_lab.errors import UserError

    try:
        typed = dict(str(setting).split("=", 1) for setting in yaml.safe_load(file.read_text(encoding="utf-8")))
        chosen = {}
        for name, distribution in space.items():
            if isinstance(distribution, CategoricalDistribution):
                chosen[name] = distribution.choices[distribution.choices.index(typed[name])]
            else:
                number = int(typed[name]) if isinstance(distribution, IntDistribution) else float(typed[name])
                if not distribution.low <= number <= distribution.high:
                    raise ValueError(f"{name}={number}")
                chosen[name] = number
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"sweep: {file} is not of a job of this sweep ({error}); choose another folder") from error
    return chosen
