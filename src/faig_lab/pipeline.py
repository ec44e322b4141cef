"""One run on one page: data → baseline → target (+ attribution) → analysis → report."""

import logging
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from faig_lab.analysis import (
    Judge,
    distribution,
    examples,
    headline_metrics,
    masked_networks,
    masking,
    restoration,
    specificity,
)
from faig_lab.attribution import (
    Attribution,
    AttributionCallback,
    Problem,
    attribute,
    quadrature,
    save_attribution,
)
from faig_lab.build import (
    PRECISIONS,
    cast,
    compute_device,
    determinants,
    make,
    make_degradation,
    make_loop,
    make_methods,
    make_module,
    make_network,
)
from faig_lab.config import Settings, check
from faig_lab.data import PatchDataset, StudyData
from faig_lab.networks import load_weights, save_weights
from faig_lab.progress import progress_bar
from faig_lab.provenance import describe_scores, describe_weights
from faig_lab.reporting.examples import picture_grids
from faig_lab.reporting.figures import write_figures
from faig_lab.reporting.report import write_report
from faig_lab.reporting.summary import summary
from faig_lab.reporting.tables import write_table
from faig_lab.reporting.wandb_run import WandbRecord
from faig_lab.run_folder import RunFolder, open_run
from faig_lab.training import Trained, fit, open_entry

log = logging.getLogger(__name__)

State = Mapping[str, Tensor]


def run(cfg: DictConfig, folder: Path) -> None:
    """Run one study and leave everything about it in `folder`.

    Args:
        cfg: the composed configuration.
        folder: the run folder.

    Raises:
        UserError: the configuration or a file cannot be worked with.
    """
    settings = check(cfg)
    with (
        open_run(folder, OmegaConf.to_yaml(cfg, resolve=True)) as run_folder,
        WandbRecord.start(settings.logger, settings.model_dump(), folder, folder.name) as record,
    ):
        study = Study(settings, run_folder, record)
        study.load_data()
        baseline = study.baseline()
        target, attribution = study.target(baseline)
        study.analyse(baseline, target, attribution)
        study.report()
    print(summary(folder, record))


class Study:
    """The stages of one run; each reads what the one before it left.

    Args:
        settings: checked settings.
        run: the run folder.
        record: the W&B record.
    """

    def __init__(self, settings: Settings, run: RunFolder, record: WandbRecord) -> None:
        self.settings, self.run, self.record = settings, run, record
        self.degradation = make_degradation(settings)
        self.data: StudyData
        self.given: dict[str, Trained] = {}

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
            self.data = make(self.settings.data).load(self.degradation, self.settings.seed)
            log.info(
                "data: %d training photographs, %d probe and %d held-out images",
                len(self.data.train),
                len(self.data.probe),
                len(self.data.held_out),
            )

    def baseline(self) -> dict[str, Tensor]:
        """The baseline: read, found in the store, or trained."""
        with self.run.stage("baseline"):
            return self._obtain("baseline", start=None)

    def target(self, baseline: State) -> tuple[dict[str, Tensor], Attribution]:
        """The target and its attribution: by the callback right after `fit`, or on weights that exist."""
        callback = AttributionCallback(lambda target: self._attribute(baseline, target))
        with self.run.stage("target"):
            target = self._obtain("target", baseline, callback)
        attribution = callback.result or self._attribute(baseline, target)
        return target, attribution

    def analyse(self, baseline: State, target: State, attribution: Attribution) -> None:
        """Mask, judge on held-out images, and write the tables and figures' pictures."""
        settings = self.settings
        with self.run.stage("analysis"):
            device = compute_device(settings)
            bounds = [{n: v.to(device) for n, v in state.items()} for state in (baseline, target)]
            _, autocast = PRECISIONS[settings.analysis.precision]
            network, scale = make_network(settings), self.degradation.scale
            judge = Judge(network, bounds[0], bounds[1], self.data.held_out, scale, autocast)
            percents = settings.analysis.percents
            with progress_bar("masking", masked_networks(attribution, percents)) as advance:
                masked = masking(judge, attribution, percents, advance)
            tables = {
                "restoration": restoration(judge),
                "masking": masked,
                "specificity": specificity(masked),
                "distribution": distribution(attribution, percents),
                "completeness": attribution.integral.rows(),
            }
            for name, rows in tables.items():
                write_table(self.run.path / "tables" / f"{name}.csv", rows)
            self.run.add_metrics(headline_metrics(tables, attribution.integral))
            shown = sorted({0, len(judge.images) // 2})
            percent = settings.analysis.headline_percent
            self.pictures = picture_grids(
                examples(judge, attribution, settings.attribution.name, percent, shown), percent
            )

    def report(self) -> None:
        """Draw the figures, write the report, mirror everything to W&B."""
        with self.run.stage("report"):
            write_figures(self.run.path, self.pictures)
            write_report(self.run.path)
        self.record.log_metrics(self.run.metrics)
        self.record.log_tables(self.run.path)
        self.record.log_figures(self.run.path)

    def _obtain(self, name: str, start: State | None, *callbacks: AttributionCallback) -> dict[str, Tensor]:
        """A network by name, with its weights and training record in the run folder."""
        trained = self.given.get(name) or self._train_once(name, start, *callbacks)
        if trained.history:
            write_table(self.run.path / "tables" / f"training_{name}.csv", trained.history)
        save_weights(
            self.run.path / "weights" / f"{name}.pt",
            trained.state,
            describe_weights(self.settings, name, trained),
        )
        return trained.state

    def _train_once(self, name: str, start: State | None, *callbacks: AttributionCallback) -> Trained:
        """Train the network, unless the store has it."""
        settings = self.settings
        needs = determinants(settings, name, self.data, start)
        with open_entry(Path(settings.store), f"{type(make_network(settings)).__name__}-{name}", needs) as entry:
            if entry.exists:
                log.info("%s: already trained, %s", name, entry.folder)
                trained = entry.load(make_network(settings))
                for row in trained.history:
                    self.record.log_training(f"training/{name}", row)
                return trained
            patch_size = settings.training.patch_size
            patches = PatchDataset(self.data.train, patch_size, self.degradation.margin, settings.seed, name)
            module = make_module(settings, name, self.degradation, start)
            return fit(
                module,
                patches,
                self.data.probe,
                make_loop(settings),
                publish=lambda trained: entry.publish(
                    trained, describe_weights(settings, name, trained) | {"determinants": needs}
                ),
                callbacks=callbacks,
                on_row=lambda row: self.record.log_training(f"training/{name}", row),
            )

    def _attribute(self, baseline: State, target: State) -> Attribution:
        """Score the filters and write the scores."""
        settings = self.settings.attribution
        with self.run.stage("attribution"):
            total = len(self.data.probe) * len(self.data.degradations)
            with progress_bar("attribution", total) as advance:
                problem = Problem(
                    make_network(self.settings),
                    cast(baseline, self.settings),
                    cast(target, self.settings),
                    self.data.probe,
                    self.data.degradations,
                    quadrature(settings.rule, settings.points),
                    self.settings.seed,
                    PRECISIONS[settings.precision][1],
                    advance,
                )
                result = attribute(problem, make_methods(self.settings))
            provenance = describe_scores(self.settings, self.data, result)
            save_attribution(result, settings.name, self.run.path / "attribution", provenance)
        return result
