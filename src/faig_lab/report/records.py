"""All records of a run beside its own files: W&B, TensorBoard, CSV. A run has none, one or several.

TensorBoard and CSV are Lightning's own loggers. Their records are written again from the run folder when a run
continues or is analysed further. A failure of a record is one warning.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image

from faig_lab.config.settings import LoggerSettings
from faig_lab.report.wandb_run import WandbRecord, training_rows, warn
from faig_lab.runs.folder import RunFolder

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

CSV, TENSORBOARD = "csv", "tensorboard"


@dataclass(frozen=True)
class Description:
    """How a record names and describes a run.

    Attributes:
        experiment: the name of the settings.
        method: the run's own method.
        network: the network with its sizes.
        seed: the seed.
        job: the task.
        config: the settings, the command line and the commit.
        notes: command line, commit and data, Markdown.
    """

    experiment: str
    method: str
    network: str
    seed: int
    job: str
    config: Mapping[str, Any]
    notes: str

    @property
    def title(self) -> str:
        """The name of the W&B run."""
        return f"{self.experiment} {self.method} {self.network} seed {self.seed}"

    @property
    def networks(self) -> str:
        """The beginning of the names of artifacts, which tells the networks of different settings apart."""
        return f"{self.experiment}-{self.network}-seed{self.seed}"


class Records:
    """The records of a run. Use it as a context manager."""

    def __init__(
        self, wandb: WandbRecord | None = None, others: Sequence["LightningRecord"] = (), name: str = ""
    ) -> None:
        self.wandb, self.others, self._name = wandb or WandbRecord(None), others, name

    @classmethod
    def start(cls, settings: LoggerSettings, description: Description, folder: Path, *, goes_on: bool = False) -> Self:
        """Start every record that the settings ask for. Nothing is raised: a failure is a warning.

        Args:
            settings: the `logger` part of the configuration.
            description: names and describes the run.
            folder: the run folder.
            goes_on: whether an earlier record in the folder is continued.
        """
        wandb = WandbRecord.start(
            settings,
            description.config,
            folder,
            name=description.title,
            job=description.job,
            notes=description.notes,
            goes_on=goes_on,
        )
        kinds = [CSV] * settings.csv + [TENSORBOARD] * settings.tensorboard
        others = [LightningRecord.start(kind, description.config, folder) for kind in kinds]
        return cls(wandb, others, description.networks)

    @property
    def folder(self) -> Path | None:
        """The folder of the W&B run; None without one."""
        return self.wandb.folder

    @property
    def url(self) -> str | None:
        """The address of the W&B run's page; None if the run is offline."""
        return self.wandb.url

    @property
    def folders(self) -> Mapping[str, Path]:
        """The folders of the other records: csv, tensorboard."""
        return {record.kind: record.folder for record in self.others if record.folder.is_dir()}

    def log_training(self, prefix: str, row: Mapping[str, float | None]) -> None:
        """Log a row of a training table in every record."""
        for record in self._all():
            record.log_training(prefix, row)

    def log_run(self, run: RunFolder, captions: Mapping[str, str]) -> None:
        """Log everything that a finished run has left in every record.

        Args:
            run: the run folder.
            captions: figure → caption.
        """
        for record in self._all():
            record.log_run(run, captions, self._name)

    def _all(self) -> "list[WandbRecord | LightningRecord]":
        return [self.wandb, *self.others]

    def __enter__(self) -> Self:
        """Return the records."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the records, as failed if the block raised an exception."""
        for record in self._all():
            record.finish(0 if kind is None else 1)


class LightningRecord:
    """The curves, the headline metrics and the settings of a run in a logger of Lightning; in TensorBoard figures too.

    Make a record with `start`, and call `finish` at the end.

    Attributes:
        kind: `csv` or `tensorboard`, which is the name of the folder in the run folder too.
        folder: the folder of the logger's files.
    """

    def __init__(self, kind: str, config: Mapping[str, Any], folder: Path) -> None:
        self.kind, self.folder, self._config = kind, folder / kind, dict(config)
        self._logger: Logger | None = None
        self._logged: set[str] = set()

    @classmethod
    def start(cls, kind: str, config: Mapping[str, Any], folder: Path) -> Self:
        """Start a record in the folder `kind` of a run folder. Files of an earlier record are replaced.

        Args:
            kind: `csv` or `tensorboard`.
            config: the settings, shown as hyper-parameters.
            folder: the run folder.
        """
        record = cls(kind, config, folder)
        try:
            shutil.rmtree(record.folder, ignore_errors=True)
            record._logger = _logger(kind, folder)
        except Exception as error:
            warn(kind, "not recorded", error)
        return record

    def log_training(self, prefix: str, row: Mapping[str, float | None]) -> None:
        """Log a row of a training table under `prefix` (`training/baseline`). The axis is `step`."""
        self._logged.add(prefix)
        numbers = {f"{prefix}/{key}": value for key, value in row.items() if value is not None and key != "step"}
        step = int(row.get("step") or 0)
        self._try(lambda logger: logger.log_metrics(numbers, step))

    def log_run(self, run: RunFolder, captions: Mapping[str, str], name: str) -> None:
        """Log the curves that are not logged yet, the settings with the headline metrics, and figures for TensorBoard.

        Args:
            run: the run folder.
            captions: figure → caption.
            name: not used.
        """
        for network in ("baseline", "target"):
            prefix = f"training/{network}"
            if prefix not in self._logged:
                for row in training_rows(run.path, network):
                    self.log_training(prefix, row)
        self._try(lambda logger: self._log_settings(logger, headline(run)))
        if self.kind == TENSORBOARD:
            self._try(lambda logger: _log_figures(logger, run.path, captions))

    def _log_settings(self, logger: Any, metrics: Mapping[str, float]) -> None:
        if self.kind == TENSORBOARD:
            logger.log_hyperparams(self._config, dict(metrics))
        else:
            logger.log_hyperparams(self._config)
            logger.log_metrics(dict(metrics))

    def finish(self, exit_code: int = 0) -> None:
        """Write what is left and close the files. A second call does nothing."""
        self._try(lambda logger: logger.finalize("success" if exit_code == 0 else "failed"))
        self._logger = None

    def _try(self, act: Callable[[Any], None]) -> None:
        """Call a function with the logger. After a failure the record does nothing."""
        if self._logger is None:
            return
        try:
            act(self._logger)
        except Exception as error:
            self._logger = None
            warn(self.kind, "recording stopped", error)


def headline(run: RunFolder) -> dict[str, float]:
    """Return the metrics that a table of runs shows: isolation, specificity, PSNR, and every method's isolation."""
    percent = f"/{run.headline:g}"
    return {
        key: value
        for key, value in run.metrics.items()
        if key in ("isolation", "specificity")
        or key.startswith("psnr/")
        or (key.startswith("isolation/") and key.endswith(percent) and key.count("/") == 2)
    }


def _logger(kind: str, folder: Path) -> "Logger":
    from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

    if kind == CSV:
        return CSVLogger(folder, name=kind, version="")
    return TensorBoardLogger(folder, name=kind, version="", default_hp_metric=False)


def _log_figures(logger: Any, folder: Path, captions: Mapping[str, str]) -> None:
    for path in sorted((folder / "figures").glob("*.png")):
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        logger.experiment.add_image(f"figures/{path.stem}", pixels, dataformats="HWC")
        if path.stem in captions:
            logger.experiment.add_text(f"figures/{path.stem}", captions[path.stem])
