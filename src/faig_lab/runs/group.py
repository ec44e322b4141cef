"""A run in several processes, as the command line sees it: who starts them, and where each of them writes."""

import atexit
import logging
import shutil
import tempfile
import time
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from faig_lab import ranks
from faig_lab.files import write_text
from faig_lab.runs.folder import check_free, terminable
from faig_lab.runs.sweep import read_status

_PATIENCE = 20  # seconds


def own_place() -> list[str]:
    """Only the first process of a group has the run's folder and log; the others end without a trace."""
    if ranks.rank() == 0:
        return []
    place = tempfile.mkdtemp(prefix="faig_lab-rank-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    logging.disable(logging.INFO)
    return [f"hydra.run.dir='{place}'", "hydra.output_subdir=null"]


def let_the_cause_speak() -> None:
    """Wait before an error is told where it may only be that another process of the group is gone.

    Whoever started the group ends this one meanwhile.
    """
    if ranks.rank() > 0:
        time.sleep(_PATIENCE)


class GroupError(Exception):
    """The processes of a run failed and have said so; carries the exit code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def run_as_group(cfg: DictConfig, folder: Path, count: int) -> None:
    """Run the configuration as it is now, frozen in the run's folder, in several processes."""
    config = OmegaConf.to_yaml(cfg, resolve=True)
    check_free(folder, config)
    write_text(folder / "config.yaml", config)
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    with terminable():
        code = ranks.start([f"resume='{quoted}'", "trust=true"], count)  # it was written just now
    if code:
        raise GroupError(code, str(read_status(folder).get("error") or f"a process ended with {code}"))
