"""The workspace as code: built without a server, and made of keys that runs log."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from faig_lab.files import write_json
from faig_lab.report.wandb_run import isolation_rows, training_rows

FILE = Path(__file__).parents[2] / "experiments" / "wandb_workspace.py"
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")  # in wandb-workspaces


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("wandb_workspace", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_panel_shows_a_key_that_a_run_logs(script, make_run):
    run = make_run(isolated={"faig": 0.4, "random": 0.1}, drawn=True)
    write_json(run / "metrics.json", {"isolation": 0.4, "isolation/faig/1": 0.4, "isolation/random/1": 0.1})
    metrics = json.loads((run / "metrics.json").read_text())
    logged = {f"curves/{key}" for row in isolation_rows(metrics) for key in row} | set(metrics)
    logged |= {f"training/{n}/{key}" for n in ("baseline", "target") for row in training_rows(run, n) for key in row}
    logged |= {f"figures/{path.stem}" for path in (run / "figures").glob("*.png")}
    logged |= {f"values/{path.stem}" for path in (run / "tables").glob("*.csv")} | {"values/isolation_methods"}
    shown = set(script.keys(script.workspace("me", "faig_lab", methods=("faig", "random"))))
    gains = {key for key in shown if "/gain/" in key}  # a drawn run has the PSNR alone
    assert gains == {f"training/{n}/gain/{d}" for n in ("baseline", "target") for d in ("blur", "noise")}
    assert shown - gains <= logged
    assert {"isolation", "curves/isolation/faig", "curves/percent", "figures/layers"} <= shown


def test_the_workspace_is_valid_and_ranks_runs_by_isolation(script):
    arranged = script.workspace("me", "faig_lab")
    sent = json.dumps(arranged._to_model().model_dump(mode="json"), default=str)
    assert "curves/isolation/faig" in sent
    (order,) = arranged.runset_settings.order
    assert (order.item.name, order.ascending) == ("isolation", False)
    assert [section.name for section in arranged.sections] == ["Isolation", "Learning", "Pictures", "Tables"]


def test_without_save_the_panels_are_printed():
    done = subprocess.run(
        [sys.executable, FILE, "--entity", "me", "--methods", "faig"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(
        "Isolation\n    faig: isolation by percent\n    isolation of the run's method\nLearning\n"
    )
