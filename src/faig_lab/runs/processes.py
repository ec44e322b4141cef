"""One run in several processes: which one this is, and starting them.

The processes of a run form one group, whoever started them: torchrun, or the run itself, which then starts itself
anew with its frozen configuration (`resume=FOLDER`), so that a job of a multirun never starts the sweep again. The
first process (rank 0) writes everything; the others compute their share of training and attribution, and end.
"""

import atexit
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from faig_lab.config.messages import quoted
from faig_lab.errors import UserError, terminable
from faig_lab.files import write_text
from faig_lab.runs.folder import check_free
from faig_lab.runs.status import read_status

_LAUNCHED = "TORCHELASTIC_RUN_ID"  # by which torchrun is known, to Lightning too
_OURS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT", _LAUNCHED)
_HOURS = 24  # a rank may wait so long for another one, e.g. for a network that another run trains


def launched() -> bool:
    """Whether this process is one of a group."""
    return _LAUNCHED in os.environ


def rank() -> int:
    """The number of this process in its group; 0 where it is alone."""
    return int(os.environ.get("RANK", "0")) if launched() else 0


def local_rank() -> int:
    """The number of this process among those of the group on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) if launched() else 0


def world() -> int:
    """How many processes the group has; 1 where this one is alone."""
    return int(os.environ.get("WORLD_SIZE", "1")) if launched() else 1


def barrier() -> None:
    """Wait until every process of the group is here; nothing where this one is alone."""
    if world() > 1:
        import torch.distributed

        torch.distributed.barrier()


def needed(cfg: DictConfig, multirun: bool) -> int:
    """How many processes this one has to start for its run; 1 if it computes itself, also as one of a group.

    Raises:
        UserError: the group, or the number of machines, is not what the settings ask for.
    """
    if cfg.task != "study":
        return 1
    count, nodes = wanted(cfg.trainer.accelerator, cfg.trainer.devices), int(cfg.trainer.num_nodes)
    if launched() and multirun:
        raise UserError("-m: a multirun starts the processes of its jobs itself; leave torchrun out")
    if launched() and count * nodes != world():
        raise UserError(
            f"trainer.devices: {count} × trainer.num_nodes = {nodes}, but {world()} processes were started; "
            "both must say the same"
        )
    if nodes > 1 and not launched():
        raise UserError(f"trainer.num_nodes: {nodes}: start the run by torchrun on every machine; see docs/resume.md")
    if cfg.training.batch_size % (count * nodes):
        raise UserError(
            f"training.batch_size: {cfg.training.batch_size} is not a multiple of the {count * nodes} processes that "
            "share it"
        )
    return 1 if launched() else count


def wanted(accelerator: str, devices: object) -> int:
    """How many processes the settings of a trainer ask for on one machine: one for each device."""
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, int) and devices > 0:
        return devices
    if accelerator == "cpu":
        return 1
    import torch

    return max(1, torch.cuda.device_count())


@contextmanager
def group(gpu: int | None) -> Iterator[None]:
    """Join the group; afterwards this process is alone. Nothing happens where it is alone anyway.

    Args:
        gpu: the CUDA device of this process, None for the CPU.
    """
    if world() == 1:
        yield
        return
    import torch

    if gpu is not None:
        torch.cuda.set_device(gpu)
    backend = "gloo" if gpu is None else "cpu:gloo,cuda:nccl"
    torch.distributed.init_process_group(backend, timeout=timedelta(hours=_HOURS))
    try:
        yield
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()
    for name in _OURS:
        os.environ.pop(name, None)


def start_group(arguments: Sequence[str], count: int) -> int:
    """Run `python -m faig_lab <arguments>` as a group of processes on this machine; the exit code of the first failure.

    When one fails the others are ended; when this process is interrupted or terminated, so are they.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "GROUP_RANK": 0, "MASTER_PORT": port}
    shared |= {"MASTER_ADDR": "127.0.0.1", _LAUNCHED: f"faig_lab-{os.getpid()}"}
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}  # not all cores for each process
    command = [sys.executable, "-m", "faig_lab", *arguments]
    started = []
    try:
        for number in range(count):
            own = {name: str(value) for name, value in {**shared, "RANK": number, "LOCAL_RANK": number}.items()}
            started.append(subprocess.Popen(command, env={**threads, **os.environ, **own}))
        return _wait(started)
    finally:
        _end(started)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Until all are done or one has failed."""
    while True:
        codes = [process.poll() for process in processes]
        failed = [code for code in codes if code]
        if failed:
            # The first one knows best what went wrong; give it a moment to say so.
            time.sleep(1)
            return processes[0].poll() or failed[0]
        if all(code == 0 for code in codes):
            return 0
        time.sleep(0.1)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End those that still run: asked first, then killed."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_PATIENCE = 20  # seconds


def own_place() -> list[str]:
    """Only the first process of a group has the run's folder and log; the others end without a trace."""
    if rank() == 0:
        return []
    place = tempfile.mkdtemp(prefix="faig_lab-rank-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    logging.disable(logging.INFO)
    return [f"hydra.run.dir={quoted(place)}", "hydra.output_subdir=null"]


def let_the_cause_speak() -> None:
    """Wait before an error is told where it may only be that another process of the group is gone.

    Whoever started the group ends this one meanwhile.
    """
    if rank() > 0:
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
    with terminable():
        code = start_group([f"resume={quoted(folder)}", "trust=true"], count)  # it was written just now
    if code:
        raise GroupError(code, str(read_status(folder).get("error") or f"a process ended with {code}"))
