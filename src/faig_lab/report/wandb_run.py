"""The W&B record of a run; the only module that imports wandb. It never stops a run: failing is one line."""

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from faig_lab.runs.tables import read_table

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
        """Account or team, None for the default of who is logged in."""

    @property
    def group(self) -> str | None:
        """What groups the runs of a sweep."""

    @property
    def tags(self) -> Sequence[str]:
        """Tags of the run."""


class WandbRecord:
    """What a run tells W&B. Without a W&B run (disabled, absent or broken) every method does nothing.

    Make it with `start`; use it as a context manager, or call `finish` yourself.
    """

    def __init__(self, run: Any | None) -> None:
        self._run = run
        self._prefixes: set[str] = set()
        # Read now: they are asked for after `finish`, when a run that failed has been let go.
        self._folder = Path(run.dir).parent if run is not None else None
        self._url: str | None = run.url if run is not None else None

    @classmethod
    def start(
        cls, settings: RecordSettings, config: Mapping[str, Any], folder: Path, name: str, goes_on: bool = False
    ) -> Self:
        """Start a W&B run whose files lie in `folder`/wandb.

        A run that `goes_on` continues the W&B run that the interrupted attempt left in the folder: under the same id
        where both are online; else as a new one whose config says `continues: <id>`, and so do its notes.

        `auto` is online when logged in and else offline; the environment's WANDB_MODE is stronger than the
        settings. Online that cannot be started is tried offline. Nothing is raised: a warning is logged.
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
        """The address of the run's page, None when offline."""
        return self._url

    def log_training(self, prefix: str, row: Mapping[str, float | None]) -> None:
        """Log one row of a training table under `prefix` (`training/baseline`), its `step` as the axis."""

        def log(run: Any) -> None:
            if prefix not in self._prefixes:
                self._prefixes.add(prefix)
                run.define_metric(f"{prefix}/step", hidden=True)
                run.define_metric(f"{prefix}/*", step_metric=f"{prefix}/step")
            last = run.summary.get(f"{prefix}/step") if getattr(run, "resumed", False) else None
            if last is not None and (row.get("step") or 0) <= last:
                return  # from before the interruption; a run that goes on is told everything again
            run.log({f"{prefix}/{key}": number for key, number in row.items() if number is not None})

        self._try(log)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Put the numbers of metrics.json into the run's summary, under the same keys."""
        self._try(lambda run: run.summary.update(dict(metrics)))

    def log_tables(self, run_folder: Path) -> None:
        """Log every `tables/*.csv` of a run folder as a W&B table."""

        def table(wandb: Any, path: Path) -> Any:
            rows = read_table(path)
            columns: list[str | int] = list(rows[0]) if rows else []
            return wandb.Table(columns=columns, data=[list(row.values()) for row in rows])

        self._log_files(run_folder, "tables", "*.csv", table)

    def log_figures(self, run_folder: Path, captions: Mapping[str, str]) -> None:
        """Log every `figures/*.png` of a run folder as an image, with the caption of that name."""

        def image(wandb: Any, path: Path) -> Any:
            return wandb.Image(str(path), caption=captions.get(path.stem))

        self._log_files(run_folder, "figures", "*.png", image)

    def _log_files(self, run_folder: Path, kind: str, pattern: str, made: Callable[[Any, Path], Any]) -> None:
        """Log each file of a folder as `<kind>/<name>`."""

        def log(run: Any) -> None:
            import wandb

            for path in sorted((run_folder / kind).glob(pattern)):
                run.log({f"{kind}/{path.stem}": made(wandb, path)})

        self._try(log)

    def log_artifacts(self, run_folder: Path, name: str) -> None:
        """Log the networks and the scores of a run folder as artifacts that say what they were made from.

        `<name>-baseline` and `<name>-target` are models, `<name>-scores` is of type attribution. The lineage is in the
        metadata, as digests (`from`), so that it is there offline too: target from baseline, scores from both. Equal
        files make no new version.

        Args:
            run_folder: with `weights` and `attribution`.
            name: of the experiment.
        """

        def log(run: Any) -> None:
            import wandb

            made: dict[str, str] = {}
            for what, kind, path in (
                ("baseline", "model", run_folder / "weights" / "baseline.pt"),
                ("target", "model", run_folder / "weights" / "target.pt"),
                ("scores", "attribution", run_folder / "attribution"),
            ):
                artifact = wandb.Artifact(f"{name}-{what}", kind, metadata={"from": dict(made)})
                if path.is_dir():
                    artifact.add_dir(str(path))
                else:
                    artifact.add_file(str(path))
                run.log_artifact(artifact)
                made[what] = artifact.digest

        self._try(log)

    def finish(self, exit_code: int = 0) -> None:
        """Close the run as finished (0) or failed (anything else); a second call does nothing.

        wandb's service process may write the last records a moment after this returns; it does so also when
        this process ends at once.
        """
        self._try(lambda run: run.finish(exit_code=exit_code))
        self._run = None

    def __enter__(self) -> Self:
        """The record itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish, as failed when the block ends with an exception."""
        self.finish(exit_code=0 if kind is None else 1)

    def _try(self, act: Callable[[Any], None]) -> None:
        """Do something with the W&B run; after a failure the record is silent."""
        if self._run is None:
            return
        try:
            act(self._run)
        except Exception as error:
            self._run = None
            _warn("recording in W&B stopped", error)


def resolve_mode(wanted: str) -> Mode:
    """The mode to start in: WANDB_MODE, else the wanted one, where `auto` asks whether wandb is logged in.

    Raises:
        ValueError: the mode is none of auto, online, offline, disabled.
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
    """Whether wandb has credentials, from wherever it reads them; nobody is asked and nothing is sent."""
    wandb = _quiet_wandb(offline=False)
    return bool(wandb.login(prompt=False, verify=False))


def _interrupted(folder: Path) -> tuple[str, str] | None:
    """Mode and id of the latest W&B run in a run folder, by the name that wandb gives its folder."""
    found = [_RUN_FOLDER.fullmatch(path.name) for path in (folder / "wandb").glob("*run-*")]
    latest = max((match for match in found if match), key=lambda match: match[2], default=None)
    return ("offline" if latest[1] else "online", latest[3]) if latest else None


def _init(
    mode: str,
    settings: RecordSettings,
    config: Mapping[str, Any],
    folder: Path,
    name: str,
    before: tuple[str, str] | None = None,
) -> Any:
    same: dict[str, Any] = {}
    if before is not None and mode == before[0] == "online":
        same = {"id": before[1], "resume": "allow"}
    elif before is not None:
        config, same = {**config, "continues": before[1]}, {"notes": f"continues {before[1]}"}
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
        **same,
    )  # fmt: skip


def _quiet_wandb(offline: bool) -> Any:
    """Import wandb, told not to print; offline it must not report its own errors to its makers either."""
    os.environ.setdefault("WANDB_SILENT", "true")
    if offline:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


def _warn(what: str, error: Exception) -> None:
    reason = str(error).strip().splitlines() or [""]
    _log.warning("W&B: %s (%s: %s)", what, type(error).__name__, reason[0])
