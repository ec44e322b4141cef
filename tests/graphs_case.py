"""CUDA graphs on the processor: a replay computes again and writes into the memory of the first result."""

from functools import partial

import torch

from faig_lab import cuda_graphs


class Graph:
    """In place of a CUDA graph.

    Args:
        run: the recorded computation.
        result: its tensors, which replays write into.
    """

    def __init__(self, run, result):
        self.run, self.result, self.replays = run, result, 0

    def replay(self):
        self.replays += 1
        results = [self.result] if isinstance(self.result, torch.Tensor) else self.result
        found = self.run()
        with torch.no_grad():
            for value, new in zip(results, [found] if isinstance(found, torch.Tensor) else found, strict=True):
                if value is not None:
                    value.detach().copy_(new)

    def pool(self):
        return self


class Recorder:
    """In place of `cuda_graphs.record`; `graphs` are those that it has recorded."""

    def __init__(self, error=None):
        self.error, self.graphs = error, []

    def __call__(self, run, pool=None):
        if self.error is not None:
            raise self.error
        result = run()
        if isinstance(run, partial):  # of a backward pass, whose forward pass belongs to the replay
            forward, weights, scale = pool.run, run.args[1], run.args[2]
            run = partial(self.backward, forward, weights, scale)
            result = tuple(None if value is None else value.clone() for value in result)
        self.graphs.append(Graph(run, result))
        return self.graphs[-1], result

    @staticmethod
    def backward(forward, weights, scale):
        with torch.enable_grad():
            return torch.autograd.grad(forward(), weights, scale, allow_unused=True)


def on_processor(monkeypatch, *modules, error=None):
    """Let the processor record and replay; returns the recorder."""
    recorder = Recorder(error)
    for module in (cuda_graphs, *modules):
        monkeypatch.setattr(module, "record", recorder)
        monkeypatch.setattr(module, "warm_up", lambda run: run())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(cuda_graphs, "DEVICE", "cpu")
    return recorder
