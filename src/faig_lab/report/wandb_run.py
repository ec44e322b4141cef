"""The W&B record of a run. Only this module imports wandb. A failure of W&B is one warning and never stops a run.

Keys begin with `curves` (isolation), `figures`, `training`, `values` (tables) and `views` (charts). The sections of a
workspace and the charts of `wandb leet` are in this order, so the curves come first and the tables late.
"""

import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from faig_lab.config.settings import LoggerSettings
from faig_lab.plotting.words import as_percent, degraded, method_label, removal
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import groups, read_table, records, select

_log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled"]
_OFFLINE = frozenset({"offline", "dryrun"})
_RUN_FOLDER = re.compile(r"(offline-)?run-(\d{8}_\d{6})-(\w+)(-\d+)?")
_ISOLATION = re.compile(r"isolation/([^/]+)/([\d.e+-]+)")
_PSNR = "psnr/"


class WandbRecord:
    """The W&B run of a run. Without a W&B run (disabled, not installed or failed) every method does nothing.

    Make a record with `start`. Use the record as a context manager, or call `finish`.

    Attributes:
        folder: the folder of the W&B run, for `wandb leet` and `wandb sync`; None without a W&B run.
        url: the address of the run's page; None if the run is offline.
    """

    def __init__(self, run: Any | None) -> None:
        self._run = run
        self._prefixes: set[str] = set()
        self._offline = bool(getattr(run, "offline", False))
        # Read now, since `finish` drops the W&B run and the summary asks for folder and address afterwards.
        self.folder = Path(run.dir).parent if run is not None else None
        self.url: str | None = run.url if run is not None else None

    @classmethod
    def start(
        cls,
        settings: LoggerSettings,
        config: Mapping[str, Any],
        folder: Path,
        *,
        name: str,
        job: str = "study",
        notes: str = "",
        goes_on: bool = False,
    ) -> Self:
        """Start a W&B run whose files lie in `folder`/wandb.

        The mode `auto` is online for a logged-in user and offline otherwise. The environment variable WANDB_MODE
        overrides the settings. If an online run cannot be started, an offline run is started. The method raises
        nothing: it logs a warning.

        Args:
            settings: the `logger` part of the configuration.
            config: the configuration that W&B shows.
            folder: the run folder.
            name: the name of the W&B run.
            job: the job type, which is the task.
            notes: the notes of the W&B run, Markdown.
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
                before = _earlier(folder) if goes_on else None
                return cls(_init(attempt, settings, config, folder, before, name=name, job_type=job, notes=notes))
            except Exception as error:
                warn("W&B", "recorded offline" if attempt == "online" else "not recorded in W&B", error)
        return cls(None)

    def log_training(self, prefix: str, row: Mapping[str, float | None]) -> None:
        """Log a row of a training table under `prefix` (`training/baseline`). The axis is `step`."""
        self._log_row(prefix, "step", row)

    def log_run(self, run: RunFolder, captions: Mapping[str, str], name: str) -> None:
        """Log everything that a finished run has left: curves, metrics, tables, figures, charts, artifacts.

        Args:
            run: the run folder.
            captions: figure → caption.
            name: the beginning of the names of the artifacts.
        """
        for network in ("baseline", "target"):
            if f"training/{network}" not in self._prefixes:  # a run that is analysed further trains nothing
                for row in training_rows(run.path, network):
                    self.log_training(f"training/{network}", row)
        for row in isolation_rows(run.metrics):
            self._log_row("curves", "percent", row)
        self._try(lambda open_run: open_run.config.update({"provenance": run.provenance}, allow_val_change=True))
        self.log_metrics(run.metrics)
        self.log_tables(run.path)
        self.log_figures(run.path, captions)
        self.log_charts(run)
        self.log_artifacts(run.path, name)

    def _log_row(self, prefix: str, axis: str, row: Mapping[str, float | None]) -> None:
        """Log a row whose axis is one of its columns. A resumed W&B run has the rows up to its last place already."""

        def log(run: Any) -> None:
            if prefix not in self._prefixes:
                self._prefixes.add(prefix)
                run.define_metric(f"{prefix}/{axis}", hidden=True)
                run.define_metric(f"{prefix}/*", step_metric=f"{prefix}/{axis}")
            last = run.summary.get(f"{prefix}/{axis}") if getattr(run, "resumed", False) else None
            if last is not None and (row.get(axis) or 0) <= last:
                return
            run.log({f"{prefix}/{key}": number for key, number in row.items() if number is not None})

        self._try(log)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Put the numbers of metrics.json into the run's summary, under the same keys."""
        self._try(lambda run: run.summary.update(dict(metrics)))

    def log_tables(self, run_folder: Path) -> None:
        """Log every `tables/*.csv` of a run folder as a W&B table, `values/<name>`."""

        def table(wandb: Any, path: Path) -> Any:
            table = read_table(path)
            rows = [list(row.values()) for row in records(table)]
            return wandb.Table(columns=list(table.columns), data=rows)

        self._log_files(run_folder / "tables", "*.csv", "values", table)

    def log_figures(self, run_folder: Path, captions: Mapping[str, str]) -> None:
        """Log every `figures/*.png` of a run folder as an image, with the caption of that name."""

        def image(wandb: Any, path: Path) -> Any:
            return wandb.Image(str(path), caption=captions.get(path.stem))

        self._log_files(run_folder / "figures", "*.png", "figures", image)

    def _log_files(self, folder: Path, pattern: str, prefix: str, convert: Callable[[Any, Path], Any]) -> None:
        """Log each file of a folder as `<prefix>/<name>`."""

        def log(run: Any) -> None:
            import wandb

            for path in sorted(folder.glob(pattern)):
                run.log({f"{prefix}/{path.stem}": convert(wandb, path)})

        self._try(log)

    def log_charts(self, run: RunFolder) -> None:
        """Log charts with all methods, inputs or layers together. The title of a chart is its caption.

        The keys are `views/isolation`, `views/training_<network>` and `views/layers_<degradation>`.
        """

        def log(open_run: Any) -> None:
            import wandb

            for name, curves in curves_of(run).items():
                chart = wandb.plot.line_series(
                    curves.xs, list(curves.ys.values()), keys=list(curves.ys), title=curves.title, xname=curves.axis
                )
                open_run.log({f"views/{name}": chart})
            for name, cells in layer_shares(run).items():
                title = (
                    f"Share of each layer's {run.units} that {method_label(run.chosen)} discovers for {removal(name)}, "
                    f"at {as_percent(run.headline)} of all {run.units}."
                )
                layers = wandb.Table(columns=["layer", "share"], data=[*map(list[Any], cells)])
                open_run.log({f"views/layers_{name}": wandb.plot.bar(layers, "layer", "share", title=title)})

        self._try(log)

    def log_artifacts(self, run_folder: Path, name: str) -> None:
        """Log the networks and the scores of a run folder as artifacts with their lineage.

        `<name>-baseline` and `<name>-target` are models, `<name>-scores` is of type attribution. The metadata hold the
        lineage as digests (`from`), so that an offline run has the lineage too: the target comes from the baseline, the
        scores come from both networks. Equal files make no new version.

        Args:
            run_folder: the run folder, with `weights` and `attribution`. The artifacts refer to these files.
            name: the beginning of the names: experiment, network and seed.
        """

        def log(run: Any) -> None:
            import wandb

            digests: dict[str, str] = {}
            for part, artifact_type, path in (
                ("baseline", "model", run_folder / "weights" / "baseline.pt"),
                ("target", "model", run_folder / "weights" / "target.pt"),
                ("scores", "attribution", run_folder / "attribution"),
            ):
                artifact = wandb.Artifact(f"{name}-{part}", artifact_type, metadata={"from": dict(digests)})
                if path.is_dir():
                    artifact.add_dir(str(path), policy="immutable")  # no copy
                else:
                    artifact.add_file(str(path), policy="immutable")
                run.log_artifact(artifact)
                digests[part] = artifact.digest

        self._try(log)

    def finish(self, exit_code: int = 0) -> None:
        """Close the run as finished (exit code 0) or failed (any other exit code). A second call does nothing.

        The service process of wandb may write the last records a moment later, even after this process has ended.
        """
        self._try(lambda run: run.finish(exit_code=exit_code))
        if self._run is not None and exit_code == 0:
            self._remove_earlier()
        self._run = None

    def _remove_earlier(self) -> None:
        """Remove earlier offline folders of this W&B run, whose content is in its present folder too."""
        assert self.folder is not None
        present = _RUN_FOLDER.fullmatch(self.folder.name)
        for folder in self.folder.parent.glob("offline-run-*"):
            match = _RUN_FOLDER.fullmatch(folder.name)
            if match and present and match[3] == present[3] and folder != self.folder:
                shutil.rmtree(folder, ignore_errors=True)

    def __enter__(self) -> Self:
        """Return the record."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish the record, as failed if the block raised an exception."""
        self.finish(exit_code=0 if kind is None else 1)

    def _try(self, act: Callable[[Any], None]) -> None:
        """Call a function with the W&B run. After a failure the record does nothing."""
        if self._run is None:
            return
        try:
            with _staged_in(self.folder if self._offline else None):
                act(self._run)
        except Exception as error:
            self._run = None
            warn("W&B", "recording in W&B stopped", error)


