"""float32 is float32: no TF32 inside of an attribution or a run, and the caller's choice afterwards."""

import pytest
import torch
from attribution_case import random_pair

from faig_lab.attribution import full_precision, integrate, quadrature
from faig_lab.attribution.methods import faig, input_gradients
from faig_lab.cli import study
from faig_lab.networks import SRResNet

RULE = quadrature("midpoint", 1)


def allowed():
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.fixture
def tf32():
    """A caller who has allowed all of it."""
    before = allowed()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture
def seen(monkeypatch):
    """What was allowed at each forward pass."""
    noted, forward = [], SRResNet.forward

    def noting(self, lr):
        noted.append(allowed())
        return forward(self, lr)

    monkeypatch.setattr(SRResNet, "forward", noting)
    return noted


def problem():
    torch.manual_seed(0)
    return random_pair(SRResNet(features=2, blocks=1), rule=RULE)


@pytest.mark.usefixtures("tf32")
@pytest.mark.parametrize("method", [faig, input_gradients])
def test_methods_compute_without_it(seen, method):
    method(problem())
    assert seen
    assert set(seen) == {(False, False)}
    assert allowed() == (True, True)


@pytest.mark.usefixtures("tf32")
def test_a_single_integral_computes_without_it(seen):
    own = problem()
    image = own.probe[0]
    integrate(own.network, own.baseline, own.target, image.lr["blur"][None], image.hr[None], RULE)
    assert set(seen) == {(False, False)}


@pytest.mark.usefixtures("tf32")
def test_the_choice_of_the_caller_is_back_also_after_an_error():
    with pytest.raises(ZeroDivisionError), full_precision():  # noqa: PT012
        assert allowed() == (False, False)
        _ = 1 / 0
    assert allowed() == (True, True)


@pytest.mark.usefixtures("tf32")
def test_a_run_trains_and_judges_without_it(monkeypatch, tmp_path):
    found = []
    monkeypatch.setattr(study, "study", lambda *given: found.append(allowed()))
    settings = type("Settings", (), {"task": "study"})
    monkeypatch.setattr(study, "check", lambda cfg: settings)
    monkeypatch.setattr(study.OmegaConf, "to_yaml", lambda *given, **more: "")
    study.run(None, tmp_path)
    assert found == [(False, False)]
    assert allowed() == (True, True)


def test_who_uses_the_newer_interface_keeps_the_choice():
    conv = getattr(torch.backends.cudnn, "conv", None)
    if not hasattr(conv, "fp32_precision"):
        pytest.skip("this PyTorch has only one interface")
    before = conv.fp32_precision
    try:
        conv.fp32_precision = "ieee"
        with full_precision():
            assert conv.fp32_precision == "ieee"
        assert conv.fp32_precision == "ieee"
    finally:
        conv.fp32_precision = before
