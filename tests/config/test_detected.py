"""network=spandrel: what the files tell is filled in, contradictions are one line; and `scale_argument`."""

import odd_networks
import pytest
import spandrel_stand_in as stand_in
import torch
from spandrel_stand_in import Other, write
from torch import nn

from faig_lab.cli.arguments import compose
from faig_lab.cli.build import determinants, make_network
from faig_lab.config import check
from faig_lab.data import PairedImage, StudyData
from faig_lab.errors import UserError


@pytest.fixture
def spandrel(monkeypatch):
    stand_in.install(monkeypatch)


@pytest.fixture
def a(tmp_path):
    write(tmp_path / "a.pth")
    return tmp_path / "a.pth"


@pytest.fixture
def b(tmp_path):
    return tmp_path / "b.pth"


def checked(*settings):
    return check(compose(["+experiment=blur_noise", "network=spandrel", "trainer=cpu", *settings]))


@pytest.mark.usefixtures("spandrel")
def test_scale_architecture_and_file_are_filled_in(a, b):
    write(b, seed=1, upscale=2)
    settings = checked(f"baseline.weights={a}", f"target.weights={b}")
    assert settings.network == {
        "_target_": "faig_lab.filters.spandrel_network",
        "scale": 2,
        "architecture": "Toy",
        "file": str(a),
    }
    assert type(make_network(settings)).__name__ == "Toy"


@pytest.mark.usefixtures("spandrel")
def test_the_scale_is_that_of_the_file(a):
    write(a, upscale=3)
    assert checked(f"baseline.weights={a}").network["scale"] == 3
    assert checked(f"baseline.weights={a}", "network.scale=3").network["scale"] == 3


@pytest.mark.usefixtures("spandrel")
@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"kind": Other}, r"holds a Other ×2, 4nf, and .*a\.pth \(baseline\.weights\) a Toy ×2, 4nf"),
        ({"upscale": 3}, r"holds a Toy ×3, 4nf, and .*a\.pth \(baseline\.weights\) a Toy ×2, 4nf"),
        ({"features": 6}, r"has head\.weight of 6×3×3×3, and .*a\.pth \(baseline\.weights\) of 4×3×3×3"),
    ],
)
def test_two_architectures_or_sizes_are_one_line_with_both_files(other, words, a, b):
    write(b, **other)
    with pytest.raises(UserError, match=rf"^target\.weights: .*b\.pth {words}; both must be one architecture and size"):
        checked(f"baseline.weights={a}", f"target.weights={b}")


@pytest.mark.usefixtures("spandrel")
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("network.scale=4", r"^network\.scale: 4, but .*a\.pth \(baseline\.weights\) holds a Toy ×2, 4nf; nearest: 2$"),
        ("network.architecture=SwinIR", r"^network\.architecture: SwinIR, but .* holds a Toy ×2, 4nf; nearest: Toy$"),
        ("network.scale=two", r"^network\.scale: "),
        ("+network.features=8", r"^network\.features: unknown key here; it belongs to network=srresnet"),
        ("baseline.weights=missing.pth", r"^baseline\.weights: missing\.pth: no such file"),
        ("network.file=missing.pth", r"^network\.file: missing\.pth: no such file"),
    ],
)
def test_contradictions_are_one_line(setting, words, a):
    with pytest.raises(UserError, match=words):
        checked(f"baseline.weights={a}", setting)


@pytest.mark.parametrize("settings", [[], ["target.weights={a}"]])
def test_training_from_scratch_is_refused(settings, a):
    with pytest.raises(UserError, match=r"^network: spandrel reads the architecture from a weights file; give"):
        checked(*(setting.format(a=a) for setting in settings))


def test_without_spandrel_the_command_is_named(a, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "spandrel", None)
    with pytest.raises(UserError, match=r'^baseline\.weights: spandrel is not installed.*"faig_lab\[spandrel\]"$'):
        checked(f"baseline.weights={a}")


@pytest.mark.usefixtures("spandrel")
def test_the_store_knows_a_network_by_its_weights_and_not_by_its_path(a, b):
    state = write(a)
    write(b)
    lr = torch.rand(3, 8, 8)
    image = PairedImage("a", torch.rand(3, 16, 16), {"clean": lr, "blur": lr, "noise": lr})
    data = StudyData([], (image,), (image,), ("blur", "noise"))
    needs = [determinants(checked(f"baseline.weights={path}"), "target", data, state) for path in (a, b)]
    assert needs[0] == needs[1]
    assert needs[0]["network"]["architecture"] == "Toy"
    other = determinants(checked(f"baseline.weights={a}"), "target", data, {n: v + 1 for n, v in state.items()})
    assert other != needs[0]
    write(b, features=6)
    sizes = [determinants(checked(f"network.file={path}"), "baseline", data, None) for path in (a, b)]
    assert sizes[0] != sizes[1]


class Upscaling(nn.Module):
    """A network whose factor has another name."""

    def __init__(self, upscale: int, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3 * upscale**2, 3, padding=1)
        self.upscale, self.width = upscale, width

    def forward(self, lr):
        return nn.functional.pixel_shuffle(self.conv(lr), self.upscale)


class Denoiser(nn.Conv2d):
    """A network that takes no factor."""

    def __init__(self) -> None:
        super().__init__(3, 3, 3, padding=1)


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setattr(odd_networks, "Upscaling", Upscaling, raising=False)
    monkeypatch.setattr(odd_networks, "Denoiser", Denoiser, raising=False)

    def settings(name, *more):
        given = [f"network._target_=odd_networks.{name}", "~network.features", "~network.blocks", *more]
        return check(compose(["+experiment=blur_noise", "trainer=cpu", *given]))

    return settings


def test_the_factor_gets_the_name_that_the_class_has_for_it(own):
    settings = own("Upscaling", "network.scale=3", "+network.scale_argument=upscale", "+network.width=6")
    network = make_network(settings)
    assert (network.upscale, network.width, settings.network["scale"]) == (3, 6, 3)
    assert network(torch.rand(1, 3, 4, 4)).shape == (1, 3, 12, 12)


def test_a_class_without_a_factor(own):
    settings = own("Denoiser", "network.scale=1", "+network.scale_argument=null")
    assert make_network(settings)(torch.rand(1, 3, 4, 4)).shape == (1, 3, 4, 4)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["+network.scale_argument=upscal"], r"^network\.upscal: unknown key of Upscaling; did you mean upscale\?"),
        (["+network.scale_argument=2"], r"^network\.scale_argument: 2 is no name of an argument; give e\.g\. upscale"),
        ([], r"^network\.scale: Upscaling has no such argument; \+network\.scale_argument=upscale passes the factor"),
        (["+network.scale_argument=upscale", "+network.upscale=2"], r"^network\.upscale: .* leave it out$"),
    ],
)
def test_a_wrong_name_of_the_factor_is_one_line(more, words, own):
    with pytest.raises(UserError, match=words):
        own("Upscaling", *more)
