"""Where patches are cut: on a GPU that the photographs fit on; and the store knows which samples a network has seen."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from faig_lab.cli.arguments import compose
from faig_lab.cli.build import SHARE_OF_MEMORY, determinants, make_degradation, make_loop, patches_on_device
from faig_lab.cli.provenance import describe_weights
from faig_lab.cli.trained import train_once
from faig_lab.config import check
from faig_lab.data import PairedImage, Photograph, StudyData
from faig_lab.errors import UserError

PHOTOGRAPH = Photograph("a", "a", np.zeros((40, 60, 3), dtype=np.uint8), "a")
DEEP = Photograph("b", "b", np.zeros((40, 60, 3), dtype=np.uint16), "b")
SIZE = PHOTOGRAPH.pixels.size


def settings_of(*overrides):
    return check(compose(["experiment=blur_noise", "logger=none", *overrides]))


@pytest.fixture
def gpu(monkeypatch):
    """A GPU with room for the photograph and nothing else."""
    memory = SimpleNamespace(total_memory=SIZE / SHARE_OF_MEMORY)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    return memory


@pytest.mark.usefixtures("gpu")
def test_auto_is_the_gpu_where_the_photographs_fit(gpu):
    assert patches_on_device(settings_of(), [PHOTOGRAPH], "target")
    assert make_loop(settings_of(), [PHOTOGRAPH], "baseline").on_device
    assert not patches_on_device(settings_of(), [PHOTOGRAPH, PHOTOGRAPH], "target")
    gpu.total_memory *= 2
    assert patches_on_device(settings_of(), [PHOTOGRAPH, PHOTOGRAPH], "target")
    assert not patches_on_device(settings_of(), [PHOTOGRAPH, DEEP], "target")
    assert not patches_on_device(settings_of("training.patches=host"), [PHOTOGRAPH], "target")
    assert not patches_on_device(settings_of("trainer=cpu"), [PHOTOGRAPH], "target")


@pytest.mark.usefixtures("gpu")
def test_the_target_of_a_planted_pair_is_trained_on_patches_of_the_processor():
    """Its degradations take turns."""
    settings = settings_of("experiment=planted")
    assert patches_on_device(settings, [PHOTOGRAPH], "baseline")
    assert not patches_on_device(settings, [PHOTOGRAPH], "target")
    with pytest.raises(UserError, match=r"^training\.patches: must be host or auto"):
        settings_of("experiment=planted", "training.patches=device")


def test_a_processor_cuts_as_before_unless_it_is_told_to():
    assert not patches_on_device(settings_of("trainer=cpu"), [PHOTOGRAPH], "target")
    assert patches_on_device(settings_of("trainer=cpu", "training.patches=device"), [PHOTOGRAPH], "target")
    with pytest.raises(UserError, match=r"^training\.patches: device holds photographs of 8 bits, and b has 16"):
        patches_on_device(settings_of("training.patches=device"), [DEEP], "target")
    with pytest.raises(UserError, match=r'^training\.patches: "gpu" is not a choice; choices: auto, device, host'):
        settings_of("training.patches=gpu")


def test_networks_of_other_samples_have_other_keys_and_the_old_ones_keep_theirs():
    image = PairedImage("p", torch.rand(3, 8, 8), {name: torch.rand(3, 4, 4) for name in ("clean", "blur", "noise")})
    data = StudyData((PHOTOGRAPH,), (image,), (image,), ("blur", "noise"))
    found = {
        where: determinants(settings_of("trainer=cpu", f"training.patches={where}"), "target", data, None)
        for where in ("auto", "host", "device")
    }
    assert found["auto"] == found["host"]
    assert found["device"] == found["host"] | {"patches": "device"}
    graphs = determinants(settings_of("trainer=cpu", "training.cuda_graphs=false"), "target", data, None)
    assert graphs == found["host"]


def test_the_weights_say_where_their_patches_were_cut(tmp_path):
    """Also when they come from the store."""
    small = (
        *("network.features=3", "network.blocks=1", "training.batch_size=2", "training.patch_size=16"),
        *("training.baseline.iterations=2", "training.channels_last=true", f"store={tmp_path}", "trainer=cpu"),
    )
    image = PairedImage(
        "p", torch.rand(3, 32, 32), {name: torch.rand(3, 16, 16) for name in ("clean", "blur", "noise")}
    )
    data = StudyData((PHOTOGRAPH,), (image,), (image,), ("blur", "noise"))
    for where in ("device", "host", "device"):
        settings = settings_of(*small, f"training.patches={where}")
        trained = train_once(settings, "baseline", data, make_degradation(settings))
        assert trained.on_device is (where == "device")
        assert describe_weights(settings, "baseline", trained).get("patches") == (
            "device" if where == "device" else None
        )
    assert len(list(tmp_path.glob("SRResNet-baseline-*"))) == 2
