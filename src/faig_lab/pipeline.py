"""One run on one page: data → baseline → target (+ attribution) → analyses → report.

Lightning, Matplotlib and the page's templates are imported where they are needed: until the attribution starts, a run
whose networks are in the store does without.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from faig_lab import ranks
from faig_lab.analysis import Subject, examples, images_to_show, restoration, restoration_metrics
from faig_lab.analysis.kept import kept
from faig_lab.attribution import (
    STRAIGHT,
    Attribution,
    PathSpec,
    Problem,
    ResultCache,
    Shard,
    attribute,
    check_different,
    full_precision,
    profile,
    save_attribution,
    share_metrics,
    share_rows,
    train_middle,
)
from faig_lab.build import (
    PRECISIONS,
    alone,
    check_selection,
    gpu_of,
    make,
    make_analyses,
    make_degradation,
    make_layout,
    make_methods,
    make_network,
    make_path,
    make_planted_sets,
    make_problem,
    make_retraining,
)
from faig_lab.config import Settings, check
from faig_lab.config.keys import ATTRIBUTION, in_keys, with_keys
from faig_lab.config.rules import check_path
from faig_lab.data import StudyData
from faig_lab.files import file_name
from faig_lab.machine import explained
from faig_lab.networks import State, load_weights, save_weights, write_states
from faig_lab.reporting.tables import write_table
from faig_lab.reporting.wandb_run import WandbRecord
from faig_lab.runs.folder import RunFolder, open_run
from faig_lab.steps.existing import reopen
from faig_lab.steps.export import export
from faig_lab.steps.feasible import check_compiler, check_memory, check_network, check_sizes
from faig_lab.steps.given import check_restores
from faig_lab.steps.kept import kept_results
from faig_lab.steps.planted import check_planted, save_planted
from faig_lab.steps.progress import progress_bar
from faig_lab.steps.provenance import describe_scores, describe_weights
from faig_lab.steps.trained import make_rivals, train_once
from faig_lab.training import Trained

log = logging.getLogger(__name__)

Scoring = Callable[[State], Attribution]


@full_precision()
@with_keys(ATTRIBUTION)
def run(cfg: DictConfig, folder: Path) -> None:
    """Run what `task` says: a whole study in `folder`, or further analyses or an export of the finished run `run`.

    float32 is float32 throughout, on GPUs too: in training, attribution and judging.

    Args:
        cfg: the composed configuration.
        folder: the run folder of a new study.

    Raises:
        UserError: the configuration or a file cannot be worked with.
    """
    settings = check(cfg)
    if settings.task == "analyse":
        analyse(settings)
    elif settings.task == "export":
        print(export(settings))
    else:
        study(settings, folder, OmegaConf.to_yaml(cfg, resolve=True))


def study(settings: Settings, folder: Path, config: str) -> None:
    """Run one study and leave everything about it in `folder`; `config` is the configuration as YAML."""
    check_selection(settings)
    check_path(settings)
    if ranks.rank() > 0:
        _take_part(settings)
        return
    with (
        open_run(folder, config) as run_folder,
        WandbRecord.start(settings.logger, settings.model_dump(), folder, folder.name, run_folder.goes_on) as record,
        explained(settings.model_dump(), folder, lambda: run_folder.current_stage),
        with_keys(ATTRIBUTION),
    ):
        stages = Study(settings, run_folder, record)
        with ranks.group(gpu_of(settings, ranks.local_rank())):
            stages.load_data()
            ranks.barrier()
            baseline = stages.baseline()
            target, attribution = stages.target(baseline)
        stages.settings = alone(settings)
        stages.judge(baseline, target, attribution)
        stages.report()
        stages.kept.discard()
    _sum_up(folder, record)


def _take_part(settings: Settings) -> None:
    """What a process does whose rank is not the first: its share of training and attribution; it leaves no file."""
    with TemporaryDirectory() as folder, ranks.group(gpu_of(settings, ranks.local_rank())):
        stages = Study(settings, RunFolder(Path(folder)), WandbRecord(None))
        ranks.barrier()  # the first one has prepared the data by now
        stages.load_data()
        stages.target(stages.baseline())


def analyse(settings: Settings) -> None:
    """Run the analyses of `settings` that the finished run `settings.run` does not have; nothing is trained."""
    with (
        reopen(settings) as existing,
        WandbRecord.start(settings.logger, existing.settings.model_dump(), existing.run.path, existing.name) as record,
        explained(existing.settings.model_dump(), existing.run.path, lambda: existing.run.current_stage),
        with_keys(ATTRIBUTION),
    ):
        stages = Study(alone(existing.settings), existing.run, record)
        stages.load_data()
        baseline, target = stages.baseline(), stages.given["target"].state
        path = make_path(existing.settings, existing.path_states())
        stages.problem = make_problem(existing.settings, stages.data, baseline, target, path=path)
        stages.kept = kept_results(existing.settings, stages.data, baseline, target)
        stages.judge(baseline, target, existing.attribution(stages.problem), only=existing.wanted)
        stages.report()
        stages.kept.discard()
    _sum_up(existing.run.path, record)


def _sum_up(folder: Path, record: WandbRecord) -> None:
    from faig_lab.reporting.summary import summary

    print(summary(folder, record))


class Study:
    """The stages of one run; each reads what the one before it left.

    Args:
        settings: checked settings.
        run: the run folder.
        record: the W&B record.
    """

    problem: Problem
    data: StudyData
    kept: ResultCache

    def __init__(self, settings: Settings, run: RunFolder, record: WandbRecord) -> None:
        self.settings, self.run, self.record = settings, run, record
        self.degradation = make_degradation(settings)
        self.given: dict[str, Trained] = {}
        self.trajectory: tuple[State, ...] = ()

    def load_data(self) -> None:
        """Read every file that the run needs, before anything starts; degrade probe and held-out."""
        with self.run.stage("data"):
            for name in ("baseline", "target"):
                weights = getattr(self.settings, name).weights
                if weights is not None:
                    path = Path(weights).expanduser()
                    state = load_weights(path, make_network(self.settings), key=f"{name}.weights")
                    self.given[name] = Trained(state, [])
                    log.info("%s: weights from %s", name, path)
            check_planted(self.settings)
            self.data = make(self.settings.data).load(self.degradation, self.settings.seed)
            log.info(
                "data: %d training photographs, %d probe and %d held-out images",
                len(self.data.train),
                len(self.data.probe),
                len(self.data.held_out),
            )
            check_sizes(self.data)
            self._check_given()
            check_compiler(self.settings)
            check_network(self.settings, self.data)
            for name, given in self.given.items():
                weights = f"{name}.weights: {getattr(self.settings, name).weights}"
                check_restores(make_network(self.settings), given.state, self.data.probe[0], weights)
            check_memory(self.settings, self.data)

    def _check_given(self) -> None:
        """Given networks must differ."""
        if {"baseline", "target"} <= self.given.keys():
            states = self.given["baseline"].state, self.given["target"].state
            with with_keys({"target": "target.weights"}):
                check_different(*states, make_layout(self.settings))

    def baseline(self) -> dict[str, Tensor]:
        """The baseline: read, found in the store, or trained."""
        with self.run.stage("baseline"):
            return self._obtain("baseline", start=None)

    def target(self, baseline: State) -> tuple[dict[str, Tensor], Attribution]:
        """The target and its attribution: by the callback right after `fit`, or on weights that exist."""
        found: list[Attribution] = []

        def attribute_now(target: State) -> Attribution:
            found.append(self._attribute(baseline, target))
            return found[0]

        with self.run.stage("target"):
            # The trajectory is known when the training has ended, so it cannot be attributed by the callback.
            now = attribute_now if self.settings.attribution.path != "trajectory" else None
            target = self._obtain("target", baseline, now)
        return target, found[0] if found else self._attribute(baseline, target)

    def judge(
        self, baseline: State, target: State, attribution: Attribution, only: tuple[str, ...] | None = None
    ) -> None:
        """Run the analyses (all, or `only` some) on held-out images; each leaves its tables when it is done."""
        from faig_lab.reporting.figures import write_strips
        from faig_lab.reporting.pictures import picture_grids

        settings = self.settings.analysis
        subject = Subject(
            self.problem,
            make_methods(self.settings),
            attribution,
            self.settings.attribution.name,
            self.data,
            self.degradation,
            tuple(settings.percents),
            settings.headline_percent,
            PRECISIONS[settings.precision][1],
            progress_bar,
            make_retraining(self.settings, self.data, self.degradation),
            make_rivals(self.settings, self.data, self.degradation),
            make_planted_sets(self.settings),
        )
        with self.run.stage("analysis"):
            rows = restoration(subject.judge)
            write_table(self.run.path / "tables" / "restoration.csv", rows)
            self.run.add_metrics(restoration_metrics(rows))
            for name, analysis in make_analyses(self.settings).items():
                if only is not None and name not in only:
                    continue
                with self.run.stage(f"analysis/{name}"):
                    findings = kept(self.kept, f"analysis-{name}", partial(analysis, subject))
                for table, found in findings.tables.items():
                    write_table(self.run.path / "tables" / f"{file_name(table, name)}.csv", found)
                self.run.add_metrics(findings.metrics)
                write_strips(self.run.path, name, findings.examples)
            percent = subject.headline
            pictures = examples(subject.judge, attribution, subject.method, percent, images_to_show(self.data.held_out))
            self.pictures = picture_grids(pictures, percent)

    def report(self) -> None:
        """Draw the figures, write the report, mirror everything to W&B."""
        from faig_lab.reporting.figures import write_figures
        from faig_lab.reporting.report import write_report

        with self.run.stage("report"):
            write_figures(self.run.path, self.pictures)
            write_report(self.run.path)
        self.record.log_metrics(self.run.metrics)
        self.record.log_tables(self.run.path)
        self.record.log_figures(self.run.path)
        self.record.log_artifacts(self.run.path, self.settings.name)

    def _obtain(self, name: str, start: State | None, then: Scoring | None = None) -> dict[str, Tensor]:
        """A network by name, with its weights and training record in the run folder."""
        trained = self.given.get(name) or self._train_once(name, start, then)
        self.trajectory = trained.trajectory
        if trained.history:
            write_table(self.run.path / "tables" / f"training_{name}.csv", trained.history)
        weights = self.run.path / "weights" / f"{name}.pt"
        if not self._is_own(name, weights):
            save_weights(weights, trained.state, describe_weights(self.settings, name, trained))
        return trained.state

    def _is_own(self, name: str, weights: Path) -> bool:
        """Whether the given weights are the run's own file, whose description is to stay."""
        given = getattr(self.settings, name).weights
        return given is not None and weights.is_file() and Path(given).expanduser().samefile(weights)

    def _train_once(self, name: str, start: State | None, then: Scoring | None) -> Trained:
        """Train the network, unless the store has it; W&B shows the curve either way."""
        show = partial(self.record.log_training, f"training/{name}")
        return train_once(self.settings, name, self.data, self.degradation, start, then, show)

    def _attribute(self, baseline: State, target: State) -> Attribution:
        """Score the filters; write scores, provenance and the completeness of the integral."""
        with self.run.stage("attribution"):
            total = len(self.data.probe) * len(self.data.degradations)
            path = self._path(baseline, target)
            with progress_bar("attribution", total) as advance:
                self.kept = kept_results(self.settings, self.data, baseline, target)
                parts = self.kept, Shard.of_group()
                shared = make_problem(self.settings, self.data, baseline, target, advance, path, *parts)
                integral = shared.integral  # before the methods, so that its faults are found whatever they are
                result = attribute(shared, make_methods(self.settings))
                self.problem = shared.alone()  # what follows is the work of this process
            if self.kept.recalled:
                log.info("attribution: %d of its integrals were there already", self.kept.recalled)
            for line in result.warnings:
                self.run.warn(in_keys(line, ATTRIBUTION))
            provenance = describe_scores(self.settings, self.data, integral, self.problem.costs)
            save_planted(self.settings, self.run.path / "attribution")
            save_attribution(result, self.settings.attribution.name, self.run.path / "attribution", provenance)
            write_table(self.run.path / "tables" / "completeness.csv", integral.rows())
            shares = share_rows(integral, result.layout)
            write_table(self.run.path / "tables" / "shares.csv", shares)
            gaps = {f"completeness_gap/{name}": integral.gap(name) for name in integral.degradations}
            self.run.add_metrics(gaps | share_metrics(shares))
            self._write_profile()
        self.run.add_metrics({f"seconds/attribution/{what}": c.seconds for what, c in self.problem.costs.items()})
        return result

    def _path(self, baseline: State, target: State) -> PathSpec:
        """The path of the attribution; what bends the path is kept in the run folder."""
        kind = self.settings.attribution.path
        inner: tuple[State, ...] = self.trajectory
        if kind == "straight":
            return STRAIGHT
        if kind == "curve":
            steps = self.settings.attribution.curve_steps
            with progress_bar("curve", steps) as advance:
                line = make_problem(self.settings, self.data, baseline, target)
                inner = (train_middle(line, steps, advance),)
        write_states(self.run.path / "attribution" / "path.pt", inner)
        return make_path(self.settings, inner)

    def _write_profile(self) -> None:
        """Write the PSNR along the path, its barriers, and a warning where a barrier is high."""
        found = profile(self.problem)
        write_table(self.run.path / "tables" / "path.csv", found.rows())
        self.run.add_metrics({f"barrier/{name}": value for name, value in found.barriers.items()})
        for line in found.warnings():
            self.run.warn(in_keys(line, ATTRIBUTION))