def resolve_mode(wanted: str) -> Mode:
    """Return the mode to start in: WANDB_MODE, else the wanted mode. For `auto`, ask whether the user is logged in.

    Raises:
        ValueError: the mode is not auto, online, offline or disabled.
    """
    mode = os.environ.get("WANDB_MODE", wanted).lower()
    if mode == "auto":
        return "online" if _logged_in() else "offline"
    if mode in _OFFLINE:
        return "offline"
    if mode in ("online", "run"):
        return "online"
    if mode == "disabled":
        return "disabled"
    raise ValueError(f"mode {mode!r}: choose auto, online, offline or disabled")


def _logged_in() -> bool:
    """Return whether wandb has credentials. The user is not asked, and nothing is sent."""
    wandb = _quiet_wandb(offline=False)
    with _silence():
        return bool(wandb.login(prompt=False, verify=False))


def _earlier(folder: Path) -> tuple[str, str] | None:
    """Return mode and id of the latest W&B run in a run folder, from the name of the W&B folder."""
    matches = [_RUN_FOLDER.fullmatch(path.name) for path in (folder / "wandb").glob("*run-*")]
    latest = max((match for match in matches if match), key=lambda match: match[2], default=None)
    return ("offline" if latest[1] else "online", latest[3]) if latest else None


