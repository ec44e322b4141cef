"""Computations as CUDA graphs: one launch in place of some hundred.

A network of many small layers keeps a GPU waiting: the processor takes longer to launch its kernels than the GPU to run
them. A CUDA graph holds all launches of a computation, recorded once, and replays them on the same memory.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Result = TypeVar("Result")
_Computation = Callable[[Sequence[Tensor]], list[Tensor]]

DEVICE = "cuda"
"""The kind of device that records."""

CALLS_BEFORE = 2
"""Number of calls of a kind that run unrecorded first. They choose kernels, and a kind may have no more calls."""

MOST_KINDS = 8
"""Kinds of which recordings are kept; each holds the memory of its inputs and results."""


def recorded_on(tensor: Tensor) -> bool:
    """Return whether computations are recorded on the device of a tensor."""
    return tensor.device.type == DEVICE


def record(run: Callable[[], Result], pool: Any = None) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Record a computation, which has run before, and return its graph and its result, which a replay overwrites.

    Args:
        run: works on tensors that stay where they are.
        pool: the memory of another graph or of `torch.cuda.graph_pool_handle`.

    Raises:
        RuntimeError: the computation cannot be recorded, e.g. because it waits for the device.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):  # other threads may copy batches
            result = run()
    except RuntimeError:
        torch.cuda.set_stream(stream)  # a recording that breaks off leaves its own stream behind
        raise
    return graph, result


def warm_up(run: Callable[[], object], times: int = 3) -> None:
    """Run a computation on a stream of its own, as it will be recorded: libraries choose kernels and take memory."""
    stream, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's has no types
    side.wait_stream(stream)
    with torch.cuda.stream(side):
        for _ in range(times):
            run()
    stream.wait_stream(side)


class Replays:
    """Recordings of a function of tensors, one for each kind of call.

    All recordings share their memory. So results last until the next call.
    """

    def __init__(self) -> None:
        self._calls: dict[Hashable, int] = {}
        self._recordings: OrderedDict[Hashable, _Computation | None] = OrderedDict()
        self._pool: Any = None

    def __call__(self, kind: Hashable, run: _Computation, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the results of `run(inputs)`; they last until the next call.

        Args:
            kind: everything beside the tensors that the function depends on. Shapes, precisions, memory formats and
                PyTorch's modes of precision count too.
            run: the function; it keeps no tensor that it gets.
            inputs: the tensors. On a processor nothing is recorded.
        """
        if not recorded_on(inputs[0]):
            return run(inputs)
        key = kind, modes(), tuple((value.shape, value.stride(), value.dtype) for value in inputs)
        if key not in self._recordings:
            self._calls[key] = self._calls.get(key, 0) + 1
            if self._calls[key] <= CALLS_BEFORE:
                return run(inputs)
            self._record(key, run, inputs)
        recording = self._recordings[key]
        self._recordings.move_to_end(key)
        return run(inputs) if recording is None else recording(inputs)

    def _record(self, key: Hashable, run: _Computation, inputs: Sequence[Tensor]) -> None:
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            own = [value.detach().clone() for value in inputs]  # `clone` keeps the memory format
            graph, results = record(lambda: run(own), self._pool)
        except RuntimeError as error:
            log.debug("CUDA graphs: not used, since recording failed: %s", " ".join(str(error).split())[:200])
            self._recordings[key] = None
        else:

            def replay(given: Sequence[Tensor]) -> list[Tensor]:
                torch._foreach_copy_(own, list(given))
                graph.replay()
                return results

            self._recordings[key] = replay
        if len(self._recordings) > MOST_KINDS:
            self._recordings.popitem(last=False)


def modes() -> tuple[object, ...]:
    """Return PyTorch's modes that change how a GPU computes."""
    found: list[object] = [torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic]
    places: tuple[Any, ...] = torch.backends.cudnn, torch.backends.cuda.matmul
    for flags in places:
        with suppress(RuntimeError):  # raised where the newer interface was used
            found.append(flags.allow_tf32)
    return tuple(found)
