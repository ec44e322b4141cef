"""One run on one page: load → train → attribute → evaluate → report.

Lightning, Matplotlib and the page's templates are imported where they are needed: until the attribution starts, a run
whose networks are in the store does without.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

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
    load_attribution,
    profile,
    save_attribution,
    share_metrics,
    share_rows,
    train_middle,
)
from faig_lab.attribution.compute import PRECISIONS
from faig_lab.cli.build import (
    alone,
    check_selection,
    gpu_of,
    load_data,
    make_analyses,
    make_degradation,
    make_layout,
    make_methods,
    make_network,
    make_path,
    make_planted_sets,
    make_problem,
)
from faig_lab.cli.console import explained, progress_bar
from faig_lab.cli.existing import export, logger_settings, reopen
from faig_lab.cli.preflight import (
    check_compiler,
    check_memory,
    check_network,
    check_planted,
    check_precision,
    check_restores,
    check_sizes,
    forecast,
    save_planted,
)
from faig_lab.cli.provenance import describe, describe_scores, describe_weights, kept_results, origin
from faig_lab.cli.trained import forget_choices, make_network_trainer, make_retraining, train_once
from faig_lab.config import Settings, check
from faig_lab.config.messages import ATTRIBUTION, in_keys, with_keys
from faig_lab.config.rules import check_path
from faig_lab.data import Degradation, StudyData
from faig_lab.errors import UserError
from faig_lab.evaluation.evaluator import examples, images_to_show
from faig_lab.evaluation.masking import restoration, restoration_metrics
from faig_lab.files import file_name, weights_file
from faig_lab.filters import State, load_weights, read_states, save_weights, write_states
from faig_lab.report.records import Records
from faig_lab.runs import processes
from faig_lab.runs.folder import RunFolder, open_run
from faig_lab.studies.context import StudyContext, kept
from faig_lab.training import Trained

if TYPE_CHECKING:
    from faig_lab.plotting.pictures import Pictures

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """The inputs of a run.

    Attributes:
        data: photographs to train on, probe, held-out images.
        degradation: the way from HR to LR.
        given: "baseline", "target" → weights from the user's file.
    """

    data: StudyData
    degradation: Degradation
    given: dict[str, Trained]


@dataclass(frozen=True)
class Attributed:
    """Two networks with the scores of their filters.

    Attributes:
        problem: what was attributed.
        attribution: the scores of every method.
        cache: results that are kept until the run is done.
    """

    problem: Problem
    attribution: Attribution
    cache: ResultCache


@full_precision()
@with_keys(ATTRIBUTION)
def run(cfg: DictConfig, folder: Path) -> None:
    """Run the task: a whole study in `folder`, or further studies or an export of the finished run `run`.

    float32 means full float32 in training, attribution and evaluation, on GPUs too.

    Args:
        cfg: the composed configuration.
        folder: the run folder of a new study.

    Raises:
        UserError: the configuration or a file cannot be worked with.
    """
    settings = check(cfg)
    forget_choices()
    if settings.task == "analyse":
        analyse(settings)
    elif settings.task == "export":
        print(export(settings))
    else:
        study(settings, folder, OmegaConf.to_yaml(cfg, resolve=True))


def study(settings: Settings, path: Path, config: str) -> None:
    """Run one study from the data to the report.

    Args:
        settings: checked settings.
        path: the run folder.
        config: the configuration as YAML.
    """
    check_selection(settings)
    check_path(settings)
    if processes.rank() > 0:
        _take_part(settings)
        return
    with (
        open_run(path, config) as folder,
        _records(settings, folder) as record,
        explained(settings.model_dump(), path, lambda: folder.current_stage),
        with_keys(ATTRIBUTION),
    ):
        with processes.group(gpu_of(settings, processes.local_rank())):
            inputs = load(settings, folder)
            if processes.world() == 1:
                announce(settings, inputs, folder)
            processes.barrier()
            attributed = train_and_attribute(settings, inputs, folder, record)
        # From here on this process is alone.
        settings = alone(settings)
        pictures = evaluate(settings, inputs, attributed, folder)
        report(settings, folder, record, pictures)
        attributed.cache.discard()
    from faig_lab.report.texts import summary

    print(summary(path, record))


def _records(settings: Settings, folder: RunFolder) -> Records:
    if "command" not in folder.status:  # a resumed run keeps its first command
        folder.update(**origin())
    return Records.start(settings.logger, describe(settings, folder), folder.path, goes_on=folder.goes_on)


def _take_part(settings: Settings) -> None:
    """Compute the share of a further process in training and attribution. The process leaves no file."""
    with TemporaryDirectory() as path, processes.group(gpu_of(settings, processes.local_rank())):
        folder = RunFolder(Path(path)).start()
        processes.barrier()  # the first process has prepared the data by now
        train_and_attribute(settings, load(settings, folder), folder, Records())


def analyse(settings: Settings) -> None:
    """Run the studies of `settings` that the finished run `settings.run` lacks. No network of the pair is trained."""
    with (
        reopen(settings) as (folder, recorded, wanted),
        Records.start(
            logger_settings(settings.logger, recorded.logger),
            describe(recorded, folder, job="analyse"),
            folder.path,
            goes_on=True,
        ) as record,
        explained(recorded.model_dump(), folder.path, lambda: folder.current_stage),
        with_keys(ATTRIBUTION),
    ):
        own = alone(recorded)
        inputs = load(own, folder)
        attributed = _attributed(recorded, folder, inputs)
        pictures = evaluate(own, inputs, attributed, folder, only=wanted)
        report(own, folder, record, pictures)
        attributed.cache.discard()
    from faig_lab.report.texts import added, summary

    print(summary(folder.path, record))
    print(added(folder.path, wanted))


def _attributed(settings: Settings, folder: RunFolder, inputs: Inputs) -> Attributed:
    """Read the scores of a finished run, and the inner states of its path, from its files."""
    data, place = inputs.data, folder.path / "attribution"
    baseline, target = (inputs.given[name].state for name in ("baseline", "target"))
    inner = () if settings.attribution.path == "straight" else read_states(place / "path.pt", "run")
    problem = make_problem(settings, data, baseline, target, path=make_path(settings, inner))
    scores = load_attribution(place, settings.attribution.name, problem.degradations, problem.layout)
    return Attributed(problem, scores, kept_results(settings, data, baseline, target))


def load(settings: Settings, folder: RunFolder) -> Inputs:
    """Read every file that the run needs, degrade probe and held-out images, and check for later errors.

    Raises:
        UserError: a file, the network or the machine cannot be worked with.
    """
    with folder.stage("data"):
        given = _given(settings)
        check_planted(settings)
        degradation = make_degradation(settings)
        data = load_data(settings, degradation)
        log.info(
            "data: %d training photographs, %d probe and %d held-out images",
            len(data.train),
            len(data.probe),
            len(data.held_out),
        )
        check_sizes(data)
        if {"baseline", "target"} <= given.keys():
            with with_keys({"target": "target.weights"}):
                check_different(given["baseline"].state, given["target"].state, make_layout(settings))
        check_compiler(settings)
        check_precision(settings)
        check_network(settings, data)
        for name, trained in given.items():
            weights = f"{name}.weights: {getattr(settings, name).weights}"
            check_restores(make_network(settings), trained.state, data.probe[0], weights)
        check_memory(settings, data)
    return Inputs(data, degradation, given)


def announce(settings: Settings, inputs: Inputs, folder: RunFolder) -> None:
    """Log the plan of the run, its approximate time, its folder, and how to continue the run if it is stopped."""
    with folder.stage("forecast"):
        try:  # inside the stage, which an exception would leave open
            expected = forecast(settings, inputs.data, inputs.degradation, inputs.given)
        # A network may refuse a part of an image. A training that is refused has its error in its own stage.
        except (RuntimeError, ValueError, TypeError, UserError) as error:
            log.debug("no forecast: %s", error)
        else:
            log.info("plan: %s", expected)
            folder.add_metrics({"seconds/expected": expected.seconds})
    log.info("run folder: %s; resume=%s continues the run if it is stopped", folder.path, folder.path)


def _given(settings: Settings) -> dict[str, Trained]:
    """Read the weights that the settings name."""
    given = {}
    for name in ("baseline", "target"):
        weights = getattr(settings, name).weights
        if weights is not None:
            path = weights_file(weights)
            given[name] = Trained(load_weights(path, make_network(settings), key=f"{name}.weights"), [])
            log.info("%s: weights from %s", name, weights)
    return given


def train_and_attribute(settings: Settings, inputs: Inputs, folder: RunFolder, record: Records) -> Attributed:
    """Train both networks or load them from the store, and score the filters.

    The callback attributes a target right after `fit`. The same function attributes a target that exists already. It
    also attributes a target with `attribution.path=trajectory`, since the trajectory is complete after the training.
    """
    with folder.stage("baseline"):
        baseline = obtain(settings, "baseline", inputs, folder, record).state
    results: list[Attributed] = []

    def attribute_target(target: State) -> Attribution:
        results.append(attribute_networks(settings, inputs, folder, baseline, Trained(dict(target), [])))
        return results[0].attribution

    with folder.stage("target"):
        then = None if settings.attribution.path == "trajectory" else attribute_target
        target = obtain(settings, "target", inputs, folder, record, start=baseline, then=then)
    return results[0] if results else attribute_networks(settings, inputs, folder, baseline, target)


def obtain(
    settings: Settings,
    name: str,
    inputs: Inputs,
    folder: RunFolder,
    record: Records,
    *,
    start: State | None = None,
    then: Callable[[State], Attribution] | None = None,
) -> Trained:
    """Return a network: given, from the store, or trained. Write weights and training record to the run folder.

    Args:
        settings: the settings of the run.
        name: "baseline" or "target".
        inputs: data, degradation and given weights.
        folder: the run folder.
        record: the records, which show the training curve, also for a network from the store.
        start: the weights that training starts from; None for fresh weights.
        then: a function that attributes the network right after its training.
    """
    trained = inputs.given.get(name)
    if trained is None:
        show = partial(record.log_training, f"training/{name}")
        trained = train_once(settings, name, inputs.data, inputs.degradation, start=start, then=then, on_row=show)
    if trained.history:
        folder.write_table(f"training_{name}", trained.history)
    weights, given = folder.path / "weights" / f"{name}.pt", getattr(settings, name).weights
    # The weights of the run itself keep their description.
    if not (given and weights.is_file() and weights_file(given).samefile(weights)):
        save_weights(weights, trained.state, describe_weights(settings, name, trained))
    return trained


def attribute_networks(
    settings: Settings, inputs: Inputs, folder: RunFolder, baseline: State, target: Trained
) -> Attributed:
    """Score the filters of two networks; write scores, provenance, completeness and the profile of the path."""
    data, state = inputs.data, target.state
    with folder.stage("attribution"):
        path = _path(settings, inputs, folder, baseline, target)
        cache = kept_results(settings, data, baseline, state)
        with progress_bar("attribution", len(data.probe) * len(data.degradations)) as advance:
            shared = make_problem(
                settings, data, baseline, state, progress=advance, path=path, cache=cache, shard=Shard.of_group()
            )
            integral = shared.integral  # before the methods, so that its faults are found with every method
            result = attribute(shared, make_methods(settings))
            problem = shared.alone()  # what follows is the work of this process
        if cache.recalled:
            log.info("attribution: %d integrals were computed before and are used again", cache.recalled)
        barriers = profile(problem)
        for line in (*result.warnings, *barriers.warnings()):
            folder.warn(in_keys(line, ATTRIBUTION))
        provenance = describe_scores(settings, data, integral, problem.costs)
        save_planted(settings, folder.path / "attribution")
        save_attribution(result, settings.attribution.name, folder.path / "attribution", provenance)
        shares = share_rows(integral, result.layout)
        for name, rows in {"completeness": integral.rows(), "shares": shares, "path": barriers.rows()}.items():
            folder.write_table(name, rows)
        gaps = {f"completeness_gap/{name}": integral.gap(name) for name in integral.degradations}
        folder.add_metrics(gaps | share_metrics(shares))
        folder.add_metrics({f"barrier/{name}": value for name, value in barriers.barriers.items()})
    folder.add_metrics({f"seconds/attribution/{what}": cost.seconds for what, cost in problem.costs.items()})
    return Attributed(problem, result, cache)


def _path(settings: Settings, inputs: Inputs, folder: RunFolder, baseline: State, target: Trained) -> PathSpec:
    """Return the path of the attribution. The run folder keeps the inner states of a path that is not straight."""
    inner: tuple[State, ...] = target.trajectory
    if settings.attribution.path == "straight":
        return STRAIGHT
    if settings.attribution.path == "curve":
        steps = settings.attribution.curve_steps
        with progress_bar("curve", steps) as advance:
            line = make_problem(settings, inputs.data, baseline, target.state)
            inner = (train_middle(line, steps, advance),)
    write_states(folder.path / "attribution" / "path.pt", inner)
    return make_path(settings, inner)


def evaluate(
    settings: Settings,
    inputs: Inputs,
    attributed: Attributed,
    folder: RunFolder,
    *,
    only: Collection[str] | None = None,
) -> "Sequence[Pictures]":
    """Run the studies (all, or `only` some) on held-out images. Each study writes its tables at its end.

    Returns:
        Pictures before and after masking, for the report.
    """
    from faig_lab.plotting.pictures import picture_grids
    from faig_lab.report.figures import write_strips

    context = study_context(settings, inputs, attributed)
    with folder.stage("analysis"):
        rows = restoration(context.evaluator)
        folder.write_table("restoration", rows)
        folder.add_metrics(restoration_metrics(rows))
        for name, analysis in make_analyses(settings).items():
            if only is not None and name not in only:
                continue
            keys = {argument: f"analysis.studies.{name}.{argument}" for argument in settings.analysis.studies[name]}
            with folder.stage(f"analysis/{name}"), with_keys(keys):
                result = kept(attributed.cache, f"analysis-{name}", partial(analysis, context))
            for table, table_rows in result.tables.items():
                folder.write_table(file_name(table, name), table_rows)
            folder.add_metrics(result.metrics)
            write_strips(folder.path, name, result.examples)
        # Without the method in the key, so that a sweep over methods has one column.
        place, metrics = f"{context.method}/{context.headline:g}", folder.metrics
        folder.add_metrics({name: metrics.get(f"{name}/{place}") for name in ("isolation", "specificity")})
        shown = images_to_show(inputs.data.held_out)
        evaluator, percent = context.evaluator, context.headline
        pictures = examples(evaluator, attributed.attribution, context.method, percent=percent, positions=shown)
        return picture_grids(pictures, context.headline)


def study_context(settings: Settings, inputs: Inputs, attributed: Attributed) -> StudyContext:
    """Return the context of every study."""
    data, degradation = inputs.data, inputs.degradation
    return StudyContext(
        attributed.problem,
        make_methods(settings),
        attributed.attribution,
        settings.attribution.name,
        data,
        degradation,
        tuple(settings.analysis.percents),
        settings.analysis.headline_percent,
        PRECISIONS[settings.analysis.precision][1],
        progress_bar,
        make_retraining(settings, data, degradation),
        make_network_trainer(settings, data, degradation),
        make_planted_sets(settings),
    )


def report(settings: Settings, folder: RunFolder, record: Records, pictures: "Sequence[Pictures]") -> None:
    """Draw the figures, write the report and copy everything to the records."""
    from faig_lab.report.figures import captions, write_figures
    from faig_lab.report.report import write_report

    with folder.stage("report"):
        write_figures(folder.path, pictures)
        write_report(folder.path)
    finished = RunFolder(folder.path)
    record.log_run(finished, captions(finished))
