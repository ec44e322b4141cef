"""The settings of a study that takes seconds: a network of 136 filters, small crops, a few steps."""

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

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


def replace_study(patch: pytest.MonkeyPatch, run: Callable[..., Any]) -> None:
    """Put a function of (configuration, folder) where the command line finds the pipeline."""
    module = types.ModuleType("faig_lab.cli.study")
    module.run = run  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "faig_lab.cli.study", module)
