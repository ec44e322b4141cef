"""Checkpoints of other training code: wrappers, prefixes, averaged weights without names, namings of ESRGAN."""

import logging

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from weights_fixtures import assert_same, refusal

import faig_lab
from faig_lab.filters import load_weights
from faig_lab.filters.checkpoints import (
    AVERAGED,
    BSRGAN,
    ESRGAN,
    ESRGAN_OLD,
    SRCNN_STYLE,
    SRRESNET,
    common_names,
    naming_of,
    own_names,
    unwrap,
    without_prefixes,
)
from faig_lab.networks import SRCNNStyle, SRResNet

PREFIXES = ["module.", "_orig_mod.", "net.", "model.", "generator.", "network."]
SHOWN = ["params", "params_ema", "params-ema", "state_dict", "state_dict_ema", "model", "model_state_dict"]
SHOWN += ["net", "netG", "generator", "ema"]


def other(state):
    """The same names with other values."""
    return {name: value + 1 for name, value in state.items()}


# Wrappers


@pytest.mark.parametrize("wrapper", SHOWN)
def test_every_wrapper_is_read_alone_and_within_another(wrapper, network, state, save):
    for suffix, outer in ((".pth", None), (".pt", "state_dict"), (".ckpt", "ema")):
        content = {"epoch": 3, wrapper: state, "optimizer": {"state": {}}}
        assert_same(load_weights(save({outer: content} if outer else content, f"a{suffix}"), network), state)


def test_three_wrappers_are_too_many(network, state, save):
    assert "holds no weights" in refusal(save({"model": {"net": {"params": state}}}), network)


@pytest.mark.parametrize("raw", [name for name in SHOWN if name not in AVERAGED])
@pytest.mark.parametrize("averaged", AVERAGED)
def test_averaged_weights_come_first_and_the_log_says_so(averaged, raw, network, state, save, caplog):
    path = save({raw: other(state), averaged: state})
    with caplog.at_level(logging.INFO):
        assert_same(load_weights(path, network, "target.weights"), state)
    taken = f"target.weights: {path}: the weights of {averaged} are taken; it also has {raw}"
    assert [record.getMessage() for record in caplog.records] == [taken]


def test_averaged_weights_come_first_at_any_depth(network, state, save):
    assert_same(load_weights(save({"params": other(state), "model": {"params_ema": state}}), network), state)
    assert_same(load_weights(save({"model": {"params": other(state)}, "params": state}), network), state)


def test_one_wrapper_alone_is_not_worth_a_line(network, state, save, caplog):
    with caplog.at_level(logging.INFO):
        load_weights(save({"params": state}), network)
    assert not caplog.records


@pytest.mark.parametrize("averaged", [None, {}, 0.999, {"decay": 0.999, "updates": 5}])
def test_averaged_weights_that_are_not_there_give_way(averaged, network, state, save):
    assert_same(load_weights(save({"ema": averaged, "params": state}), network), state)


@pytest.mark.parametrize(
    ("place", "wrap"),
    [
        ("ema.shadow_params", lambda shadow: {"ema": {"decay": 0.999, "shadow_params": shadow}}),
        ("shadow_params", lambda shadow: {"decay": 0.999, "shadow_params": shadow}),
        ("ema", lambda shadow: {"ema": shadow}),
        ("model.ema.shadow_params", lambda shadow: {"model": {"ema": {"shadow_params": shadow}}}),
    ],
)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside raw weights"])
def test_a_list_of_averaged_weights_is_refused(place, wrap, beside, network, state, save):
    shadow = list(state.values())
    content = wrap(shadow) | ({"params": other(state)} if beside else {})
    message = refusal(save(content), network)
    assert f": {place} holds the averaged weights as a list of {len(shadow)} tensors without names; copy" in message


@pytest.mark.parametrize(
    "averaged", [lambda state: {"decay": 0.9, "shadow": state}, lambda state: state | {"updates": 5}]
)
def test_averaged_weights_of_another_form_are_never_passed_over(averaged, network, state, save):
    message = refusal(save({"ema": averaged(state), "params": other(state)}), network)
    assert ": ema holds averaged weights in an unknown form: " in message


def test_what_is_found_is_named():
    state = {"a": torch.zeros(1)}
    assert list(unwrap(state)) == [""]
    found = list(unwrap({"params": state, "model": {"ema": state}, "epoch": 1}))
    assert found == ["model.ema", "params"]
    assert unwrap({"params": {"a": 1}}) == unwrap([state]) == unwrap(None) == {}


