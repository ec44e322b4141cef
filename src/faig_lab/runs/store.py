"""The store of trained networks: each network is trained once, and all runs that need the network share it.

An entry is a folder named after the fingerprint of everything that determines the weights. The entry is written to a
temporary folder and then renamed, so a reader never sees an incomplete entry. A lock prevents two runs from training
the same network at the same time. The lock belongs to the process and ends with it.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from torch import nn

from faig_lab.errors import UserError
from faig_lab.files import UNWRITABLE, write_json, write_text
from faig_lab.filters import (
    content_fingerprint,
    fingerprint,
    load_weights,
    objection,
    read_states,
    read_weights,
    save_weights,
    write_states,
)
from faig_lab.runs import processes
from faig_lab.training.plan import Trained

log = logging.getLogger(__name__)

_VERSION_KEYS = ("numerics", "code")
"""The determinants of the version of faig_lab: a number, or a hash of the code in entries of earlier versions."""

CONTENT = "content"
"""The key of weights.yaml for `content_fingerprint`. Entries of earlier versions lack it."""


class Entry:
    """An entry of the store: a folder that exists completely or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def exists(self) -> bool:
        """Whether the store has the network."""
        return (self.folder / "weights.pt").is_file()

    @property
    def partial(self) -> Path:
        """The folder for the checkpoint of the training. It is removed when the entry is complete."""
        return self.folder.with_name(f".{self.folder.name}.partial")

    def load(self, network: nn.Module | None, *, mark: bool = True) -> Trained:
        """Read the weights and the training record. With `mark` the time of the entry's last use becomes now.

        Args:
            network: the network of the weights; None: the weights are read as they are in the file.
            mark: whether this is a use of the entry.

        Raises:
            UserError: a file of the entry is damaged, if only by one bit, or weights are not finite.
        """
        try:
            trained = self._read(network)
        except UserError as error:  # without the folder the network is trained again
            raise UserError(f"{error}; delete the folder {self.folder}") from error
        if mark:
            with suppress(OSError):  # a read-only store has no time of the last use
                os.utime(self.folder)
        return trained

    def _read(self, network: nn.Module | None) -> Trained:
        """Return the weights with the training record, if the weights are unchanged since the entry was written."""
        file, trajectory = self.folder / "weights.pt", self.folder / "trajectory.pt"
        if network is not None:
            state = load_weights(file, network, "store")
        else:
            state = read_weights(file, "store")
            for name, value in state.items():
                fault = objection(value, value.dtype)
                if fault is not None:
                    raise UserError(f"store: {file}: {name} {fault}")
        try:
            history = json.loads((self.folder / "history.json").read_text(encoding="utf-8"))
            description = self.description()
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"store: {self.folder} is damaged ({reason})") from error
        if description.get(CONTENT) not in (None, content_fingerprint(state)):
            raise UserError(f"store: {self.folder} is damaged (weights.pt is not what was written)")
        return Trained(
            state,
            history,
            read_states(trajectory, "store") if trajectory.is_file() else (),
            description.get("channels_last"),
            description.get("patches") == "device",
        )

    def description(self) -> dict[str, Any]:
        """Return the content of weights.yaml. A damaged file raises OSError, ValueError or YAMLError."""
        description = yaml.safe_load((self.folder / "weights.yaml").read_text(encoding="utf-8"))
        if not isinstance(description, dict):
            raise ValueError("weights.yaml is no description")
        return description

    def publish(self, trained: Trained, description: Mapping[str, Any]) -> None:
        """Write the entry to a temporary folder and rename the folder. Only the first rank writes."""
        if processes.rank() > 0:
            return
        building = self.folder.with_name(f".{self.folder.name}.{os.getpid()}")
        shutil.rmtree(building, ignore_errors=True)
        try:
            content = {CONTENT: content_fingerprint(trained.state)}
            save_weights(building / "weights.pt", trained.state, {**description, **content})
            write_json(building / "history.json", trained.history)
            if trained.trajectory:
                write_states(building / "trajectory.pt", trained.trajectory)
            building.rename(self.folder)
            shutil.rmtree(self.partial, ignore_errors=True)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise


def lock_of(folder: Path) -> FileLock:
    """Return the lock of an entry. The kernel releases the lock at the end of the process."""
    return FileLock(folder.with_name(f".{folder.name}.lock"))


def place(root: Path, name: str, determinants: Mapping[str, Any]) -> Entry:
    """Return the entry of a network, which may not exist. Nothing is locked (see `open_entry`)."""
    return Entry(root / f"{name}-{fingerprint(determinants)}")


@contextmanager
def open_entry(root: Path, name: str, determinants: Mapping[str, Any]) -> Iterator[Entry]:
    """Lock the entry of a network and yield it. Another run that needs the same network waits here.

    Args:
        root: the store's folder.
        name: the readable half of the folder's name, which describes the network.
        determinants: everything that determines the weights, as plain data.
    """
    entry = place(root, name, determinants)
    if processes.rank() > 0:
        processes.barrier()  # until the first rank has the lock; then the entry stays unchanged
        yield entry
        return
    root.mkdir(parents=True, exist_ok=True)
    lock = lock_of(entry.folder)
    try:
        _acquire(lock, entry, name)
        processes.barrier()
        yield entry
    finally:
        lock.release()


def _acquire(lock: FileLock, entry: Entry, name: str) -> None:
    """Wait for the lock of an entry and remove what a killed process left of it. A read-only store needs no lock."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another run is training %s; waiting for its end", name)
        lock.acquire()
    except OSError as error:
        if error.errno not in UNWRITABLE or not entry.exists:
            raise
        return
    for left in entry.folder.parent.glob(f".{entry.folder.name}.*"):
        if left.suffix != ".lock" and (left != entry.partial or entry.exists):
            shutil.rmtree(left, ignore_errors=True)


def entries_of_other_versions(root: Path, name: str, determinants: Mapping[str, Any]) -> list[Path]:
    """Return the entries of the same network and training that another version of faig_lab left in a store.

    Args:
        root: the store's folder.
        name: the readable half of the folder's name.
        determinants: everything that determines the weights in this version.
    """
    wanted = fingerprint(_without_version(determinants))
    folders = []
    for folder in sorted(root.glob(f"{name}-*")):
        with suppress(OSError, ValueError, yaml.YAMLError):
            other = Entry(folder).description().get("determinants")
            if isinstance(other, dict) and fingerprint(_without_version(other)) == wanted:
                folders += [folder] if any(other.get(key) != determinants.get(key) for key in _VERSION_KEYS) else []
    return folders


def adopt(folder: Path, numerics_version: int) -> Path:
    """Rename an entry of another version, so that runs of this version use it. Return the new folder.

    Use the function only if this version of faig_lab trains the same weights.

    Args:
        folder: the entry.
        numerics_version: `NUMERICS_VERSION`.

    Raises:
        UserError: the entry has no record of its determinants, or an entry of this version exists already.
    """
    try:
        description = Entry(folder).description()
        recorded = dict(description["determinants"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"store: {folder} has no record of the determinants of its weights ({error})") from error
    determinants = _without_version(recorded) | {"numerics": numerics_version}
    new = folder.with_name(f"{folder.name.rpartition('-')[0]}-{fingerprint(determinants)}")
    with lock_of(new):
        if new.exists():
            raise UserError(f"store: {new} exists already")
        text = yaml.safe_dump({**description, "determinants": determinants}, sort_keys=False, allow_unicode=True)
        write_text(folder / "weights.yaml", text)
        folder.rename(new)
    return new


def _without_version(determinants: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in determinants.items() if key not in _VERSION_KEYS}
