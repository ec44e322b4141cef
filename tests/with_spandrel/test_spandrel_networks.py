"""Networks of spandrel's own classes, under the names that their authors' files have."""

from contextlib import nullcontext

import pytest
import torch
from run_files import read
from tiny_case import analyse, refusal, run, tiny

from faig_lab.attribution import integrate, quadrature
from faig_lab.errors import UserError
from faig_lab.filters import FilterLayout, load_weights, spandrel_network
from faig_lab.filters.foreign import detect
from faig_lab.filters.trial import differentiable

pytest.importorskip("spandrel", reason="spandrel is not installed; make test-spandrel")
pytestmark = pytest.mark.filterwarnings("ignore")  # of spandrel and of the libraries that it uses

from benchmarks.architectures import SPANDREL, architectures  # noqa: E402 (needs spandrel)
from benchmarks.compatibility import built  # noqa: E402

KNOWN = {one.name: one for one in architectures() if one.spandrel}

# Names of the layers of a file → names in BasicSR, in which Real-ESRGAN is published.
REAL_ESRGAN = {
    "model.0.": "conv_first.",
    "model.1.sub.1.": "conv_body.",
    "model.1.sub.0.": "body.0.",
    "RDB": "rdb",
    ".0.weight": ".weight",
    ".0.bias": ".bias",
    "model.3.": "conv_up1.",
    "model.6.": "conv_up2.",
    "model.8.": "conv_hr.",
    "model.10.": "conv_last.",
}


def published(name, state):
    """A state dict under the names, and in the wrapper, in which the architecture is published."""
    if not name.startswith("RRDB"):
        return {"params": state}
    renamed = {}
    for key, value in state.items():
        for old, new in REAL_ESRGAN.items():
            key = key.replace(old, new)
        renamed[key] = value
    return {"params_ema": renamed}


@pytest.fixture
def pair(tmp_path):
    """Writes baseline and target of an architecture: two files, and the state dicts that are in them."""

    def write(name, **changes):
        module, kind, _, arguments = SPANDREL[name]
        cls = getattr(__import__(f"spandrel.architectures.{module}", fromlist=[kind]), kind)
        changes |= {"scale": 4} if name.startswith("RRDB") else {}  # the names above are those of ×4
        torch.manual_seed(0)
        baseline = cls(**arguments | changes).state_dict()
        target = {
            n: v + 0.05 * v.std(correction=0) * torch.randn_like(v) if v.is_floating_point() and v.ndim > 1 else v
            for n, v in baseline.items()
        }
        files = tmp_path / "a.pth", tmp_path / "b.pth"
        for file, state in zip(files, (baseline, target), strict=True):
            torch.save(published(name, state), file)
        return files, (baseline, target)

    return write


@pytest.mark.parametrize("name", KNOWN)
def test_each_architecture_is_detected_and_restores_images_of_any_size(name):
    network = built(KNOWN[name]).eval()
    with torch.no_grad():
        output = network(torch.rand(1, 3, 19, 22))
    scale = KNOWN[name].scale
    assert output.shape == (1, 3, 19 * scale, 22 * scale)
    assert torch.isfinite(output).all()


@pytest.mark.parametrize("name", ["RRDB (ESRGAN)", "SRVGG (Compact)", "SwinIR", "HAT", "SPAN", "RealPLKSR"])
def test_weights_of_a_file_give_the_output_of_spandrel(name, pair):
    import spandrel

    files, states = pair(name)
    network = spandrel_network(file=str(files[1])).eval()
    read = load_weights(files[1], network)
    network.load_state_dict(read)
    reference = spandrel.ModelLoader().load_from_state_dict(dict(states[1])).eval()
    image = torch.rand(1, 3, 24, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(image).clamp(0, 1), reference(image.clone()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["SPAN", "PLKSR", "RealPLKSR", "HAT"])
def test_the_traps_have_a_complete_integral(name, pair):
    files, _ = pair(name)
    network = differentiable(spandrel_network(file=str(files[0]))).eval()
    baseline, target = (load_weights(file, network) for file in files)
    lr, hr = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 32, 32)
    assert integrate(network, baseline, target, lr, hr, quadrature("gauss_legendre", 16)).gap < 0.01
    assert not [layer.name for layer in FilterLayout.of(network).layers if "eval_conv" in layer.name]


@pytest.mark.parametrize("name", ["RRDB (ESRGAN)", "SRVGG (Compact)", "SwinIR"])
def test_two_files_to_report_in_one_command(name, pair, tmp_path):
    (a, b), _ = pair(name)
    settings = [s for s in tiny("experiment=blur_noise") if not s.startswith(("network.features", "network.blocks"))]
    given = ["network=spandrel", f"baseline.weights={a}", f"target.weights={b}"]
    folder = run(tmp_path / "run", *settings, *given, report=nullcontext)
    assert (folder / "report.html").is_file()
    assert "isolation/faig/1" in read(folder / "metrics.json")
    again = load_weights(folder / "weights" / "target.pt", spandrel_network(file=str(b)))
    assert all(torch.equal(value, again[n]) for n, value in load_weights(b, spandrel_network(file=str(b))).items())
    analyse(folder, "analysis=prediction", report=nullcontext)


def test_two_architectures_are_one_line(pair, tmp_path, capsys):
    (a, _), _ = pair("SRVGG (Compact)")
    a.rename(tmp_path / "compact.pth")
    (_, b), _ = pair("SwinIR")
    given = [f"baseline.weights={tmp_path / 'compact.pth'}", f"target.weights={b}"]
    line = refusal(capsys, "experiment=blur_noise", "network=spandrel", *given, f"hydra.run.dir={tmp_path / 'run'}")
    assert "b.pth holds a SwinIR ×2" in line
    assert "compact.pth (baseline.weights) a " in line


def test_another_size_is_one_line(pair, tmp_path):
    (a, _), _ = pair("SRVGG (Compact)")
    a.rename(tmp_path / "small.pth")
    (_, b), _ = pair("SRVGG (Compact)", num_feat=12)
    with pytest.raises(UserError, match=r"b\.pth is not for this "):
        load_weights(b, spandrel_network(file=str(tmp_path / "small.pth")), "target.weights")
    assert detect(b).title != detect(tmp_path / "small.pth").title
