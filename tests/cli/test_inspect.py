"""task=inspect: every line of what a file holds, and how two files differ."""

from pathlib import Path

import pytest
import torch
from weights_fixtures import Trap

from faig_lab.__main__ import main
from faig_lab.cli.inspect_weights import compare, describe, scale_of
from faig_lab.filters import FilterLayout, save_weights
from faig_lab.filters.checkpoints import BSRGAN, ESRGAN, ESRGAN_OLD, SRCNN_STYLE, SRRESNET
from faig_lab.networks import SRCNNStyle, SRResNet


def rows(path):
    """What is said of a file, by title."""
    first, *lines = describe(path, "file")[0]
    assert first == str(path)
    return {line[2:11].strip(): line[13:] for line in lines}


def inspected(capsys, *arguments):
    """The output of a command that succeeds and leaves nothing behind."""
    assert main(["inspect", *map(str, arguments)]) == 0
    assert not Path("outputs").exists()
    return capsys.readouterr().out


def refused(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


def zeros(**shapes):
    return {f"{name.replace('__', '.')}.weight": torch.zeros(*shape, 1, 1) for name, shape in shapes.items()}


def test_everything_is_told_of_a_training_checkpoint(state, save):
    halves = {f"module.{name}": value.half() for name, value in state.items()}
    path = save({"params": {n: v.float() for n, v in halves.items()}, "params_ema": halves, "step": 3})
    told = rows(path)
    # Filters: 3·4, two times 4·4, 16·4, 4·4, 4·3; nine weights each. Biases: 4, 4, 4, 16, 4, 3.
    assert 136 * 9 + 35 == 1259
    assert told["tensors"] == "12 with 1,259 numbers; 136 filters in 6 2-D convolutions"
    size = (told["format"].removeprefix("torch.save, ").removesuffix(" kB")).replace(",", "")
    assert float(size) == pytest.approx(path.stat().st_size / 1000, abs=0.05)
    assert told["weights"] == "params_ema (taken), params"
    assert told["precision"] == "float16 (12 tensors)"
    assert told["prefixes"] == "module.; removed unless the network's names have them"
    assert told["naming"] == "SRResNet"
    assert told["scale"] == "×2"
    shown = "module.conv_first.weight 4×3×3×3, module.conv_first.bias 4, module.body.0.conv1.weight 4×4×3×3"
    assert told["first"] == shown
    assert told["last"].endswith("module.conv_last.weight 3×4×3×3, module.conv_last.bias 3")
    assert told["values"] == "finite"
    old = save(state, _use_new_zipfile_serialization=False)
    assert rows(old)["format"].startswith("torch.save before torch 1.6")


def test_the_filters_are_those_of_the_layout(tmp_path):
    network = SRResNet()
    save_weights(tmp_path / "a.safetensors", network.state_dict(), {})
    told = rows(tmp_path / "a.safetensors")
    assert f"{len(FilterLayout.of(network)):,} filters" in told["tensors"]
    assert "151,936 filters" in told["tensors"]
    assert told["format"].startswith("safetensors, ")
    assert (told["weights"], told["prefixes"]) == ("tensors by name, without a wrapper", "none")


def test_several_precisions_and_unknown_names(save):
    told = rows(save({"a.weight": torch.zeros(2, 2), "b": torch.zeros(3).bfloat16(), "steps": torch.tensor(3)}))
    assert told["precision"] == "float32 (1 tensors), bfloat16 (1 tensors), int64 (1 tensors)"
    assert told["tensors"] == "3 with 8 numbers; 0 filters in 0 2-D convolutions"
    assert told["naming"] == "none of the known ones"
    assert told["scale"] == "cannot be told"
    assert told["first"] == told["last"] == "a.weight 2×2, b 3, steps a scalar"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named(value, state, save):
    odd = {n: torch.full_like(v, value) if place < 5 else v for place, (n, v) in enumerate(state.items())}
    told = rows(save(odd))["values"]
    assert told.startswith(f"{next(iter(state))} has values that are not finite, ")
    assert told.endswith(" and 2 more")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.to("meta"), "is a meta tensor"),
        (lambda v: v.to_sparse(), "is sparse"),
        (lambda v: v.to(torch.float8_e4m3fn), "is torch.float8_e4m3fn; expected floating numbers"),
        (lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8), "is quantised"),
    ],
    ids=["meta", "sparse", "fp8", "quantised"],
)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:TypedStorage")
def test_tensors_that_no_network_takes_are_named_and_compared(change, words, state, save):
    odd = state | {"conv_hr.bias": change(state["conv_hr.bias"].detach())}
    path = save(odd)
    assert rows(path)["values"].startswith(f"conv_hr.bias {words}")
    assert compare(describe(path, "file")[1], state)[0].startswith("one architecture: 12 tensors")


