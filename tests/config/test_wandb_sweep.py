"""The W&B sweep file: every command that an agent would start composes and passes the check."""

from itertools import product
from pathlib import Path

import pytest
import yaml

from faig_lab.cli.arguments import compose
from faig_lab.config import check

FILE = Path(__file__).parents[2] / "experiments" / "wandb_sweep.yaml"
SWEEP = yaml.safe_load(FILE.read_text(encoding="utf-8"))
CHOICES = list(product(*(parameter["values"] for parameter in SWEEP["parameters"].values())))


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_run_of_the_sweep_composes(choice: tuple[object, ...]) -> None:
    arguments = [f"{name}={value}" for name, value in zip(SWEEP["parameters"], choice, strict=True)]
    given = [part for part in SWEEP["command"][4:] if part != "${args_no_hyphens}"]
    assert SWEEP["command"][1:4] == ["python", "-m", "faig_lab"]
    assert SWEEP["command"][-1] == "${args_no_hyphens}"
    settings = check(compose([*given, *arguments]))
    assert settings.seed == dict(zip(SWEEP["parameters"], choice, strict=True))["seed"]


def test_the_metric_is_one_that_every_run_leaves_whatever_its_method_is() -> None:
    assert SWEEP["metric"] == {"name": "isolation", "goal": "maximize"}
    text = (FILE.parents[1] / "docs" / "run_folder.md").read_text(encoding="utf-8")
    assert "| `isolation`, `specificity` |" in text
