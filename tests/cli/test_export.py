"""task=export through the command line, on a run folder that holds just what an export reads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from faig_lab.__main__ import main
from faig_lab.attribution import Attribution, discovered, save_attribution
from faig_lab.cli.arguments import compose
from faig_lab.filters import FilterLayout, apply_patches, load_patch, load_weights, mask, modulate, save_weights
from faig_lab.networks import SRResNet


class Finished:
    """A run of a tiny network that is its own ground truth."""

    def __init__(self, folder):
        self.folder = folder
        torch.manual_seed(0)
        self.network = SRResNet(features=4, blocks=1)
        self.layout = FilterLayout.of(self.network)
        self.baseline = {n: v.clone() for n, v in self.network.state_dict().items()}
        self.target = {n: v + 0.1 * torch.randn_like(v) for n, v in self.baseline.items()}
        blur = torch.randn(len(self.layout), dtype=torch.float64)
        self.scores = {"faig": torch.stack([blur, -blur])[None], "signed_share": torch.stack([blur, blur])[None]}
        for name in ("baseline", "target"):
            save_weights(folder / "weights" / f"{name}.pt", getattr(self, name), {"what": name})
        attribution = Attribution(self.scores, ("blur", "noise"), self.layout)
        save_attribution(attribution, "faig", folder / "attribution", {"degradations": ["blur", "noise"]})
        cfg = compose(["network.features=4", "network.blocks=1"])
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg))

    def set(self, degradation, percent, method="faig"):
        return discovered(self.scores[method][0, ("blur", "noise").index(degradation)], percent)


@pytest.fixture
def run(tmp_path):
    return Finished(tmp_path / "run")


def export(*arguments):
    return main(["task=export", "run=run", "logger=none", *arguments])


def same(one, other):
    return set(one) == set(other) and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("name", ["out.pt", "deep/out.pth"])
def test_a_masked_network(run, name, capsys):
    assert export("export.strengths={blur: 0}", "export.percent=10", f"export.file={name}") == 0
    written = load_weights(Path(name), run.network)
    assert same(written, mask(run.target, run.baseline, run.layout, run.set("blur", 10)))
    about = OmegaConf.load(Path(name).with_suffix(".yaml"))
    assert about.filters == {"blur": len(run.set("blur", 10))}
    assert about.network.features == 4
    assert "blur at λ = 0, 10 % each by faig" in capsys.readouterr().out
    assert sorted(path.name for path in Path().rglob("*.log")) == []


@pytest.mark.parametrize(
    "gone",
    [
        ["data=folder", "data.train_dir=gone", "data.probe_dir=gone", "data.test_dir=gone"],
        ["data=paired", "data.hr_dir=gone", "data.lr_dirs.blur=gone", "data.lr_dirs.noise=gone"],
        ["data.test_dir=gone"],
        ["trainer.accelerator=cuda", "trainer.devices=[7]"],
    ],
)
def test_what_an_export_does_not_need_may_be_gone(run, gone):
    cfg = compose(["network.features=4", "network.blocks=1", *gone])
    (run.folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    assert export("export.strengths.blur=0", "export.percent=10", "export.file=o.pt") == 0
    expected = mask(run.target, run.baseline, run.layout, run.set("blur", 10))
    assert same(load_weights(Path("o.pt"), run.network), expected)


def test_a_run_and_a_file_with_any_name(run):
    run.folder.rename("größe (epoch=3)")
    arguments = ["export.strengths.blur=0", "export.percent=10", "export.file=a=b #1,2.pt"]
    assert main(["task=export", "run=größe (epoch=3)", *arguments]) == 0
    assert Path("a=b #1,2.pt").is_file()


def test_several_degradations_have_their_own_strength(run):
    assert export("export.strengths.blur=0", "export.strengths.noise=1.5", "export.file=o.pth") == 0
    expected = modulate(run.target, run.baseline, run.layout, [run.set("blur", 1), run.set("noise", 1)], [0, 1.5])
    written = torch.load("o.pth", weights_only=True)
    assert same(written["params"], expected)
    assert same(written["params_ema"], expected)


def test_a_patch(run):
    assert export("export.strengths.blur=1", "export.percent=5", "export.file=deblur.npz") == 0
    patch = load_patch(Path("deblur.npz"), run.baseline, run.layout)
    assert patch.name == "blur"
    assert np.array_equal(patch.filters, run.set("blur", 5).sort().values)
    others = torch.tensor([i for i in range(len(run.layout)) if i not in set(patch.filters.tolist())])
    expected = mask(run.target, run.baseline, run.layout, others)
    weights = {layer.name for layer in run.layout.layers}
    for name, value in apply_patches(run.baseline, patch).items():
        assert torch.equal(value, (expected if name in weights else run.baseline)[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "export.file: a file is required by task=export"),
        (["export.file=x.onnx"], "export.file: x.onnx: the suffix must name a format; choices: .pt our format, .pth"),
        (["export.file=run/weights/target.pt"], "export.file: run/weights/target.pt exists; choose another name"),
        (["export.file=x.pt"], "export.strengths: at least one is required"),
        (
            ["export.file=x.pt", "export.strengths.blurr=0"],
            "export.strengths.blurr: the run has no such degradation; did you mean blur?",
        ),
        (["export.file=x.pt", "export.strengths.blur=off"], "export.strengths.blur: expected a number"),
        (
            ["export.file=x.pt", "export.strengths.blur=0", "export.method=fiag"],
            "export.method: the run has no scores of fiag; did you mean faig?",
        ),
        (
            ["export.file=x.pt", "export.strengths={blur: 0, noise: 1}", "export.method=signed_share"],
            "export.strengths: 1 filters are in two sets that are to have different strengths; give them one",
        ),
        (["export.file=x.pt", "export.strengths.blur=0", "export.percent=0"], "export.percent: must be more than 0"),
        (["export.file=x.pt", "export.strengths.blur=0", "run=nowhere"], "run: nowhere: no such folder"),
    ],
)
def test_refusals(run, arguments, message, capsys):
    assert export(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("x.pt").exists()


def test_a_run_is_required(capsys):
    assert main(["task=export", "export.file=x.pt"]) == 2
    assert "run: a folder is required by task=export" in capsys.readouterr().err