def esrgan(first=3, ups=2, last=3):
    """Kernels of an ESRGAN with `first` input channels and `ups` stages that double the size."""
    ends = {"conv_first": (4, first)} | ({"conv_last": (last, 4)} if last else {})
    return zeros(**ends, **{f"conv_up{n}": (4, 4) for n in range(1, ups + 1)})


SCALES = [
    *((SRRESNET, SRResNet(scale=scale, features=4, blocks=1).state_dict(), f"×{scale}") for scale in (2, 3, 4)),
    *((SRCNN_STYLE, SRCNNStyle(scale=scale, widths=[8, 5]).state_dict(), f"×{scale}") for scale in (2, 3, 4)),
    *((ESRGAN, esrgan(first), scale) for first, scale in ((3, "×4"), (12, "×2"), (48, "×1"), (5, None))),
    (ESRGAN, esrgan(last=0), None),
    (BSRGAN, esrgan(ups=1), "×2"),
    *((ESRGAN_OLD, esrgan(ups=ups), scale) for ups, scale in ((3, "×8"), (0, "×1"))),
    (ESRGAN_OLD, esrgan(ups=1), "×2 or ×3, whose weights have the same"),
    (SRRESNET, zeros(upconv1=(10, 4)), None),
    (None, zeros(upconv1=(16, 4)), None),
]


@pytest.mark.parametrize(("naming", "state", "scale"), SCALES)
def test_the_scale_is_read_from_the_shapes(naming, state, scale):
    told = scale_of(naming, state)
    assert told is scale is None or told.startswith(scale)


def test_old_esrgan_is_recognised_by_its_own_names(save):
    names = ["model.0", "model.1.sub.0.RDB1.conv1.0", "model.1.sub.1", "model.3", "model.6", "model.8", "model.10"]
    sizes = [(4, 3), *[(4, 4)] * 5, (3, 4)]
    state = {f"{name}.weight": torch.zeros(*size, 3, 3) for name, size in zip(names, sizes, strict=True)}
    told = rows(save({"net": {f"module.{name}": value for name, value in state.items()}}))
    assert (told["naming"], told["scale"], told["weights"]) == ("ESRGAN, old names", "×4", "net (taken)")
    assert told["prefixes"].startswith("module.; ")


# Two files


def test_filters_that_differ_are_counted(state):
    other = {name: value.clone() for name, value in state.items()}
    other["body.0.conv1.weight"][2, 1, 0, 0] += 1
    other["body.0.conv1.weight"][2, 1, 1, 1] += 1  # the same filter
    other["conv_last.weight"][0, 0, 2, 2] += 1
    other["conv_hr.bias"] += 1
    assert compare(state, other) == [
        "one architecture: 12 tensors of the same names and shapes",
        "  filters that differ         2 of 136 (1.5%)",
        "  other tensors that differ   1 of 6",
    ]
    assert compare(state, state)[1:] == [
        "  filters that differ         0 of 136 (0.0%)",
        "  other tensors that differ   0 of 6",
    ]


