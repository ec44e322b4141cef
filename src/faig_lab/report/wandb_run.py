"""A record of a run, and the W&B record. A failure of a record is one warning and never stops a run.

Only this module imports wandb. Keys begin with `curves` (isolation), `figures`, `training`, `values` (tables) and
`views` (charts). The sections of a workspace and the charts of `wandb leet` are in this order, so the curves come first
and the tables late.
"""

import logging
import os
import re
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from faig_lab.config.settings import LoggerSettings
from faig_lab.plotting.words import as_percent, degraded, method_label, removal
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import groups, read_table, records, select

_log = logging.getLogger(__name__)

Row = Mapping[str, float | None]
"""A row of a training table: column → number."""

Mode = Literal["online", "offline", "disabled"]
_RUN_FOLDER = re.compile(r"(offline-)?run-(\d{8}_\d{6})-(\w+)(-\d+)?")
_ISOLATION = re.compile(r"isolation/([^/]+)/([\d.e+-]+)")
PSNR = "psnr/"
"""The beginning of the column of an input in a training table, and of the metrics of restoration."""


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


class Record(ABC):
    """One record of a run. Without an open record (not wanted, not installed or failed) every method does nothing.

    Make a record with `start`, and call `finish` at the end.

    Args:
        opened: the W&B run or the logger of Lightning; None without a record.
        name: the name of the record in warnings.
    """

    def __init__(self, opened: Any | None, name: str) -> None:
        self._opened, self._name = opened, name
        self._logged: set[str] = set()

    @abstractmethod
    def log_training(self, prefix: str, row: Row) -> None:
        """Log a row of a training table under `prefix` (`training/baseline`). The axis is `step`."""

    def log_run(self, run: RunFolder, captions: Mapping[str, str]) -> None:
        """Log everything that a finished run has left. The base class logs the trainings that are not logged yet.

        Args:
            run: the run folder.
            captions: figure → caption.
        """
        for network in ("baseline", "target"):
            if f"training/{network}" not in self._logged:  # a run that is analysed further trains nothing
                for row in training_rows(run.path, network):
                    self.log_training(f"training/{network}", row)

    @abstractmethod
    def finish(self, exit_code: int = 0) -> None:
        """Close the record as finished (exit code 0) or failed (any other exit code). A second call does nothing."""

    def _try(self, act: Callable[[Any], None], consequence: str = "recording stopped") -> None:
        """Call a function with the open record. After a failure the record does nothing."""
        if self._opened is None:
            return
        try:
            act(self._opened)
        except Exception as error:
            self._opened = None
            warn(self._name, consequence, error)


