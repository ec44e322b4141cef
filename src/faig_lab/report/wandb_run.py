"""The W&B record of a run. Only this module imports wandb. A failure of W&B is one warning and never stops a run.

Keys begin with `curves` (isolation), `figures`, `training`, `values` (tables) and `views` (charts). The sections of a
workspace and the charts of `wandb leet` are in this order, so the curves come first and the tables late.
"""

import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from faig_lab.report.quiet import silence, staged_in
from faig_lab.report.series import bars_of, curves_of, isolation_rows, training_rows
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import read_table, records

_log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled"]
_OFFLINE = frozenset({"offline", "dryrun"})
_RUN_FOLDER = re.compile(r"(offline-)?run-(\d{8}_\d{6})-(\w+)(-\d+)?")


class RecordSettings(Protocol):
    """The `logger` part of the config; `mode` is auto, online, offline or disabled."""

    @property
    def mode(self) -> str:
        """One of auto, online, offline, disabled."""

    @property
    def project(self) -> str:
        """The W&B project."""

    @property
    def entity(self) -> str | None:
        """Account or team; None for the default of the logged-in user."""

    @property
    def group(self) -> str | None:
        """The group of the runs of a sweep."""

    @property
    def tags(self) -> Sequence[str]:
        """Tags of the run."""


class WandbRecord:
    """The W&B run of a run. Without a W&B run (disabled, not installed or failed) every method does nothing.

    Make a record with `start`. Use the record as a context manager, or call `finish`.
    """

    def __init__(self, run: Any | None) -> None:
        self._run = run
        self._prefixes: set[str] = set()
        self._offline = bool(getattr(run, "offline", False))
        # Read now, since `finish` drops the W&B run and the summary asks for folder and address afterwards.
        self._folder = Path(run.dir).parent if run is not None else None
        self._url: str | None = run.url if run is not None else None

    @classmethod
    def start(
        cls,
        settings: RecordSettings,
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
            _warn("not recorded in W&B", error)
            return cls(None)
        for attempt in {"online": ("online", "offline"), "offline": ("offline",), "disabled": ()}[mode]:
            try:
                before = _earlier(folder) if goes_on else None
                return cls(_init(attempt, settings, config, folder, before, name=name, job_type=job, notes=notes))
            except Exception as error:
                _warn("recorded offline" if attempt == "online" else "not recorded in W&B", error)
        return cls(None)

    @property
    def folder(self) -> Path | None:
        """The folder of the W&B run, for `wandb leet` and `wandb sync`; None without a W&B run."""
        return self._folder

    @property
    def url(self) -> str | None:
        """The address of the run's page; None if the run is offline."""
        return self._url

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
            for name, bars in bars_of(run).items():
                cells = wandb.Table(columns=["layer", "share"], data=[[label, share] for label, share in bars.bars])
                open_run.log({f"views/{name}": wandb.plot.bar(cells, "layer", "share", title=bars.title)})

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
        assert self._folder is not None
        present = _RUN_FOLDER.fullmatch(self._folder.name)
        for folder in self._folder.parent.glob("offline-run-*"):
            match = _RUN_FOLDER.fullmatch(folder.name)
            if match and present and match[3] == present[3] and folder != self._folder:
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
            with staged_in(self._folder if self._offline else None):
                act(self._run)
        except Exception as error:
            self._run = None
            _warn("recording in W&B stopped", error)


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
    with silence():
        return bool(wandb.login(prompt=False, verify=False))


def _earlier(folder: Path) -> tuple[str, str] | None:
    """Return mode and id of the latest W&B run in a run folder, from the name of the W&B folder."""
    matches = [_RUN_FOLDER.fullmatch(path.name) for path in (folder / "wandb").glob("*run-*")]
    latest = max((match for match in matches if match), key=lambda match: match[2], default=None)
    return ("offline" if latest[1] else "online", latest[3]) if latest else None


def _init(
    mode: str,
    settings: RecordSettings,
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
    with silence():
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


def _warn(consequence: str, error: Exception) -> None:
    reason = str(error).strip().splitlines() or [""]
    _log.warning("W&B: %s (%s: %s)", consequence, type(error).__name__, reason[0])