def _init(
    mode: str,
    settings: LoggerSettings,
    config: Mapping[str, Any],
    folder: Path,
    before: tuple[str, str] | None,
    **described: str,
) -> Any:
    continued: dict[str, Any] = {} if before is None else {"id": before[1]}
    if before is not None and mode == "online":
        continued["resume"] = "allow"
    wandb = _quiet_wandb(offline=mode == "offline")
    folder.mkdir(parents=True, exist_ok=True)
    with _silence():
        return wandb.init(
            mode=mode, project=settings.project, entity=settings.entity, group=settings.group,
            tags=list(settings.tags), config=dict(config), dir=str(folder), **described,
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


@dataclass(frozen=True)
class Curves:
    """Several curves in one chart.

    Attributes:
        title: the caption.
        axis: the name of the x-axis.
        xs: the places.
        ys: label → value at each place.
    """

    title: str
    axis: str
    xs: Sequence[float]
    ys: Mapping[str, Sequence[float | None]]


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


def curves_of(run: RunFolder) -> dict[str, Curves]:
    """Return the charts of curves: isolation by percent, and the quality during each training."""
    charts = {}
    rows = isolation_rows(run.metrics)
    keys = list(dict.fromkeys(key for row in rows for key in row if key != "percent"))
    if keys:
        charts["isolation"] = Curves(
            f"Isolation by the percent of the {run.units} that are masked. 1 is the ideal edit, 0 is no masking, "
            "below 0 is harm.",
            f"percent of the {run.units}",
            [row["percent"] or 0.0 for row in rows],
            {method_label(key.partition("/")[2]): [row.get(key) for row in rows] for key in keys},
        )
    for network in ("baseline", "target"):
        trained = training_rows(run.path, network)
        inputs = [key for key in (trained[0] if trained else {}) if key.startswith(_PSNR)]
        if inputs:
            charts[f"training_{network}"] = Curves(
                f"Training of the {network}: PSNR on the probe in dB, for each input.",
                "step",
                [row["step"] or 0.0 for row in trained],
                {degraded(key.removeprefix(_PSNR)): [row[key] for row in trained] for key in inputs},
            )
    return charts


def layer_shares(run: RunFolder) -> dict[str, list[list[str | float]]]:
    """Return the layers with discovered units and the share of their units: degradation → [layer, share]."""
    rows = select(run.table("distribution"), run.headline, method=run.chosen)
    return {
        name: [[row["layer"].removesuffix(".weight"), row["share"]] for row in records(of_set) if row["share"]]
        for name, of_set in groups(rows, "degradation").items()
    }
