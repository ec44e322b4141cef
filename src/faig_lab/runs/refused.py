"""A run that never started leaves no folder: neither its own nor those that were made for it above."""

import os
import shutil
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

_new: set[Path] = set()


class FoldersBefore(Callback):
    """Hydra calls this before it makes the folder of a run; afterwards nobody knows which folders are new."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember which of the folders that the run will lie in do not exist yet."""
        _new.clear()
        # A name such as ../x makes folders that are no parents of the run's folder any more once `..` is worked out.
        parents = (Path(os.path.normpath(folder)) for folder in Path(config.hydra.run.dir).absolute().parents)
        _new.update(folder for folder in parents if not folder.exists())


def discard(folder: Path) -> None:
    """Remove the folder of a run that never started, if it holds only what Hydra put there; then those new above it."""
    ours = {".hydra", f"{HydraConfig.get().job.name}.log"}
    if {entry.name for entry in folder.iterdir()} <= ours:
        shutil.rmtree(folder)
        for parent in sorted(_new, key=lambda path: len(path.parts), reverse=True):
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