class Program(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_is_refused_as_code(network, tmp_path):
    torch.jit.save(torch.jit.script(Program()), str(tmp_path / "a.pt"))
    message = refusal(tmp_path / "a.pt", network)
    assert "(it is a TorchScript program, which is code; nothing in it was executed)" in message


def test_a_pickled_network_is_refused_as_code(network, save):
    assert "which is code; nothing in it was executed" in refusal(save(network), network)


# Prefixes


@pytest.mark.parametrize("prefix", [*PREFIXES, "module._orig_mod.", "net.module.", "model.network.", "generator.net."])
def test_every_prefix_is_removed(prefix, network, state, save):
    assert_same(load_weights(save({"state_dict": {prefix + n: v for n, v in state.items()}}), network), state)


@pytest.mark.parametrize("part", ["net", "model", "generator", "network", "module", "_orig_mod"])
@pytest.mark.parametrize("prefix", ["", *PREFIXES, "module._orig_mod.", "network.module."])
def test_a_part_with_the_name_of_a_prefix_keeps_it(part, prefix, save):
    network = nn.Sequential()
    network.add_module(part, nn.Conv2d(3, 3, 1))
    network.add_module("head", nn.Conv2d(3, 3, 1))
    state = dict(network.state_dict())
    assert_same(load_weights(save({prefix + n: v for n, v in state.items()}), network), state)


def test_compiled_parts_and_a_network_that_is_nothing_but_its_part(save):
    network, alone = nn.Sequential(), nn.Sequential()
    for name in ("body", "head"):
        network.add_module(name, nn.Conv2d(3, 3, 1))
    inner = {name.replace("body.", "body._orig_mod."): value for name, value in network.state_dict().items()}
    assert_same(load_weights(save(inner), network), dict(network.state_dict()))
    alone.add_module("network", nn.Conv2d(3, 3, 1))
    for prefix in ("", "network.", "module."):
        path = save({f"{prefix}network.{n}": v for n, v in alone.network.state_dict().items()})
        assert list(load_weights(path, alone)) == ["network.weight", "network.bias"]


def test_names_are_never_merged_and_refusals_name_what_is_left():
    assert own_names(["network.a", "a"], ["a"]) == ["network.a", "a"]
    assert own_names(["network.x", "network.a"], ["a", "b"]) == ["x", "a"]
    assert own_names(["module.x"], ["a"]) == ["x"]
    assert own_names(["network.a", "network.b"], ["network.a", "c"]) == ["network.a", "network.b"]


def test_other_prefixes_are_refused_by_the_files_own_names(network, state, save):
    message = refusal(save({f"discriminator.{n}": v for n, v in state.items()}), network)
    assert f"has unknown discriminator.{next(iter(state))}" in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_half_precision_is_kept(dtype, suffix, network, state, tmp_path):
    half = {f"module.{n}": v.to(dtype) for n, v in state.items()}
    path = tmp_path / f"a{suffix}"
    (save_file if suffix == ".safetensors" else lambda content, at: torch.save({"netG": content}, at))(half, path)
    read = faig_lab.load_weights(path, network)
    assert_same(read, {n: v.to(dtype) for n, v in state.items()})


# Namings of ESRGAN. The names stand here again, so that no table of ours is tested against itself.

NAMINGS = {
    naming: [first, *(inner.format(r=r, c=c) for r in (1, 2, 3) for c in range(1, 6)), *others.split()]
    for naming, first, inner, others in (
        (ESRGAN, "conv_first", "body.0.rdb{r}.conv{c}", "conv_body conv_up1 conv_up2 conv_hr conv_last"),
        (ESRGAN_OLD, "model.0", "model.1.sub.0.RDB{r}.conv{c}.0", "model.1.sub.1 model.3 model.6 model.8 model.10"),
        (BSRGAN, "conv_first", "RRDB_trunk.0.RDB{r}.conv{c}", "trunk_conv upconv1 upconv2 HRconv conv_last"),
    )
}


class RRDBNet(nn.Module):
    """The layers of ESRGAN with one block and BasicSR's names."""

    def __init__(self, features=4):
        super().__init__()
        for place in NAMINGS[ESRGAN]:
            *parents, name = place.split(".")
            module = self
            for parent in parents:
                if not hasattr(module, parent):
                    module.add_module(parent, nn.Module())
                module = getattr(module, parent)
            module.add_module(name, nn.Conv2d(3 if name == "conv_first" else features, features, 3))


@pytest.fixture
def rrdb():
    torch.manual_seed(0)
    return RRDBNet()


def called(state, naming):
    """A state of the RRDBNet under the names of another naming."""
    names = dict(zip(NAMINGS[ESRGAN], NAMINGS[naming], strict=True))
    return {f"{names[n.rpartition('.')[0]]}.{n.rpartition('.')[2]}": value for n, value in state.items()}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("prefix", ["", "module.", "generator."])
@pytest.mark.parametrize("wrapper", ["", "params_ema"])
def test_every_naming_is_read_into_the_network(naming, prefix, wrapper, rrdb, save):
    state = dict(rrdb.state_dict())
    content = {prefix + n: v for n, v in reversed(called(state, naming).items())}
    assert_same(load_weights(save({wrapper: content} if wrapper else content), rrdb), state)


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("of_network", NAMINGS)
def test_a_network_may_have_any_of_the_namings(naming, of_network, rrdb):
    given, expected = list(called(rrdb.state_dict(), naming)), list(called(rrdb.state_dict(), of_network))
    assert own_names(given, expected) == expected
    assert own_names([f"module.{name}" for name in given], expected) == expected


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("model.2 model.4", "conv_hr conv_last"),
        ("model.3 model.5 model.7", "conv_up1 conv_hr conv_last"),
        ("model.3 model.6 model.8 model.10", "conv_up1 conv_up2 conv_hr conv_last"),
        ("model.3 model.6 model.9 model.11 model.13", "conv_up1 conv_up2 conv_up3 conv_hr conv_last"),
        ("model.3 model.6 model.8", "model.3 model.6 model.8"),  # of x4 without its last layer, not x2
    ],
)
def test_the_old_layers_behind_the_blocks_depend_on_the_factor(layers, expected):
    inner = "model.1.sub.0.RDB1.conv1.0.weight"
    names = [inner, *(f"{layer}.weight" for layer in layers.split())]
    assert common_names(names)[1:] == [f"{layer}.weight" for layer in expected.split()]


