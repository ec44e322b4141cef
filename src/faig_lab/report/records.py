"""All records of a run beside its own files: W&B, TensorBoard, CSV. A run has none, one or several.

TensorBoard and CSV are Lightning's own loggers. Their records are written again from the run folder when a run
continues or is analysed further.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image

from faig_lab.config.settings import LoggerSettings
from faig_lab.report.wandb_run import PSNR, Description, Record, Row, WandbRecord, warn
from faig_lab.runs.folder import RunFolder

CSV, TENSORBOARD = "csv", "tensorboard"


class LightningRecord(Record):
    """The curves, the headline metrics and the settings of a run in a logger of Lightning; in TensorBoard figures too.

    Attributes:
        kind: `csv` or `tensorboard`, which is the name of the folder in the run folder too.
        folder: the folder of the logger's files.
    """

    def __init__(self, opened: Any | None, kind: str, config: Mapping[str, Any], folder: Path) -> None:
        super().__init__(opened, kind)
        self.kind, self.folder, self._config = kind, folder, dict(config)

    @classmethod
    def start(cls, kind: str, config: Mapping[str, Any], folder: Path) -> Self:
        """Start a record in the folder `kind` of a run folder. Files of an earlier record are replaced.

        Args:
            kind: `csv` or `tensorboard`.
            config: the settings, shown as hyper-parameters.
            folder: the run folder.
        """
        logger: Any = None
        try:
            from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

            shutil.rmtree(folder / kind, ignore_errors=True)
            if kind == CSV:
                logger = CSVLogger(folder, name=kind, version="")
            else:
                logger = TensorBoardLogger(folder, name=kind, version="", default_hp_metric=False)
        except Exception as error:
            warn(kind, "not recorded", error)
        return cls(logger, kind, config, folder / kind)

    def log_training(self, prefix: str, row: Row) -> None:
        """Log a row of a training table under `prefix` (`training/baseline`). The axis is `step`."""
        self._logged.add(prefix)
        numbers = {f"{prefix}/{key}": value for key, value in row.items() if value is not None and key != "step"}
        step = int(row.get("step") or 0)
        self._try(lambda logger: logger.log_metrics(numbers, step))

    def log_run(self, run: RunFolder, captions: Mapping[str, str]) -> None:
        """Log the curves that are not logged yet, the settings with the headline metrics, and figures for TensorBoard.

        The headline metrics are isolation, specificity, PSNR, and every method's isolation at the headline percent.
        """
        super().log_run(run, captions)
        percent = f"/{run.headline:g}"
        metrics = {
            key: value
            for key, value in run.metrics.items()
            if key in ("isolation", "specificity")
            or key.startswith(PSNR)
            or (key.startswith("isolation/") and key.endswith(percent) and key.count("/") == 2)
        }

        def log(logger: Any) -> None:
            if self.kind == CSV:
                logger.log_hyperparams(self._config)
                logger.log_metrics(metrics)
                return
            logger.log_hyperparams(self._config, metrics)
            for path in sorted((run.path / "figures").glob("*.png")):
                with Image.open(path) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
                logger.experiment.add_image(f"figures/{path.stem}", pixels, dataformats="HWC")
                if path.stem in captions:
                    logger.experiment.add_text(f"figures/{path.stem}", captions[path.stem])

        self._try(log)

    def finish(self, exit_code: int = 0) -> None:
        """Write what is left and close the files. A second call does nothing."""
        self._try(lambda logger: logger.finalize("success" if exit_code == 0 else "failed"))
        self._opened = None


class Records:
    """The records of a run. Use it as a context manager."""

    def __init__(self, wandb: WandbRecord | None = None, others: Sequence[LightningRecord] = ()) -> None:
        self._wandb, self._others = wandb or WandbRecord(None), others

    @classmethod
    def start(cls, settings: LoggerSettings, description: Description, folder: Path, *, goes_on: bool = False) -> Self:
        """Start every record that the settings ask for. Nothing is raised: a failure is a warning.

        Args:
            settings: the `logger` part of the configuration.
            description: names and describes the run.
            folder: the run folder.
            goes_on: whether an earlier record in the folder is continued.
        """
        wandb = WandbRecord.start(settings, description, folder, goes_on=goes_on)
        kinds = [CSV] * settings.csv + [TENSORBOARD] * settings.tensorboard
        return cls(wandb, [LightningRecord.start(kind, description.config, folder) for kind in kinds])

    @property
    def folder(self) -> Path | None:
        """The folder of the W&B run; None without one."""
        return self._wandb.folder

    @property
    def url(self) -> str | None:
        """The address of the W&B run's page; None if the run is offline."""
        return self._wandb.url

    @property
    def folders(self) -> Mapping[str, Path]:
        """The folders of the other records: csv, tensorboard."""
        return {record.kind: record.folder for record in self._others if record.folder.is_dir()}

    def log_training(self, prefix: str, row: Row) -> None:
        """Log a row of a training table in every record."""
        for record in (self._wandb, *self._others):
            record.log_training(prefix, row)

    def log_run(self, run: RunFolder, captions: Mapping[str, str]) -> None:
        """Log everything that a finished run has left in every record; `captions` are those of the figures."""
        for record in (self._wandb, *self._others):
            record.log_run(run, captions)

    def __enter__(self) -> Self:
        """Return the records."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the records, as failed if the block raised an exception."""
        for record in (self._wandb, *self._others):
            record.finish(0 if kind is None else 1)
