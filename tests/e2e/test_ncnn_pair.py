"""From two pairs of ncnn files to isolation and report: the experiment real_pair on a tiny network of the test."""

import json

import pytest
import torch
from ncnn_files import some_layers, write
from tiny_case import without_figures, without_report

from faig_lab.__main__ import main
from faig_lab.filters import load_weights
from faig_lab.networks import UpConv7

WIDTHS = (6, 6)
FILTERS = 3 * 6 + 6 * 6 + 6 * 3


def upscaling(channels, strength=1.0):
    """Layers that upscale by repeating pixels: three channels of each hidden layer carry the image."""
    layers = some_layers(WIDTHS)
    for layer in layers:
        layer.kernel[:] = 0
        layer.bias[:] = 0
    for colour, channel in enumerate(channels):
        layers[0].kernel[channel, colour, 1, 1] = strength
        layers[1].kernel[channel, channel, 1, 1] = 1
        layers[2].kernel[colour, channel, 1:3, 1:3] = 1
    return layers


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A baseline, a target with the same channels, and a target that carries the image in other channels.

    All three compute nearly the same. Half-way to the second target each kernel has half of its weights, so each of two
    groups of channels carries an eighth of the image.
    """
    folder = tmp_path_factory.mktemp("files")
    given = {
        "base": upscaling((0, 1, 2)),
        "near": upscaling((0, 1, 2), 0.875),
        "far": upscaling((3, 4, 5), 0.875),
    }
    return {name: write(folder, layers, name) for name, layers in given.items()}


def run(files, target, folder, *settings):
    return main(
        [
            *("experiment=real_pair", "network.widths=[6,6]", "trainer=cpu", "logger=none"),
            *(f"baseline.weights={files['base']}", f"target.weights={files[target].with_suffix('.param')}"),
            *("data.probe_crop=32", "data.probe_crops=1", "data.test_crop=32", "attribution.points=3"),
            *("attribution.methods.learned_mask.steps=2", "analysis.percents=[5]", "analysis.headline_percent=5"),
            *(f"hydra.run.dir={folder}", *settings),
        ]
    )


def test_two_files_lead_to_isolation_and_report(files, tmp_path, capsys):
    with without_figures():
        assert run(files, "near", tmp_path / "run") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {
        f"isolation/{m}/5/jpeg" for m in ("faig", "signed_share", "isolation_share", "learned_mask", "random")
    } <= set(metrics)
    assert {"barrier/jpeg", "barrier/clean", "completeness_gap/jpeg"} <= set(metrics)
    assert (tmp_path / "run" / "report.html").is_file()
    layout = json.loads((tmp_path / "run" / "attribution" / "layout.json").read_text())
    assert layout["filters"] == FILTERS
    assert [(layer["name"], layer["transposed"]) for layer in layout["layers"]][-1] == ("conv3_layer.weight", True)
    kept = load_weights(tmp_path / "run" / "weights" / "target.pt", UpConv7(widths=WIDTHS))
    given = load_weights(files["near"], UpConv7(widths=WIDTHS))
    assert all(torch.equal(kept[name].float(), value.float()) for name, value in given.items())


@pytest.mark.parametrize(("target", "least", "most"), [("near", 0, 0), ("far", 5, 30)])
def test_a_pair_with_a_barrier_is_warned_about(files, target, least, most, tmp_path, capsys):
    quick = ["~attribution.methods.learned_mask", "~attribution.methods.isolation_share"]
    with without_report():
        assert run(files, target, tmp_path / "run", *quick) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert all(least <= metrics[f"barrier/{name}"] <= most for name in ("jpeg", "clean"))
    assert ("path: PSNR falls below both ends" in capsys.readouterr().err) == (target == "far")


def test_the_files_of_the_experiment_are_named_where_they_are_missing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["experiment=real_pair", "logger=none"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: baseline.weights: outputs/waifu2x/scale2.0x_model.bin: no such file")
    assert message.count("\n") == 1