def test_names_of_other_networks_are_not_renamed():
    names = ["model.0.weight", "model.3.weight", "upconv1.weight", "HRconv.weight", "trunk_conv.weight"]
    assert common_names(names) == names


@pytest.mark.parametrize(
    ("naming", "extra", "both"),
    [
        (ESRGAN_OLD, "conv_first.weight", ("model.0.weight", "conv_first.weight", "conv_first.weight")),
        (BSRGAN, "conv_hr.bias", ("HRconv.bias", "conv_hr.bias", "conv_hr.bias")),
        (ESRGAN_OLD, "model.1.sub.2.bias", ("model.1.sub.1.bias", "model.1.sub.2.bias", "conv_body.bias")),
    ],
)
def test_two_names_of_one_weight_are_refused(naming, extra, both, rrdb, save):
    message = refusal(save(called(rrdb.state_dict(), naming) | {extra: torch.zeros(4)}), rrdb)
    assert message.endswith(f" holds {both[0]} and {both[1]}, which are both {both[2]} of the network")


def test_a_shape_that_does_not_fit_names_both(rrdb, save):
    message = refusal(save(called(RRDBNet(features=6).state_dict(), ESRGAN_OLD)), rrdb)
    assert "model.0.weight (conv_first.weight of the network) is 6×3×3×3 in the file and 4×3×3×3 in the net" in message
    state = called(rrdb.state_dict(), BSRGAN)
    state["HRconv.bias"] = state["HRconv.bias"] * torch.nan
    assert ": HRconv.bias (conv_hr.bias of the network) has values that are not finite" in refusal(save(state), rrdb)


@pytest.mark.parametrize(
    ("naming", "missing", "extra"),
    [
        (ESRGAN_OLD, "model.0.weight", "model.1.sub.0.RDB4.conv1.0.weight"),
        (BSRGAN, "conv_first.weight", "upconv3.bias"),
    ],
)
def test_what_differs_is_named_and_all_else_is_known(naming, missing, extra, rrdb, save):
    state = called(rrdb.state_dict(), naming)
    del state[missing]
    message = refusal(save(state | {extra: torch.zeros(1)}), rrdb)
    assert f"is not for this RRDBNet: it lacks conv_first.weight and has unknown {extra}; see" in message


@pytest.mark.parametrize(
    ("network", "naming"),
    [(SRResNet(features=4, blocks=1), SRRESNET), (SRCNNStyle(widths=[4]), SRCNN_STYLE), (nn.Conv2d(3, 3, 1), None)],
)
def test_our_namings_are_recognised(network, naming):
    assert naming_of(list(network.state_dict())) == naming
    assert naming_of([]) is None


@pytest.mark.parametrize("naming", NAMINGS)
def test_prefixes_without_a_network_leave_a_known_naming(naming, rrdb):
    names = list(called(rrdb.state_dict(), naming))
    assert naming_of(names) == naming
    assert without_prefixes(names) == (names, [])
    assert without_prefixes([f"module.net.{name}" for name in names]) == (names, ["module.", "net."])


def test_prefixes_without_a_network_are_those_of_all_names():
    assert without_prefixes(["model.a", "b"]) == (["model.a", "b"], [])
    assert without_prefixes(["net.a._orig_mod.w", "net.b"]) == (["a.w", "b"], ["net.", "_orig_mod."])
    assert without_prefixes([]) == ([], [])
