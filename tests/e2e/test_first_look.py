"""The first look: two trained networks that ship with the package show the finding, and nothing is trained."""

import csv
import hashlib
import re
import tomllib
from pathlib import Path

import process_case
import pytest
import torch
import yaml
from docs_pages import ROOT
from run_files import read
from safetensors import safe_open
from wheel_case import REDUCED

from faig_lab.__main__ import main
from faig_lab.cli.arguments import compose
from faig_lab.config import check
from faig_lab.data.photographs import embedded_photographs
from faig_lab.files import PRETRAINED
from faig_lab.filters import load_weights
from faig_lab.networks import SRResNet

NAMES = ("baseline", "target")
FILES = {name: PRETRAINED / f"srresnet_small_{name}.safetensors" for name in NAMES}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A first look as a user starts it: a process of its own, in a folder that has nothing to do with the package."""
    root = tmp_path_factory.mktemp("elsewhere")
    done = process_case.finished(root, "experiment=first_look", *REDUCED, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    return root / "run", done.stdout, done.stderr


def description(name):
    return yaml.safe_load(FILES[name].with_suffix(".yaml").read_text(encoding="utf-8"))


# The run


def test_it_composes_with_the_methods_that_it_promises_and_trains_nothing():
    settings = check(compose(["experiment=first_look"]))
    assert {"faig", "isolation_share", "signed_share", "random"} == set(settings.attribution.methods)
    assert all(getattr(settings, name).weights == f"package:{FILES[name].name}" for name in NAMES)
    assert settings.name == "first_look"
    assert "EmbeddedPhotographs" in settings.data["_target_"]
    assert settings.logger.mode == "disabled"  # neither an account nor a server is asked


def test_its_attribution_differs_from_the_default_in_method_points_and_draws_alone():
    first, default = (compose([f"attribution={name}"]).attribution for name in ("first_look", "isolation_share"))
    changed = {key for key in default if first[key] != default[key]}
    assert changed == {"points", "methods"}
    for name, node in first.methods.items():
        assert {key for key in node if node[key] != default.methods[name][key]} <= {"draws"}


def test_it_leaves_the_finding_with_a_report_and_no_training(run):
    folder, said, _ = run
    metrics = read(folder / "metrics.json")
    methods = ("faig", "isolation_share", "signed_share", "random")
    assert {f"isolation/{method}/0.5" for method in methods} <= metrics.keys()
    expected = {f"isolation/isolation_share/0.5/{of}" for of in ("blur", "noise")}
    expected |= {f"psnr/{of}/{what}" for of in NAMES for what in ("blur", "noise", "clean")}
    assert expected <= metrics.keys()
    assert not [key for key in metrics if key.startswith("training")]
    assert "isolation share" in said
    assert str(Path("run") / "report.html") in said
    assert (folder / "report.html").stat().st_size > 100_000
    assert not list((folder / "tables").glob("training_*"))
    assert not list(folder.parent.glob("outputs/store/SRResNet*"))


def test_the_finding_is_there_even_in_small(run):
    """On three crops of 48×48 and two points: isolated functions, which random filters are not."""
    metrics = read(run[0] / "metrics.json")
    assert metrics["psnr/target/blur"] > metrics["psnr/baseline/blur"] + 1
    assert metrics["psnr/target/noise"] > metrics["psnr/baseline/noise"] + 2
    assert metrics["isolation/isolation_share/0.5"] > 0.5
    assert metrics["isolation/random/0.5"] < 0.25


def test_the_run_says_whose_weights_it_attributed_and_that_it_trained_nothing(run):
    folder, _, log = run
    page = (folder / "report.html").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"{name}: weights from package:srresnet_small_{name}.safetensors" in log
        assert f"package:srresnet_small_{name}.safetensors" in page
    assert "the networks are trained on them" not in page
    assert yaml.safe_load((folder / "weights" / "target.yaml").read_text())["iterations"] is None


def test_a_finished_first_look_is_analysed_and_exported_like_any_run(run, tmp_path):
    reopened = [f"run={run[0]}", "logger=none", "trainer=cpu"]
    exported = tmp_path / "masked.safetensors"
    assert main(["task=export", *reopened, f"export.file={exported}", "export.strengths.blur=0"]) == 0
    network = SRResNet(scale=2, features=24, blocks=8)
    masked, target, baseline = (load_weights(path, network) for path in (exported, FILES["target"], FILES["baseline"]))
    moved = [name for name, value in masked.items() if not torch.equal(value, target[name])]
    assert moved
    for name in moved:
        same = (masked[name] == target[name]) | (masked[name] == baseline[name])
        assert same.all()


# The files


def test_the_files_are_small_and_in_half_precision_and_fit_the_network():
    assert sum(path.stat().st_size for path in PRETRAINED.iterdir()) < 1_000_000
    assert sorted(path.name for path in PRETRAINED.glob("*.safetensors")) == sorted(
        path.name for path in FILES.values()
    )
    network = SRResNet(scale=2, features=24, blocks=8)
    for path in FILES.values():
        with safe_open(path, framework="pt") as file:
            assert set(file.keys()) == set(network.state_dict())
        assert {value.dtype for value in load_weights(path, network).values()} == {torch.float16}


@pytest.mark.parametrize("name", NAMES)
def test_their_provenance_says_what_trained_them(name):
    found = description(name)
    assert found["sha256"] == hashlib.sha256(FILES[name].read_bytes()).hexdigest()
    cfg = compose(["experiment=blur_noise", "training=laptop"])
    assert found["network"] == dict(cfg.network)
    assert (found["seed"], found["iterations"]) == (0, cfg.training[name].iterations)
    assert "Apache-2.0" in found["licence"]
    assert found["made_by"] == "make study STUDY=first_look"
    assert found["training"]["learning_rate"] == cfg.training[name].learning_rate
    assert found["photographs"] == [photograph.name for photograph in embedded_photographs("train")]
    assert ("parts" in found["degradation"]) == (name == "target")


def test_the_note_on_licences_names_every_photograph():
    page = (PRETRAINED / "README.md").read_text(encoding="utf-8")
    licence = page.partition("## Licence")[2]
    assert "Apache-2.0" in licence
    for photograph in embedded_photographs("train"):
        assert f"`{photograph.name}`" in licence
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"


def test_half_precision_leaves_the_finding_as_it_is():
    """What was recorded: PSNR within 0.01 dB, isolation within 0.02; the pages say what the table says."""
    with (ROOT / "experiments" / "first_look" / "results.csv").open(newline="") as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    for key, row in rows.items():
        assert abs(float(row["difference"])) < (0.01 if key.startswith("psnr/") else 0.02), key
    for name in NAMES:
        for precision, found in description(name)["psnr"].items():
            for of, value in found.items():
                assert value == pytest.approx(float(rows[f"psnr/{name}/{of}"][precision]), abs=6e-4)
    page = (PRETRAINED / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        cells = re.search(rf"^\| {name} \| (.+) \|$", page, re.M)[1].split(" | ")
        psnr = description(name)["psnr"]
        expected = [psnr[p][of] for of in ("blur", "noise", "clean") for p in ("float32", "float16")]
        assert cells == [f"{value:.3f}" for value in expected]


def test_the_pair_shows_the_finding(shipped_pair):
    """The pair is a real one: each function's filters move the outputs, and the change is mostly in the kernels."""
    assert shipped_pair.baseline.keys() == shipped_pair.target.keys() == shipped_pair.network.state_dict().keys()
    change = {name: (shipped_pair.target[name] - value).norm() for name, value in shipped_pair.baseline.items()}
    assert all(value > 0 for value in change.values())
