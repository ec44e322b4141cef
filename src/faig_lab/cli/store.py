"""task=store: list the store of trained networks, read every entry, and remove entries that are not needed."""

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatch
from pathlib import Path

import yaml
from filelock import Timeout
from omegaconf import DictConfig

from faig_lab.config import check
from faig_lab.config.messages import missing_path
from faig_lab.config.settings import PruneSettings
from faig_lab.errors import UserError
from faig_lab.files import read_tensors
from faig_lab.filters import content_fingerprint
from faig_lab.runs.store import Entry, lock_of
from faig_lab.runs.tables import aligned

SOUND, PARTIAL = "sound", "unfinished, can go on"
_DAY = 86400


@dataclass(frozen=True)
class StoredFolder:
    """One folder of the store.

    Attributes:
        folder: the path.
        state: "sound", "unfinished, can go on" (of a training or a study), or the damage.
        used: time of the last use, in seconds since 1970.
        size: bytes of its files.
        seed: seed of the training; empty if it cannot be read.
        iterations: steps of the training; empty if they cannot be read.
        runs: number of runs with these weights.
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
        """Return whether the folder is damaged."""
        return self.state not in (SOUND, PARTIAL)


def run(cfg: DictConfig, folder: Path) -> None:
    """Print the entries of the store, and the entries that `prune` removes (or would remove).

    Raises:
        UserError: the store does not exist.
    """
    settings = check(cfg)
    store = Path(settings.store).expanduser()
    if not store.is_dir():
        raise UserError(missing_path("store", store, "folder"))
    prune = settings.prune
    runs = store.resolve().parent if prune.runs is None else Path(prune.runs).expanduser()
    if not runs.is_dir():
        raise UserError(missing_path("prune.runs", runs, "folder"))
    entries = survey(store, runs)
    rows = [("network", "seed", "iterations", "kB", "last used", "in runs", "state")]
    for entry in entries:
        used, size = date.fromtimestamp(entry.used).isoformat(), f"{entry.size / 1000:,.0f}"
        rows.append((entry.folder.name, entry.seed, entry.iterations, size, used, str(entry.runs), entry.state))
    if entries:
        print("\n".join([*aligned(rows, left=(0, 6)), ""]))
    damaged, megabytes = sum(entry.damaged for entry in entries), sum(entry.size for entry in entries) / 1e6
    print(f"{len(entries)} entries, {megabytes:,.1f} MB, {damaged} damaged, in {store}")
    chosen = to_remove(entries, prune, time.time())
    if chosen and prune.delete:
        lines = [f"  {entry.folder.name}{'' if remove(entry) else ': in use, stays'}" for entry in chosen]
        print("\n".join(["\nremoved", *lines]))
    elif chosen:
        megabytes = sum(entry.size for entry in chosen) / 1e6
        print(f"\nwould remove {len(chosen)} ({megabytes:,.1f} MB); prune.delete=true does it")
        print("\n".join(f"  {entry.folder.name}" for entry in chosen))


def survey(store: Path, runs: Path) -> list[StoredFolder]:
    """Read every entry of a store completely.

    Args:
        store: the folder of the store.
        runs: the folder above all runs whose weights count as used.
    """
    held = []  # fingerprints of the weights of all runs
    for path in runs.rglob("weights/*.pt"):
        with suppress(Exception):  # reading arbitrary bytes as a pickle, torch raises almost anything
            held.append(content_fingerprint(read_tensors(path)))
    folders = sorted(path for path in store.iterdir() if path.is_dir())
    return [_inspect(folder, held) for folder in folders]


def to_remove(entries: Sequence[StoredFolder], prune: PruneSettings, now: float) -> list[StoredFolder]:
    """Return the entries that meet all conditions of `prune`; none if `prune` has no condition."""
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


def remove(entry: StoredFolder) -> bool:
    """Remove an entry and return True; return False if a process may be using the entry.

    The entry is renamed first and then removed file by file. The results of an unfinished study have no lock. They
    count as used if they were written within the last day.
    """
    name = entry.folder.name
    if name.startswith(".study-") and time.time() - entry.used < _DAY:
        return False
    locked = entry.folder if not name.startswith(".") else entry.folder.with_name(name[1:].rpartition(".")[0])
    lock = lock_of(locked)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    try:
        # If this process is killed now, the next process that opens the entry removes a folder of this name.
        shutil.rmtree(entry.folder.rename(locked.with_name(f".{locked.name}.removed")))
    finally:
        lock.release()
    return True


def _inspect(folder: Path, held: Sequence[str]) -> StoredFolder:
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    used, size = folder.stat().st_mtime, sum(file.st_size for file in files)
    if folder.name.startswith("."):
        state = PARTIAL if folder.suffix == ".partial" else "left half-written by a killed run"
        return StoredFolder(folder, state, max([used, *(file.st_mtime for file in files)]), size)
    try:
        description = Entry(folder).description()
        if not isinstance(description.get("network"), dict):
            raise ValueError("weights.yaml names no network")
        content = content_fingerprint(Entry(folder).load(None, mark=False).state)  # no network is built
    except (UserError, OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split()).removeprefix("store: ").removesuffix(f"; delete the folder {folder}")
        return StoredFolder(folder, f"damaged: {reason}", used, size)
    seed, iterations = (str(description.get(name, "")) for name in ("seed", "iterations"))
    return StoredFolder(folder, SOUND, used, size, seed, iterations, held.count(content))
