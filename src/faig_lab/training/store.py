"""The store of trained networks: each is trained once and shared by every run that needs the same one.

An entry is a folder named after the fingerprint of everything that determines the weights. It is built beside
and renamed into place, so a reader never sees half of one; a lock keeps two runs from training the same
network at the same time. The lock belongs to the process: if that is killed, the lock is gone with it.
"""

import ast
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

import faig_lab
from faig_lab.errors import UserError
from faig_lab.files import write_json
from faig_lab.networks import load_weights, save_weights
from faig_lab.training.fit import Trained

log = logging.getLogger(__name__)

NUMERICS = ("data", "networks", "training")
"""The rooms whose code decides what weights come out of a training."""


def fingerprint(determinants: Mapping[str, Any]) -> str:
    """Sixteen hex digits that stand for plain data, whatever the order of its keys."""
    text = json.dumps(determinants, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def numerics_version() -> str:
    """A fingerprint of the code that training runs through: comments and docstrings do not count."""
    root = Path(faig_lab.__file__).parent
    trees = {
        str(path.relative_to(root)): ast.dump(_without_docstrings(ast.parse(path.read_text(encoding="utf-8"))))
        for room in NUMERICS
        for path in sorted((root / room).rglob("*.py"))
    }
    return fingerprint({"torch": torch.__version__, **trees})


class Entry:
    """One place in the store: a folder that exists completely or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def exists(self) -> bool:
        """Whether the network is there."""
        return (self.folder / "weights.pt").is_file()

    def load(self, network: nn.Module) -> Trained:
        """Read the weights and the training record.

        Raises:
            UserError: a file of the entry is damaged.
        """
        state = load_weights(self.folder / "weights.pt", network, key="store")
        try:
            history = json.loads((self.folder / "history.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"store: {self.folder} is damaged ({error}); delete the folder") from error
        return Trained(state, history)

    def publish(self, trained: Trained, description: Mapping[str, Any]) -> None:
        """Write the entry beside and rename it into place."""
        building = self.folder.with_name(f".{self.folder.name}.{os.getpid()}")
        shutil.rmtree(building, ignore_errors=True)
        try:
            save_weights(building / "weights.pt", trained.state, description)
            write_json(building / "history.json", trained.history)
            building.rename(self.folder)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise


@contextmanager
def open_entry(root: Path, name: str, determinants: Mapping[str, Any]) -> Iterator[Entry]:
    """Lock the entry of a network and yield it; another run that needs the same one waits here.

    Args:
        root: the store's folder.
        name: what the network is, the readable half of the folder's name.
        determinants: everything that determines its weights, as plain data.
    """
    entry = Entry(root / f"{name}-{fingerprint(determinants)}")
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / f".{entry.folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s is being trained by another run; waiting for it", name)
        lock.acquire()
    try:
        yield entry
    finally:
        lock.release()


_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _without_docstrings(tree: ast.AST) -> ast.AST:
    """The tree with every docstring removed, in place."""
    for node in ast.walk(tree):
        if isinstance(node, _Documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree
