"""From two pairs of ncnn files to isolation and report: the experiment real_pair on a tiny network of the test."""

import pytest
import torch
from ncnn_files import some_layers, write
from run_files import read
from tiny_case import refusal, run, without_figures

from faig_lab.filters import load_weights
from faig_lab.networks import UpConv7

WIDTHS = (6, 6)
FILTERS = 3 * 6 + 6 * 6 + 6 * 3
TINY = [
    *("experiment=real_pair", "network.widths=[6,6]", "trainer=cpu", "logger=none"),
    *("data.probe_crop=32", "data.probe_crops=1", "data.test_crop=32", "attribution.points=3"),
    *("attribution.methods.learned_mask.steps=2", "analysis.percents=[5]", "analysis.headline_percent=5"),
]


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
    layers = {"base": ((0, 1, 2), 1.0), "near": ((0, 1, 2), 0.875), "far": ((3, 4, 5), 0.875)}
    return {name: write(folder, upscaling(*given), name) for name, given in layers.items()}


def weights(files, target):
    return [f"baseline.weights={files['base']}", f"target.weights={files[target].with_suffix('.param')}"]


def test_two_files_lead_to_isolation_and_report(files, tmp_path):
    folder = run(tmp_path / "run", *TINY, *weights(files, "near"), report=without_figures)
    metrics = read(folder / "metrics.json")
    methods = ("faig", "signed_share", "isolation_share", "learned_mask", "random")
    assert {f"isolation/{method}/5/jpeg" for method in methods} <= metrics.keys()
    assert {"barrier/jpeg", "barrier/clean", "completeness_gap/jpeg"} <= metrics.keys()
    assert (folder / "report.html").is_file()
    layout = read(folder / "attribution" / "layout.json")
    assert layout["filters"] == FILTERS
    assert [(layer["name"], layer["transposed"]) for layer in layout["layers"]][-1] == ("conv3_layer.weight", True)
    kept = load_weights(folder / "weights" / "target.pt", UpConv7(widths=WIDTHS))
    given = load_weights(files["near"], UpConv7(widths=WIDTHS))
    assert all(torch.equal(kept[name].float(), value.float()) for name, value in given.items())


@pytest.mark.parametrize(("target", "least", "most"), [("near", 0, 0), ("far", 5, 30)])
def test_a_pair_with_a_barrier_is_warned_about(files, target, least, most, tmp_path, capsys):
    quick = ["~attribution.methods.learned_mask", "~attribution.methods.isolation_share"]
    few = [setting for setting in TINY if "learned_mask" not in setting]
    metrics = read(run(tmp_path / "run", *few, *weights(files, target), *quick) / "metrics.json")
    assert all(least <= metrics[f"barrier/{name}"] <= most for name in ("jpeg", "clean"))
    assert ("path: PSNR falls below both ends" in capsys.readouterr().err) == (target == "far")


def test_the_files_of_the_experiment_are_named_where_they_are_missing(capsys):
    line = refusal(capsys, "experiment=real_pair", "logger=none")
    assert line.startswith("baseline.weights: outputs/waifu2x/scale2.0x_model.bin: no such file")
