"""One run in several processes: the rank of this process, and the start of the processes.

The processes of a run form a group. Either torchrun starts them, or the run starts them with its frozen configuration
(`resume=FOLDER`), so that a job of a multirun never starts the sweep again. The first process (rank 0) writes all
files. The other processes compute their share of training and attribution, and end.
"""

import atexit
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf

from faig_lab.config.messages import quoted
from faig_lab.errors import UserError, terminable
from faig_lab.files import write_text
from faig_lab.runs.folder import check_free, read_status

_LAUNCHED = "TORCHELASTIC_RUN_ID"  # torchrun sets this variable, and Lightning reads it too
_OURS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT", _LAUNCHED)
_HOURS = 24  # a rank may wait this long for another rank, e.g. for a network that another run trains

T = TypeVar("T")


def launched() -> bool:
    """Return whether this process belongs to a group."""
    return _LAUNCHED in os.environ


def rank() -> int:
    """Return the number of this process in its group; 0 for a single process."""
    return int(os.environ.get("RANK", "0")) if launched() else 0


def local_rank() -> int:
    """Return the number of this process among the processes of the group on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) if launched() else 0


def world() -> int:
    """Return the number of processes of the group; 1 for a single process."""
    return int(os.environ.get("WORLD_SIZE", "1")) if launched() else 1


def barrier() -> None:
    """Wait for all processes of the group. A single process does not wait."""
    if world() > 1:
        import torch.distributed

        torch.distributed.barrier()


def from_first(compute: Callable[[], T]) -> T:
    """Return what the first process of the group computes. Every process of the group calls this function."""
    if world() == 1:
        return compute()
    import torch.distributed

    values: list[Any] = [compute() if rank() == 0 else None]
    torch.distributed.broadcast_object_list(values, src=0)
    return cast(T, values[0])


def needed(cfg: DictConfig, multirun: bool) -> int:
    """Return how many processes this process has to start for its run; 1 if this process itself computes.

    Raises:
        UserError: the size of the group or the number of machines differs from the settings.
    """
    if cfg.task != "study":
        return 1
    count, nodes = wanted(cfg.trainer.accelerator, cfg.trainer.devices), int(cfg.trainer.num_nodes)
    if launched() and multirun:
        raise UserError("-m: a multirun starts the processes of its jobs itself; leave torchrun out")
    if launched() and count * nodes != world():
        raise UserError(
            f"trainer.devices: {count} × trainer.num_nodes = {nodes}, but {world()} processes were started; "
            "the numbers must agree"
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
    """Return how many processes the trainer's settings need on one machine: one process for each device."""
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
    """Join the group and leave it at the end. A single process does nothing.

    Args:
        gpu: the CUDA device of this process; None for the CPU.
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
    """Run `python -m faig_lab <arguments>` as a group of processes, and return the exit code of the first failure.

    If a process fails, the other processes are ended. They are also ended if this process is interrupted or terminated.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "GROUP_RANK": 0, "MASTER_PORT": port}
    shared |= {"MASTER_ADDR": "127.0.0.1", _LAUNCHED: f"faig_lab-{os.getpid()}"}
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}  # not all cores for each process
    command = [sys.executable, "-m", "faig_lab", *arguments]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(count):
            ranks = {name: str(value) for name, value in {**shared, "RANK": number, "LOCAL_RANK": number}.items()}
            started.append(subprocess.Popen(command, env={**threads, **os.environ, **ranks}))
        while True:
            codes = [process.poll() for process in started]
            failed = [code for code in codes if code]
            if failed:
                # The first process logs the reason, so it gets a moment to do so.
                time.sleep(1)
                return started[0].poll() or failed[0]
            if all(code == 0 for code in codes):
                return 0
            time.sleep(0.1)
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


_PATIENCE = 20  # seconds


def own_place() -> list[str]:
    """Return settings that give further processes a temporary folder. Only the first process uses the run folder."""
    if rank() == 0:
        return []
    place = tempfile.mkdtemp(prefix="faig_lab-rank-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    logging.disable(logging.INFO)
    return [f"hydra.run.dir={quoted(place)}", "hydra.output_subdir=null"]


def let_the_cause_speak() -> None:
    """Wait before a further process reports an error, which may only mean that another process has ended.

    Meanwhile the starter of the group ends this process.
    """
    if rank() > 0:
        time.sleep(_PATIENCE)


class GroupError(Exception):
    """The processes of a run failed and have logged the reason; carries the exit code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def run_as_group(cfg: DictConfig, folder: Path, count: int) -> None:
    """Write the configuration to the run's folder, and run it in several processes."""
    config = OmegaConf.to_yaml(cfg, resolve=True)
    check_free(folder, config)
    write_text(folder / "config.yaml", config)
    with terminable():
        # The configuration can be trusted, since this process has just written it.
        code = start_group([f"resume={quoted(folder)}", "trust=true"], count)
    if code:
        raise GroupError(code, str(read_status(folder).get("error") or f"a process ended with {code}"))