class WandbRecord(Record):
    """The W&B run of a run.

    Attributes:
        folder: the folder of the W&B run, for `wandb leet` and `wandb sync`; None without a W&B run.
        url: the address of the run's page; None if the run is offline.
    """

    def __init__(self, opened: Any | None, networks: str = "") -> None:
        super().__init__(opened, "W&B")
        self._networks = networks
        self._offline = bool(getattr(opened, "offline", False))
        # Read now, since `finish` drops the W&B run and the summary asks for folder and address afterwards.
        self.folder = Path(opened.dir).parent if opened is not None else None
        self.url: str | None = opened.url if opened is not None else None

    @classmethod
    def start(cls, settings: LoggerSettings, description: Description, folder: Path, *, goes_on: bool = False) -> Self:
        """Start a W&B run whose files lie in `folder`/wandb.

        The mode `auto` is online for a logged-in user and offline otherwise. The environment variable WANDB_MODE
        overrides the settings. If an online run cannot be started, an offline run is started. The method raises
        nothing: it logs a warning.

        Args:
            settings: the `logger` part of the configuration.
            description: names and describes the run.
            folder: the run folder.
            goes_on: whether the W&B run in the folder is continued. The new run has the id of that run. The whole
                record is written again, so an earlier offline folder of the run is removed at a successful end.
        """
        try:
            mode = resolve_mode(settings.mode)
        except Exception as error:
            warn("W&B", "not recorded in W&B", error)
            return cls(None)
        for attempt in {"online": ("online", "offline"), "offline": ("offline",), "disabled": ()}[mode]:
            try:
                return cls(_init(attempt, settings, description, folder, goes_on=goes_on), description.networks)
            except Exception as error:
                warn("W&B", "recorded offline" if attempt == "online" else "not recorded in W&B", error)
        return cls(None)

    def log_training(self, prefix: str, row: Row) -> None:
        """Log a row of a training table under `prefix` (`training/baseline`). The axis is `step`."""
        self._log_row(prefix, "step", row)

    def log_run(self, run: RunFolder, captions: Mapping[str, str]) -> None:
        """Log everything that a finished run has left: curves, metrics, tables, figures, charts, artifacts.

        `values/<name>` is a table, `figures/<name>` an image with the caption of that name. The numbers of metrics.json
        are in the run's summary under the same keys.
        """
        super().log_run(run, captions)
        for row in isolation_rows(run.metrics):
            self._log_row("curves", "percent", row)

        def log(opened: Any) -> None:
            import wandb

            opened.config.update({"provenance": run.provenance}, allow_val_change=True)
            opened.summary.update(dict(run.metrics))
            for path in sorted((run.path / "tables").glob("*.csv")):
                table = read_table(path)
                rows: list[Iterable[Any]] = [list(row.values()) for row in records(table)]
                opened.log({f"values/{path.stem}": wandb.Table(columns=list(table.columns), data=rows)})
            for path in sorted((run.path / "figures").glob("*.png")):
                opened.log({f"figures/{path.stem}": wandb.Image(str(path), caption=captions.get(path.stem))})
            for name, chart in _charts(run):
                opened.log({f"views/{name}": chart})

        self._try(log)
        self.log_artifacts(run.path)

    def _try(self, act: Callable[[Any], None], consequence: str = "recording in W&B stopped") -> None:
        with _staged_in(self.folder if self._offline else None):
            super()._try(act, consequence)

    def _log_row(self, prefix: str, axis: str, row: Row) -> None:
        """Log a row whose axis is one of its columns. A resumed W&B run has the rows up to its last place already."""

        def log(opened: Any) -> None:
            if prefix not in self._logged:
                self._logged.add(prefix)
                opened.define_metric(f"{prefix}/{axis}", hidden=True)
                opened.define_metric(f"{prefix}/*", step_metric=f"{prefix}/{axis}")
            last = opened.summary.get(f"{prefix}/{axis}") if getattr(opened, "resumed", False) else None
            if last is None or (row.get(axis) or 0) > last:
                opened.log({f"{prefix}/{key}": number for key, number in row.items() if number is not None})

        self._try(log)

    def log_artifacts(self, folder: Path) -> None:
        """Log the networks and the scores of a run folder as artifacts with their lineage.

        `<networks>-baseline` and `<networks>-target` are models, `<networks>-scores` is of type attribution. The
        metadata hold the lineage as digests (`from`), so that an offline run has the lineage too: the target comes from
        the baseline, the scores come from both networks. Equal files make no new version.
        """

        def log(opened: Any) -> None:
            import wandb

            digests: dict[str, str] = {}
            for part, artifact_type, path in (
                ("baseline", "model", folder / "weights" / "baseline.pt"),
                ("target", "model", folder / "weights" / "target.pt"),
                ("scores", "attribution", folder / "attribution"),
            ):
                artifact = wandb.Artifact(f"{self._networks}-{part}", artifact_type, metadata={"from": dict(digests)})
                add = artifact.add_dir if path.is_dir() else artifact.add_file
                add(str(path), policy="immutable")  # no copy
                opened.log_artifact(artifact)
                digests[part] = artifact.digest

        self._try(log)

    def finish(self, exit_code: int = 0) -> None:
        """Close the run as finished (exit code 0) or failed (any other exit code). A second call does nothing.

        The service process of wandb may write the last records a moment later, even after this process has ended.
        """
        self._try(lambda opened: opened.finish(exit_code=exit_code))
        if self._opened is not None and self.folder is not None and exit_code == 0:
            # Earlier offline folders of this W&B run have nothing that its present folder lacks.
            present = _RUN_FOLDER.fullmatch(self.folder.name)
            for folder in self.folder.parent.glob("offline-run-*"):
                match = _RUN_FOLDER.fullmatch(folder.name)
                if match and present and match[3] == present[3] and folder != self.folder:
                    shutil.rmtree(folder, ignore_errors=True)
        self._opened = None


def resolve_mode(wanted: str) -> Mode:
    """Return the mode to start in: WANDB_MODE, else the wanted mode. For `auto`, ask whether the user is logged in.

    Raises:
        ValueError: the mode is not auto, online, offline or disabled.
    """
    mode = os.environ.get("WANDB_MODE", wanted).lower()
    if mode == "auto":
        wandb = _quiet_wandb(offline=False)
        with _silence():  # the user is not asked, and nothing is sent
            return "online" if wandb.login(prompt=False, verify=False) else "offline"
    modes: dict[str, Mode] = {
        "online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled",
    }  # fmt: skip
    if mode not in modes:
        raise ValueError(f"mode {mode!r}: choose auto, online, offline or disabled")
    return modes[mode]


