"""A study that takes seconds: a network of 136 filters, small crops, a few steps. And how tests start it."""

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from faig_lab.__main__ import main

COMMON = [
    *("trainer=cpu", "trainer.precision=32-true", "logger=none"),
    *("network.features=4", "network.blocks=1"),
    *("data.probe_crop=32", "data.probe_crops=1", "data.test_crop=32", "data.test_crops=1"),
    *("training.batch_size=2", "training.baseline.iterations=3", "training.target.iterations=3"),
    *("training.validate_every=3", "attribution.points=2", "attribution.methods.random.draws=1"),
]
STANDARD_FIGURES = {"before_after", "isolation", "specificity", "methods", "masking_curves", "layers", "training"}
"""Of every run. They take most of the time of a tiny run; e2e/test_blur_noise and tests/report draw all of them."""


def tiny(*settings):
    """The given settings, and the common ones of all other keys."""
    given = {setting.partition("=")[0].lstrip("+~") for setting in settings}
    return [*settings, *(setting for setting in COMMON if setting.partition("=")[0] not in given)]


def refusal(capsys, *arguments):
    """The one line with which the command line refuses the arguments, without its `error: `."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "Traceback" not in "".join(lines)
    assert [line for line in lines if line.startswith("error: ")] == [lines[-1]]
    return lines[-1].removeprefix("error: ")


def networks(store):
    """The entries of trained networks in a store, sorted; what a store keeps of unfinished runs is hidden."""
    return sorted(path.name for path in store.glob("[!.]*") if path.is_dir())


@contextmanager
def without_report() -> Iterator[None]:
    """Let runs of this process draw no figures and write no report, which takes most of the time of a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("faig_lab.cli.study.report", lambda *_: None)
        yield


@contextmanager
def figures_of(*kept: str) -> Iterator[None]:
    """Let runs of this process draw, beside the figures of their studies, only the standard figures `kept`."""
    with pytest.MonkeyPatch.context() as patch:
        for name in STANDARD_FIGURES - {*kept}:
            patch.setattr(f"faig_lab.report.figures.{name}", lambda _: None)
        yield


@contextmanager
def without_figures() -> Iterator[None]:
    """Let runs of this process write a report that has no figures."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("write_figures", "write_strips"):
            patch.setattr(f"faig_lab.report.figures.{name}", lambda *_: [])
        yield


def run(folder, *settings, store=None, report=without_report):
    """Run the command line in this process and return the run folder. The store is beside it, unless it is given."""
    with report():
        assert main([*settings, f"store={store or folder.parent / 'store'}", f"hydra.run.dir={folder}"]) == 0
    return folder


def analyse(folder, *settings, report=without_report, logger=("logger=none",)):
    """Analyse a finished run further."""
    with report():
        assert main(["task=analyse", f"run={folder}", "trainer=cpu", *logger, *settings]) == 0


def replace_study(patch: pytest.MonkeyPatch, run: Callable[..., Any]) -> None:
    """Put a function of (configuration, folder) where the command line finds the pipeline."""
    module = types.ModuleType("faig_lab.cli.study")
    module.run = run  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "faig_lab.cli.study", module)
