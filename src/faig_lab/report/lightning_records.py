"""Records of a run through Lightning's own loggers: CSV files and TensorBoard. A failure is one warning.

A record is written again from the run folder when a run continues or is analysed further.
"""

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image

from faig_lab.report.series import training_rows
from faig_lab.runs.folder import RunFolder

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

_log = logging.getLogger(__name__)

CSV, TENSORBOARD = "csv", "tensorboard"


class LightningRecord:
    """The curves, the headline metrics and the settings of a run in a logger of Lightning; in TensorBoard figures too.

    Make a record with `start`. Use the record as a context manager, or call `finish`.

    Attributes:
        kind: `csv` or `tensorboard`, which is the name of the folder in the run folder too.
        folder: the folder of the logger's files.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder / kind
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
        record = cls(kind, folder)
        record._config = dict(config)
        try:
            shutil.rmtree(record.folder, ignore_errors=True)
            record._logger = _logger(kind, folder)
        except Exception as error:
            _warn(kind, "not recorded", error)
        return record

    _config: dict[str, Any]

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
            _warn(self.kind, "recording stopped", error)


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


def _warn(kind: str, consequence: str, error: Exception) -> None:
    reason = str(error).strip().splitlines() or [""]
    _log.warning("%s: %s (%s: %s)", kind, consequence, type(error).__name__, reason[0])
