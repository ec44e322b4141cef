"""What a run has not imported by the time its attribution starts: seconds that only a training or a report needs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_case import tiny

import faig_lab
from faig_lab.cli.arguments import compose
from faig_lab.cli.build import make_degradation
from faig_lab.cli.trained import train_once
from faig_lab.config import check
from faig_lab.config.targets import make

TINY = tiny("training.patch_size=16", "training.baseline.iterations=1", "training.target.iterations=1")
LATER = {"pytorch_lightning", "lightning_fabric", "torchmetrics", "wandb", "matplotlib", "jinja2", "scipy", "rich"}
LATER |= {"skimage", "sklearn", "torch._dynamo", "sympy"}
UNTIL_ATTRIBUTION = """
import sys
from faig_lab.__main__ import main
from faig_lab.runs.folder import RunFolder
stage = RunFolder.stage
def watched(self, name):
    if name == "attribution":
        print(*sys.modules)
        sys.stdout.flush()
        raise SystemExit(7)
    return stage(self, name)
RunFolder.stage = watched
sys.exit(main())
"""


def modules_of(code: str, *arguments: str) -> tuple[int, set[str], str]:
    """Exit code, the modules that a process of its own printed, and its standard error."""
    environment = os.environ | {"PYTHONPATH": str(Path(faig_lab.__file__).resolve().parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    return done.returncode, set(done.stdout.split()), done.stderr


def test_a_run_on_networks_of_the_store_reaches_its_attribution_without_what_it_does_not_use(tmp_path):
    arguments = [*TINY, f"store={tmp_path / 'store'}"]
    settings = check(compose(arguments))
    degradation = make_degradation(settings)
    data = make(settings.data).load(degradation, settings.seed)
    baseline = train_once(settings, "baseline", data, degradation).state
    train_once(settings, "target", data, degradation, start=baseline)

    code, loaded, said = modules_of(UNTIL_ATTRIBUTION, *arguments, f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 7, said
    assert said.count("already trained") == 2
    assert "torch" in loaded
    assert not loaded & LATER


def test_the_training_room_offers_what_needs_lightning_without_importing_it():
    names = "fit, fit_chosen, step_seconds, SRModule, History, Freezing"
    used = f"from faig_lab.training import {names}; assert 'pytorch_lightning' in sys.modules"
    code, loaded, said = modules_of(f"import faig_lab.training, sys; print(*sys.modules); {used}")
    assert code == 0, said
    assert not loaded & LATER


STARTS = {
    "module": ["-m", "faig_lab", "--help"],
    "command": ["-c", "from faig_lab.start import main; raise SystemExit(main())"],
}


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_an_interruption_during_the_imports_is_one_line(start, tmp_path):
    (tmp_path / "hydra").mkdir()
    (tmp_path / "hydra" / "__init__.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    paths = [str(tmp_path), str(Path(faig_lab.__file__).resolve().parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen(
        [sys.executable, *start], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "")
    assert errors == "interrupted; no work was started; repeat the command\n"