def test_prefix_naming_and_precision_make_no_other_architecture(state):
    first = {"conv_first.weight": torch.ones(2, 3, 1, 1), "body.0.rdb1.conv1.weight": torch.ones(2, 2, 1, 1)}
    second = {"model.0.weight": torch.ones(2, 3, 1, 1), "model.1.sub.0.RDB1.conv1.0.weight": torch.zeros(2, 2, 1, 1)}
    assert compare(first, {f"module.{n}": v for n, v in second.items()})[1] == (
        "  filters that differ         4 of 10 (40.0%)"
    )  # the second is of other values in 2·2 filters
    halves = {name: value.half() for name, value in state.items()}
    assert compare(state, halves)[-1] == "  precision differs in 12 tensors, so rounding counts as a difference"
    assert compare(halves, {n: v.float() for n, v in halves.items()})[1].startswith(
        "  filters that differ         0 of 136"
    )


def test_the_first_differences_of_two_architectures_are_told():
    first = SRResNet(features=4, blocks=2).state_dict()
    second = {n: v for n, v in SRResNet(features=6, blocks=1).state_dict().items() if n != "conv_hr.bias"}
    shape = "conv_first.weight is 4×3×3×3 in file and 6×3×3×3 in other, "
    lines = compare(first, second)
    assert lines[:2] == [
        "not one architecture",
        "  only in file: body.1.conv1.weight, body.1.conv1.bias, body.1.conv2.weight and 2 more",
    ]
    assert lines[2].startswith(f"  {shape}")
    assert lines[2].endswith(" and 7 more")
    assert compare({"a": torch.zeros(1)}, {"b": torch.zeros(1)})[1:] == ["  only in file: a", "  only in other: b"]


# The command


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_file_and_two_on_the_command_line(here, state, save, capsys):
    for name in ("epoch=3-step=10.ckpt", "größe (1).pth"):
        save({"state_dict": state}, name)
    assert "  naming     SRResNet\n" in inspected(capsys, "epoch=3-step=10.ckpt")
    out = inspected(capsys, "epoch=3-step=10.ckpt", here / "größe (1).pth")
    assert out.count("  values     finite\n") == 2
    assert out.endswith("filters that differ         0 of 136 (0.0%)\n  other tensors that differ   0 of 6\n")
    assert main(["task=inspect", "file=epoch=3-step=10.ckpt", "other=größe (1).pth"]) == 0
    assert capsys.readouterr().out.replace("größe", str(here / "größe")) == out
    assert "110,691 numbers" in inspected(capsys, "package:srresnet_small_target.safetensors")


def test_what_is_no_weights_file_is_one_line(here, state, save, capsys):
    save({"epoch": 3}, "log.pth")
    (here / "page.pth").write_text("<!DOCTYPE html><html>Not found</html>")
    save({"params": state, "extra": Trap(here / "executed")}, "evil.pth")
    assert "nothing in it was executed" in refused(capsys, "inspect", "evil.pth")
    assert not (here / "executed").exists()
    (here / "evil.pth").unlink()
    assert "file: . is a folder; name a file in it: log.pth, page.pth" in refused(capsys, "inspect", ".")
    assert "file: log.pth holds no weights; expected a dict" in refused(capsys, "inspect", "log.pth")
    assert "file: page.pth is a web page" in refused(capsys, "inspect", "page.pth")
    assert "file: no file lok.pth; did you mean log.pth?" in refused(capsys, "inspect", "lok.pth")
    assert "faig_lab ships no weights package:x" in refused(capsys, "inspect", "package:x")
    save({"a": torch.zeros(1)}, "a.pth")
    assert main(["inspect", "a.pth", "log.pth"]) == 2
    assert "other: log.pth holds no weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["inspect"], "file: a weights file is required by task=inspect; give file=weights.pth"),
        (["task=inspect", "other=a.pth"], "file: a weights file is required by task=inspect"),
        (["inspect", "a", "b", "c"], "inspect: 3 files; give one weights file, or two to compare"),
        (["file=a.pth"], "file: only task=inspect reads it; add task=inspect, or give baseline.weights=FILE"),
        (["task=export", "other=a.pth"], "file: only task=inspect reads it"),
        (["-m", "task=inspect", "file=a,b"], "task: inspect is one command for all runs and no sweep; leave out -m"),
    ],
)
def test_wrong_commands_are_one_line(arguments, expected, here, capsys):
    assert expected in refused(capsys, *arguments)
    assert list(here.iterdir()) == []
