"""All records of a run beside its own files: W&B, TensorBoard, CSV. A run has none, one or several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from faig_lab.report import wandb_run
from faig_lab.report.lightning_records import CSV, TENSORBOARD, LightningRecord
from faig_lab.report.wandb_run import WandbRecord
from faig_lab.runs.folder import RunFolder


class Record(Protocol):
    """A record of a run."""

    def log_training(self, prefix: str, row: Mapping[str, float | None]) -> None:
        """Log a row of a training table."""

    def log_run(self, run: RunFolder, captions: Mapping[str, str], name: str) -> None:
        """Log everything that a finished run has left."""

    def finish(self, exit_code: int = 0) -> None:
        """Close the record."""


class RecordSettings(wandb_run.RecordSettings, Protocol):
    """The `logger` part of the configuration."""

    @property
    def csv(self) -> bool:
        """Whether CSV files are written."""

    @property
    def tensorboard(self) -> bool:
        """Whether files for TensorBoard are written."""


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

    def __init__(self, wandb: WandbRecord | None = None, others: Sequence[LightningRecord] = ()) -> None:
        self.wandb, self.others = wandb, list(others)
        self._name = ""

    @classmethod
    def start(cls, settings: RecordSettings, description: Description, folder: Path, *, goes_on: bool = False) -> Self:
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
        records = cls(wandb, [LightningRecord.start(kind, description.config, folder) for kind in kinds])
        records._name = description.networks
        return records

    @property
    def folder(self) -> Path | None:
        """The folder of the W&B run; None without one."""
        return self.wandb.folder if self.wandb else None

    @property
    def url(self) -> str | None:
        """The address of the W&B run's page; None if the run is offline."""
        return self.wandb.url if self.wandb else None

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

    def _all(self) -> list[Record]:
        return [*([self.wandb] if self.wandb else []), *self.others]

    def __enter__(self) -> Self:
        """Return the records."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the records, as failed if the block raised an exception."""
        for record in self._all():
            record.finish(0 if kind is None else 1)
