"""The W&B record of a run. Only this module imports wandb. A failure of W&B is one warning and never stops a run."""

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from faig_lab.runs.tables import read_table, records

_log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled"]
_OFFLINE = frozenset({"offline", "dryrun"})
_RUN_FOLDER = re.compile(r"(offline-)?run-(\d{8}_\d{6})-(\w+)")


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
        # Read now, since `finish` drops the W&B run and the summary asks for folder and address afterwards.
        self._folder = Path(run.dir).parent if run is not None else None
        self._url: str | None = run.url if run is not None else None

    @classmethod
    def start(
        cls, settings: RecordSettings, config: Mapping[str, Any], folder: Path, *, name: str, goes_on: bool = False
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
            goes_on: whether the run continues an interrupted run. If the interrupted W&B run in the folder and the new
                run are online, both have the same id. Otherwise config and notes of the new run name the earlier id
                (`continues`).
        """
        try:
            mode = resolve_mode(settings.mode)
        except Exception as error:
            _warn("not recorded in W&B", error)
            return cls(None)
        for attempt in {"online": ("online", "offline"), "offline": ("offline",), "disabled": ()}[mode]:
            try:
                before = _interrupted(folder) if goes_on else None
                return cls(_init(attempt, settings, config, folder, name, before))
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

        def log(run: Any) -> None:
            if prefix not in self._prefixes:
                self._prefixes.add(prefix)
                run.define_metric(f"{prefix}/step", hidden=True)
                run.define_metric(f"{prefix}/*", step_metric=f"{prefix}/step")
            last = run.summary.get(f"{prefix}/step") if getattr(run, "resumed", False) else None
            if last is not None and (row.get("step") or 0) <= last:
                return  # W&B has this row from before the interruption
            run.log({f"{prefix}/{key}": number for key, number in row.items() if number is not None})

        self._try(log)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Put the numbers of metrics.json into the run's summary, under the same keys."""
        self._try(lambda run: run.summary.update(dict(metrics)))

    def log_tables(self, run_folder: Path) -> None:
        """Log every `tables/*.csv` of a run folder as a W&B table."""

        def table(wandb: Any, path: Path) -> Any:
            table = read_table(path)
            rows = [list(row.values()) for row in records(table)]
            return wandb.Table(columns=list(table.columns), data=rows)

        self._log_files(run_folder, "tables", "*.csv", table)

    def log_figures(self, run_folder: Path, captions: Mapping[str, str]) -> None:
        """Log every `figures/*.png` of a run folder as an image, with the caption of that name."""

        def image(wandb: Any, path: Path) -> Any:
            return wandb.Image(str(path), caption=captions.get(path.stem))

        self._log_files(run_folder, "figures", "*.png", image)

    def _log_files(self, run_folder: Path, subfolder: str, pattern: str, convert: Callable[[Any, Path], Any]) -> None:
        """Log each file of a subfolder as `<subfolder>/<name>`."""

        def log(run: Any) -> None:
            import wandb

            for path in sorted((run_folder / subfolder).glob(pattern)):
                run.log({f"{subfolder}/{path.stem}": convert(wandb, path)})

        self._try(log)

    def log_artifacts(self, run_folder: Path, name: str) -> None:
        """Log the networks and the scores of a run folder as artifacts with their lineage.

        `<name>-baseline` and `<name>-target` are models, `<name>-scores` is of type attribution. The metadata hold the
        lineage as digests (`from`), so that an offline run has the lineage too: the target comes from the baseline, the
        scores come from both networks. Equal files make no new version.

        Args:
            run_folder: the run folder, with `weights` and `attribution`.
            name: the name of the experiment.
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
                    artifact.add_dir(str(path))
                else:
                    artifact.add_file(str(path))
                run.log_artifact(artifact)
                digests[part] = artifact.digest

        self._try(log)

    def finish(self, exit_code: int = 0) -> None:
        """Close the run as finished (exit code 0) or failed (any other exit code). A second call does nothing.

        The service process of wandb may write the last records a moment later, even after this process has ended.
        """
        self._try(lambda run: run.finish(exit_code=exit_code))
        self._run = None

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
    return bool(wandb.login(prompt=False, verify=False))


def _interrupted(folder: Path) -> tuple[str, str] | None:
    """Return mode and id of the latest W&B run in a run folder, from the name of the W&B folder."""
    matches = [_RUN_FOLDER.fullmatch(path.name) for path in (folder / "wandb").glob("*run-*")]
    latest = max((match for match in matches if match), key=lambda match: match[2], default=None)
    return ("offline" if latest[1] else "online", latest[3]) if latest else None


def _init(
    mode: str,
    settings: RecordSettings,
    config: Mapping[str, Any],
    folder: Path,
    name: str,
    before: tuple[str, str] | None = None,
) -> Any:
    continued: dict[str, Any] = {}
    if before is not None and mode == before[0] == "online":
        continued = {"id": before[1], "resume": "allow"}
    elif before is not None:
        config, continued = {**config, "continues": before[1]}, {"notes": f"continues {before[1]}"}
    wandb = _quiet_wandb(offline=mode == "offline")
    folder.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        mode=mode, project=settings.project, entity=settings.entity, group=settings.group,
        tags=list(settings.tags), config=dict(config), dir=str(folder), name=name,
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
