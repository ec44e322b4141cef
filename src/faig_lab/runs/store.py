"""The store of trained networks: each is trained once and shared by every run that needs the same one.

An entry is a folder named after the fingerprint of everything that determines the weights. It is built beside
and renamed into place, so a reader never sees half of one; a lock keeps two runs from training the same
network at the same time. The lock belongs to the process: if that is killed, the lock is gone with it.
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
from torch import Tensor, nn

from faig_lab.errors import UserError
from faig_lab.files import write_json, write_text
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
from faig_lab.resources import UNWRITABLE
from faig_lab.runs import processes
from faig_lab.training.plan import Trained

log = logging.getLogger(__name__)

_VERSION_KEYS = ("numerics", "code")
"""The determinants that stand for a version of faig_lab: a number; a hash of its code in entries from before."""

CONTENT = "content"
"""The key of weights.yaml for `content_fingerprint`; entries from before it lack it."""


class Entry:
    """One place in the store: a folder that exists completely or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def exists(self) -> bool:
        """Whether the network is there."""
        return (self.folder / "weights.pt").is_file()

    @property
    def partial(self) -> Path:
        """The folder beside the entry for the checkpoint of its training; it goes when the entry is there."""
        return self.folder.with_name(f".{self.folder.name}.partial")

    def load(self, network: nn.Module, *, mark: bool = True) -> Trained:
        """Read the weights and the training record; `mark` makes it the entry's last use.

        Raises:
            UserError: a file of the entry is damaged, be it by one bit.
        """
        with self._advice():
            trained = self._checked(load_weights(self.folder / "weights.pt", network, key="store"))
        if mark:
            self._mark_used()
        return trained

    def read(self) -> Trained:
        """As `load`, without a network to compare with, so that nothing has to be built, and without marking it used.

        Raises:
            UserError: a file of the entry is damaged, or weights are not finite.
        """
        with self._advice():
            state = read_weights(self.folder / "weights.pt", key="store")
            for name, value in state.items():
                fault = objection(value, value.dtype)
                if fault is not None:
                    raise UserError(f"store: {self.folder / 'weights.pt'}: {name} {fault}")
            return self._checked(state)

    @contextmanager
    def _advice(self) -> Iterator[None]:
        """Add to the refusal of any file of the entry what to do: the network is trained again."""
        try:
            yield
        except UserError as error:
            raise UserError(f"{error}; delete the folder {self.folder}") from error

    def _checked(self, state: dict[str, Tensor]) -> Trained:
        """With the training record, if they are the weights that were written."""
        try:
            history = json.loads((self.folder / "history.json").read_text(encoding="utf-8"))
            recorded = self.description().get(CONTENT)
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"store: {self.folder} is damaged ({reason})") from error
        if recorded not in (None, content_fingerprint(state)):
            raise UserError(f"store: {self.folder} is damaged (weights.pt is not what was written)")
        return Trained(state, history, self._trajectory())

    def _trajectory(self) -> tuple[dict[str, Tensor], ...]:
        """The states saved on the way; none where the training saved none."""
        path = self.folder / "trajectory.pt"
        return read_states(path, "store") if path.is_file() else ()

    def description(self) -> dict[str, Any]:
        """What weights.yaml says of the network; a damaged file raises OSError, ValueError or YAMLError."""
        found = yaml.safe_load((self.folder / "weights.yaml").read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("weights.yaml is no description")
        return found

    def _mark_used(self) -> None:
        """The folder's own time is that of its last use; a store that cannot be written to has none."""
        with suppress(OSError):
            os.utime(self.folder)

    def publish(self, trained: Trained, description: Mapping[str, Any]) -> None:
        """Write the entry beside and rename it into place; of several ranks the first one does."""
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
    """The lock of an entry; the kernel lets go of it when its process ends, however it ends."""
    return FileLock(folder.with_name(f".{folder.name}.lock"))


def place(root: Path, name: str, determinants: Mapping[str, Any]) -> Entry:
    """The entry of a network, whether it is there or not; nothing is locked (see `open_entry`)."""
    return Entry(root / f"{name}-{fingerprint(determinants)}")


@contextmanager
def open_entry(root: Path, name: str, determinants: Mapping[str, Any]) -> Iterator[Entry]:
    """Lock the entry of a network and yield it; another run that needs the same one waits here.

    Args:
        root: the store's folder.
        name: what the network is, the readable half of the folder's name.
        determinants: everything that determines its weights, as plain data.
    """
    entry = place(root, name, determinants)
    if processes.rank() > 0:
        processes.barrier()  # until the first rank holds the lock: from now on the entry stays as it is
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
    """Wait for the lock of an entry and remove leftovers; a store for reading only has no lock and needs none."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s is being trained by another run; waiting for it", name)
        lock.acquire()
    except OSError as error:
        if error.errno not in UNWRITABLE or not entry.exists:
            raise
        return
    _remove_leftovers(entry)


def _remove_leftovers(entry: Entry) -> None:
    """Remove what a killed process left of an entry; whoever holds the lock is the only one at work on it."""
    for left in entry.folder.parent.glob(f".{entry.folder.name}.*"):
        if left.suffix != ".lock" and (left != entry.partial or entry.exists):
            shutil.rmtree(left, ignore_errors=True)


def entries_of_other_versions(root: Path, name: str, determinants: Mapping[str, Any]) -> list[Path]:
    """The entries of the same network, with the same training, that another version of faig_lab left in a store.

    Args:
        root: the store's folder.
        name: the readable half of the folder's name.
        determinants: everything that determines the weights, today.
    """
    wanted, version = _without_version(determinants), _version(determinants)
    found = []
    for folder in sorted(root.glob(f"{name}-*")):
        with suppress(OSError, ValueError, yaml.YAMLError):
            other = Entry(folder).description().get("determinants")
            if isinstance(other, dict) and _without_version(other) == wanted and _version(other) != version:
                found.append(folder)
    return found


def adopt(folder: Path, numerics_version: int) -> Path:
    """Rename an entry of another version, so that a run which needs the network finds it; its new folder.

    Do so only where you know that this version of faig_lab trains the same weights.

    Args:
        folder: the entry.
        numerics_version: `NUMERICS_VERSION`.

    Raises:
        UserError: it is no entry with a record of what determined its weights, or there is such an entry already.
    """
    try:
        description = Entry(folder).description()
        recorded = dict(description["determinants"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"store: {folder} has no record of what determined its weights ({error})") from error
    plain = {key: value for key, value in recorded.items() if key not in _VERSION_KEYS}
    determinants = plain | {"numerics": numerics_version}
    new = folder.with_name(f"{folder.name.rpartition('-')[0]}-{fingerprint(determinants)}")
    with lock_of(new):
        if new.exists():
            raise UserError(f"store: {new} is there already")
        text = yaml.safe_dump({**description, "determinants": determinants}, sort_keys=False, allow_unicode=True)
        write_text(folder / "weights.yaml", text)
        folder.rename(new)
    return new


def _without_version(determinants: Mapping[str, Any]) -> str:
    return fingerprint({key: value for key, value in determinants.items() if key not in _VERSION_KEYS})


def _version(determinants: Mapping[str, Any]) -> list[Any]:
    return [determinants.get(key) for key in _VERSION_KEYS]
