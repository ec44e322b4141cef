"""Weights for others: our format and the authors', each readable by both."""

import pytest
import torch
from omegaconf import OmegaConf

from faig_lab.errors import UserError
from faig_lab.filters import export_weights, load_weights
from faig_lab.networks import SRResNet


def test_export_in_our_format_and_in_the_authors(tmp_path):
    network = SRResNet(features=4, blocks=1)
    state = {name: torch.randn_like(value) for name, value in network.state_dict().items()}
    for name in ("ours.pt", "theirs.pth"):
        export_weights(tmp_path / name, state, {"what": "masked", "strengths": {"blur": 0.0}})
        read = load_weights(tmp_path / name, network)
        assert all(torch.equal(read[n], v) for n, v in state.items())
        assert OmegaConf.load((tmp_path / name).with_suffix(".yaml")).strengths.blur == 0
    theirs = torch.load(tmp_path / "theirs.pth", weights_only=True)
    assert list(theirs) == ["params", "params_ema"]
    for content in theirs.values():
        network.load_state_dict(content, strict=True)  # as the authors' code does it
        assert all(torch.equal(network.state_dict()[n], v) for n, v in state.items())
    # Both keys share their tensors: the file is no larger for them.
    assert (tmp_path / "theirs.pth").stat().st_size < 1.5 * (tmp_path / "ours.pt").stat().st_size + 5000
    with pytest.raises(
        UserError, match=r"the suffix must be \.pt \(our format\), \.pth \(the authors' format\) or \.safetensors"
    ):
        export_weights(tmp_path / "weights.bin", state, {})