def _init(mode: str, settings: LoggerSettings, description: Description, folder: Path, *, goes_on: bool) -> Any:
    """Start a W&B run. A run that goes on continues the latest W&B run of its folder, which the folder's name tells."""
    continued: dict[str, Any] = {}
    if goes_on:
        matches = [_RUN_FOLDER.fullmatch(path.name) for path in (folder / "wandb").glob("*run-*")]
        if latest := max((match for match in matches if match), key=lambda match: match[2], default=None):
            continued = {"id": latest[3]} | ({"resume": "allow"} if mode == "online" else {})
    wandb = _quiet_wandb(offline=mode == "offline")
    folder.mkdir(parents=True, exist_ok=True)
    with _silence():
        return wandb.init(
            mode=mode, project=settings.project, entity=settings.entity, group=settings.group,
            tags=list(settings.tags), config=dict(description.config), dir=str(folder), name=description.title,
            job_type=description.job, notes=description.notes,
            # Several runs in one process (a sweep) must not share one W&B run.
            reinit="create_new",
            settings=wandb.Settings(
                silent=True, console="off", symlink=False, disable_code=True, init_timeout=30
            ),
            **continued,
        )  # fmt: skip


def _quiet_wandb(offline: bool) -> Any:
    """Import wandb so that it prints nothing. Offline it sends no error reports."""
    os.environ.setdefault("WANDB_SILENT", "true")
    if offline:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


def warn(record: str, consequence: str, error: Exception) -> None:
    """Log the failure of a record in one line."""
    reason = str(error).strip().splitlines() or [""]
    _log.warning("%s: %s (%s: %s)", record, consequence, type(error).__name__, reason[0])


@contextmanager
def _silence() -> Iterator[None]:
    """Start the service process of wandb without a terminal.

    The service inherits stderr. It writes its log there if it cannot write to the cache folder.
    """
    with suppress(ValueError, OSError):
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


@contextmanager
def _staged_in(folder: Path | None) -> Iterator[None]:
    """Let the copies of an offline run's tables lie in a folder, unless the user has named a folder."""
    if folder is None or "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(folder.absolute())
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


def training_rows(run: Path, network: str) -> list[dict[str, float | None]]:
    """Return the rows of `tables/training_<network>.csv`; none if the run trained no such network."""
    file = run / "tables" / f"training_{network}.csv"
    return records(read_table(file)) if file.is_file() else []


def isolation_rows(metrics: Mapping[str, float]) -> list[dict[str, float | None]]:
    """Return a row for each percent: `percent`, and `isolation/<method>` for each method.

    Args:
        metrics: the content of metrics.json.
    """
    rows: dict[float, dict[str, float | None]] = {}
    for key, value in metrics.items():
        if match := _ISOLATION.fullmatch(key):
            percent = float(match[2])
            rows.setdefault(percent, {"percent": percent})[f"isolation/{match[1]}"] = value
    return [rows[percent] for percent in sorted(rows)]


def _charts(run: RunFolder) -> Iterator[tuple[str, Any]]:
    """Yield charts with all methods, inputs or layers together. The title of a chart is its caption.

    The names are `isolation`, `training_<network>` and `layers_<degradation>`.
    """
    import wandb

    def curves(rows: Sequence[Row], axis: str, ys: Mapping[str, str], title: str, axis_title: str) -> Any:
        """Return a chart of columns, each with its label, against the column `axis`."""
        values = [[row.get(key) for row in rows] for key in ys]
        xs = [row[axis] or 0.0 for row in rows]
        return wandb.plot.line_series(xs, values, keys=list(ys.values()), title=title, xname=axis_title)

    rows = isolation_rows(run.metrics)
    if rows:
        methods = {key: method_label(key.partition("/")[2]) for row in rows for key in row if key != "percent"}
        yield "isolation", curves(
            rows, "percent", methods,
            f"Isolation by the percent of the {run.units} that are masked. 1 is the ideal edit, 0 is no masking, "
            "below 0 is harm.",
            f"percent of the {run.units}",
        )  # fmt: skip
    for network in ("baseline", "target"):
        trained = training_rows(run.path, network)
        inputs = {key: degraded(key.removeprefix(PSNR)) for key in (trained or [{}])[0] if key.startswith(PSNR)}
        if inputs:
            title = f"Training of the {network}: PSNR on the probe in dB, for each input."
            yield f"training_{network}", curves(trained, "step", inputs, title, "step")
    found = select(run.table("distribution"), run.headline, method=run.chosen)
    for name, of_set in groups(found, "degradation").items():
        cells: list[Iterable[Any]] = [
            [row["layer"].removesuffix(".weight"), row["share"]] for row in records(of_set) if row["share"]
        ]
        title = (
            f"Share of each layer's {run.units} that {method_label(run.chosen)} discovers for {removal(name)}, "
            f"at {as_percent(run.headline)} of all {run.units}."
        )
        layers = wandb.Table(columns=["layer", "share"], data=cells)
        yield f"layers_{name}", wandb.plot.bar(layers, "layer", "share", title=title)
