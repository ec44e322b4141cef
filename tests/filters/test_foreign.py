"""Networks of spandrel, by a stand-in: detection, refusals in one line, nothing executed."""

import sys

import pytest
import spandrel_stand_in as stand_in
import torch
from spandrel_stand_in import Other, Toy, write

from faig_lab.errors import UserError
from faig_lab.filters import evaluate, load_weights, spandrel_network
from faig_lab.filters.foreign import describe, detect, difference

KEY = "baseline.weights"


@pytest.fixture(autouse=True)
def _spandrel(monkeypatch):
    stand_in.install(monkeypatch)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.pth"


def test_architecture_scale_and_size_are_detected(file):
    state = write(file, wrap=lambda state: {"params_ema": state})
    found = detect(file, KEY)
    assert (found.title, found.scale) == ("Toy ×2, 4nf", 2)
    assert all(torch.equal(found.network.state_dict()[name], value) for name, value in state.items())


def test_a_network_without_weights_is_fresh_and_has_the_size_of_the_file(file):
    state = write(file, features=6)
    torch.manual_seed(3)
    network = spandrel_network(file=str(file))
    torch.manual_seed(3)
    expected = Toy(features=6, upscale=2).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
    assert not torch.equal(network.state_dict()["head.weight"], state["head.weight"])
    assert network(torch.rand(2, 3, 5, 7)).shape == (2, 3, 10, 14)  # odd sides


def test_weights_in_names_that_only_the_library_knows(file, tmp_path):
    state = write(file)
    torch.save({name.replace("head.", "module.first."): v for name, v in state.items()}, tmp_path / "b.pth")
    torch.save({f"module.{name.replace('head.', 'first.')}": v for name, v in state.items()}, tmp_path / "c.pth")
    network = spandrel_network(file=str(file))
    read = load_weights(tmp_path / "c.pth", network)
    assert list(read) == list(state)
    assert all(torch.equal(read[name], value) for name, value in state.items())
    image = torch.rand(1, 3, 4, 4)
    assert torch.equal(evaluate(network, read, image), evaluate(network, state, image))
    with pytest.raises(UserError, match=r"b\.pth: spandrel knows no architecture with these names \(module\.first"):
        load_weights(tmp_path / "b.pth", network, "target.weights")


def test_weights_of_another_size_are_refused_for_the_network(file, tmp_path):
    write(file)
    write(tmp_path / "b.pth", features=5)
    with pytest.raises(UserError, match=r"^target\.weights: .*b\.pth is not for this Toy: head\.weight is 5×3×3×3"):
        load_weights(tmp_path / "b.pth", spandrel_network(file=str(file)), "target.weights")


def test_half_precision_and_a_changed_file_are_read_anew(file):
    write(file, wrap=lambda state: {name: value.half() for name, value in state.items()})
    assert detect(file).title == "Toy ×2, 4nf"
    write(file, features=7)
    assert detect(file).title == "Toy ×2, 7nf"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weights": torch.ones(2)}, r"spandrel knows no architecture with these names \(weights 2 is the first\)"),
        ({"head.weight": torch.ones(4, 3, 3, 3)}, r"spandrel cannot build its network \(KeyError"),
        (
            Toy(features=4, upscale=4).state_dict(),
            r"holds a Toy \(FaceSR\), which does not map an image of any size to",
        ),
        (Toy(features=4, upscale=2, channels=2).state_dict(), "holds a Toy that takes 2 and returns 2 channels"),
    ],
)
def test_what_cannot_be_used_is_one_line(content, words, file):
    torch.save(content, file)
    with pytest.raises(UserError, match=rf"^baseline\.weights: .*a\.pth:? {words}") as caught:
        detect(file, KEY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value, file):
    def spoilt(state):
        state["tail.bias"][1] = value
        return state

    write(file, wrap=spoilt)
    with pytest.raises(UserError, match=r"^baseline\.weights: .*a\.pth: tail\.bias has values that are not finite"):
        detect(file, KEY)


def test_nothing_in_a_file_is_executed(file, monkeypatch):
    class Code:
        def __reduce__(self):
            return (exec, ("import sys; sys.executed_by_a_file = True",))

    torch.save({"params": Code(), "head.weight": torch.ones(4, 3, 3, 3)}, file)
    with pytest.raises(UserError, match=r"^baseline\.weights: .*a\.pth cannot be read as weights"):
        detect(file, KEY)
    assert not hasattr(sys, "executed_by_a_file")


def test_without_spandrel_the_command_is_named(file, monkeypatch):
    write(file)
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(UserError) as caught:
        detect(file, KEY)
    assert str(caught.value) == (
        'baseline.weights: spandrel is not installed, which network=spandrel needs: pip install "faig_lab[spandrel]"'
    )


def test_a_torchvision_for_another_torch_is_told(file, tmp_path, monkeypatch):
    write(file)
    (tmp_path / "spandrel.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.delitem(sys.modules, "spandrel")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"cannot be imported \(operator torchvision::nms.*\); torchvision must fit"):
        detect(file, KEY)


def test_a_missing_file_is_told_with_the_nearest_name(file, tmp_path):
    write(file)
    with pytest.raises(UserError, match=r"^baseline\.weights: no file .*b\.pth; did you mean .*a\.pth\?"):
        detect(tmp_path / "b.pth", KEY)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "spandrel reads the architecture from a weights file"),
        ({"scale": 3}, r"network\.scale: 3, but .*a\.pth holds a Toy ×2, 4nf"),
        ({"architecture": "SwinIR"}, r"network\.architecture: SwinIR, but .*a\.pth holds a Toy ×2"),
    ],
)
def test_arguments_that_the_file_contradicts(arguments, words, file):
    write(file)
    with pytest.raises(UserError, match=words):
        spandrel_network(**arguments, **({"file": str(file)} if arguments else {}))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({}, {}, None),
        ({}, {"kind": Other}, "holds a Toy ×2, 4nf, and {other} a Other ×2, 4nf"),
        ({"upscale": 3}, {}, "holds a Toy ×3, 4nf, and {other} a Toy ×2, 4nf"),
        ({}, {"features": 5}, "has head.weight of 4×3×3×3, and {other} of 5×3×3×3"),
        ({}, {"channels": 1}, "has head.weight of 4×3×3×3, and {other} of 4×1×3×3"),
    ],
)
def test_what_differs_between_two_files(first, second, words, tmp_path):
    found = []
    for name, options in (("a", first), ("b", second)):
        write(tmp_path / name, **options)
        found.append(detect(tmp_path / name))
    assert difference(*found) == words


def test_networks_of_the_same_tensors_and_other_hyperparameters_differ(file):
    found = describe(write(file), "a")
    other = describe(write(file), "b")
    object.__setattr__(other, "hyperparameters", {**other.hyperparameters, "window": 8})
    assert difference(found, other) is not None
