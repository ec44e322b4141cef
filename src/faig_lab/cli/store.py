"""task=store: list the store of trained networks, read every entry, and remove those that nobody needs."""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from filelock import Timeout
from omegaconf import DictConfig

from faig_lab.config import Settings, check
from faig_lab.config.messages import missing_path
from faig_lab.config.settings import PruneSettings
from faig_lab.errors import UserError
from faig_lab.files import read_tensors
from faig_lab.filters import content_fingerprint
from faig_lab.runs.store import Entry, lock_of

SOUND, PARTIAL = "sound", "unfinished, can go on"
_DAY = 86400


@dataclass(frozen=True)
class Found:
    """One folder of the store.

    Attributes:
        folder: where it is.
        state: "sound", "unfinished, can go on" (of a training or a study), or what is wrong with it.
        used: time of the last use, in seconds since 1970.
        size: of its files, in bytes.
        seed: of the training, iterations: its steps; empty where they cannot be read.
        runs: how many runs hold these weights.
    """

    folder: Path
    state: str
    used: float
    size: int
    seed: str = ""
    iterations: str = ""
    runs: int = 0

    @property
    def damaged(self) -> bool:
        """Whether it is of no use any more."""
        return self.state not in (SOUND, PARTIAL)


def run(cfg: DictConfig, folder: Path) -> None:
    """Print what the store holds, and what `prune` removes of it (or would).

    Raises:
        UserError: there is no such store.
    """
    settings = check(cfg)
    store = Path(settings.store).expanduser()
    if not store.is_dir():
        raise UserError(missing_path("store", store, "folder"))
    entries = survey(store, _runs_folder(settings, store))
    print(_listing(store, entries))
    chosen = to_remove(entries, settings.prune, time.time())
    if chosen:
        print("\n" + _removed(chosen, settings.prune.delete))


def survey(store: Path, runs: Path) -> list[Found]:
    """Every entry of a store, read completely.

    Args:
        store: its folder.
        runs: below it the runs are whose weights count as used.
    """
    held = list(_held_by(runs))
    folders = sorted(path for path in store.iterdir() if path.is_dir())
    return [_inspect(folder, held) for folder in folders]


def to_remove(entries: Sequence[Found], prune: PruneSettings, now: float) -> list[Found]:
    """The entries for which everything that `prune` gives holds; none if it gives nothing."""
    if not (prune.unused or prune.damaged or prune.older_than is not None or prune.keep):
        return []
    return [
        entry
        for entry in entries
        if not (prune.unused and entry.runs)
        and not (prune.damaged and not entry.damaged)
        and (prune.older_than is None or now - entry.used > prune.older_than * _DAY)
        and not any(fnmatch(entry.folder.name.lstrip("."), pattern) for pattern in prune.keep)
    ]


def remove(entry: Found) -> bool:
    """Remove an entry that no process is at work on: out of sight at once, then file by file; False if one may be.

    What is kept of an unfinished study has no lock; what was written within a day counts as being worked on.
    """
    name = entry.folder.name
    if name.startswith(".study-") and time.time() - entry.used < _DAY:
        return False
    of = entry.folder if not name.startswith(".") else entry.folder.with_name(name[1:].rpartition(".")[0])
    lock = lock_of(of)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    try:
        # Such a name is a leftover to whoever opens the entry next, should this process be killed now.
        doomed = entry.folder.rename(of.with_name(f".{of.name}.removed"))
        shutil.rmtree(doomed)
    finally:
        lock.release()
    return True


def _inspect(folder: Path, held: Sequence[str]) -> Found:
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    used, size = folder.stat().st_mtime, sum(file.st_size for file in files)
    if folder.name.startswith("."):
        state = PARTIAL if folder.suffix == ".partial" else "left half-written by a killed run"
        return Found(folder, state, max([used, *(file.st_mtime for file in files)]), size)
    try:
        content, description = _read(folder)
    except (UserError, OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split()).removeprefix("store: ").removesuffix(f"; delete the folder {folder}")
        return Found(folder, f"damaged: {reason}", used, size)
    seed, iterations = (str(description.get(name, "")) for name in ("seed", "iterations"))
    return Found(folder, SOUND, used, size, seed, iterations, held.count(content))


def _read(folder: Path) -> tuple[str, dict[str, Any]]:
    """Fingerprint and description of an entry, all of which is read; nothing is built from it."""
    description = Entry(folder).description()
    if not isinstance(description.get("network"), dict):
        raise ValueError("weights.yaml names no network")
    return content_fingerprint(Entry(folder).read().state), description


def _held_by(runs: Path) -> Iterator[str]:
    """Fingerprints of the weights in run folders; files that cannot be read hold nothing."""
    for path in sorted(runs.rglob("weights/*.pt")):
        try:
            yield content_fingerprint(read_tensors(path))
        except Exception:  # reading arbitrary bytes as a pickle, torch raises almost anything
            continue


def _runs_folder(settings: Settings, store: Path) -> Path:
    named = settings.prune.runs
    folder = store.resolve().parent if named is None else Path(named).expanduser()
    if not folder.is_dir():
        raise UserError(missing_path("prune.runs", folder, "folder"))
    return folder


def _listing(store: Path, entries: Sequence[Found]) -> str:
    rows = [("network", "seed", "iterations", "kB", "last used", "in runs", "state")]
    for entry in entries:
        used = date.fromtimestamp(entry.used).isoformat()
        size = f"{entry.size / 1000:,.0f}"
        rows.append((entry.folder.name, entry.seed, entry.iterations, size, used, str(entry.runs), entry.state))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:6], widths[1:]), row[6]]) for row in rows]
    damaged, whole = sum(entry.damaged for entry in entries), sum(entry.size for entry in entries)
    total = f"{len(entries)} entries, {whole / 1e6:,.1f} MB, {damaged} damaged, in {store}"
    return "\n".join([*lines, "", total]) if entries else total


def _removed(chosen: Sequence[Found], delete: bool) -> str:
    if not delete:
        names = "\n".join(f"  {entry.folder.name}" for entry in chosen)
        size = sum(entry.size for entry in chosen) / 1e6
        return f"would remove {len(chosen)} ({size:,.1f} MB); prune.delete=true does it\n{names}"
    lines = [f"  {entry.folder.name}{'' if remove(entry) else ': in use, stays'}" for entry in chosen]
    return "\n".join(["removed", *lines])
