"""On a real GPU: `make test-gpu`. The checks are those of `make gpu`, which also runs the command line and measures."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is no part of the package

from benchmarks.gpu import correct, runs  # noqa: E402
from benchmarks.gpu.results import FAILED, Results  # noqa: E402
from benchmarks.gpu.sizes import FULL  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here"),
    pytest.mark.filterwarnings("default"),  # of compilers and drivers, which are not ours
]


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "results.json", "gpu")


def passed(results):
    """Whether there are rows, and none has failed."""
    rows = results.read()["parts"]["gpu"]["rows"]
    return rows and not [row for row in rows if row["state"] == FAILED]


@pytest.fixture(scope="module")
def pair():
    return correct.Pair(FULL, "cuda")


@pytest.mark.parametrize("name", list(correct.CHECKS))
def test_the_device_computes_what_the_processor_computes(name, pair, results):
    correct.CHECKS[name](pair, results)
    assert passed(results)


def test_the_command_line_runs_on_it(tmp_path, results):
    place = runs.Place(tmp_path, "cuda", None, FULL)
    runs.run(place, results)
    assert passed(results)
