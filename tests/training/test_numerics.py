"""A few trained steps against recorded numbers: when `NUMERICS_VERSION` must be raised.

The recorded numbers are those of the version that golden/numerics.json names. They are made anew by
`python tests/training/test_numerics.py`, after NUMERICS_VERSION was raised.

Processors add in another order, and torch draws initial weights by other instructions. So training starts here from
given numbers in float64 and is compared to 1e-7 (losses are taken in float32). The samples, which are 8-bit numbers,
are compared exactly. The test passes with ATEN_CPU_CAPABILITY=default, avx2 and avx512, with one thread and with two.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from faig_lab.cli.arguments import compose
from faig_lab.cli.build import determinants, make_degradation, make_loop, make_module, make_network
from faig_lab.config import check
from faig_lab.data import PairedImage, PatchDataset, Photograph, StudyData, degrade
from faig_lab.data.patches import collate
from faig_lab.training import NUMERICS_VERSION, fit

FILE = Path(__file__).parents[1] / "golden" / "numerics.json"
WHEN = (
    "training gives other numbers than those recorded for NUMERICS_VERSION {}. If that is a mistake, mend it. If it is "
    "meant, raise NUMERICS_VERSION in src/faig_lab/training/plan.py by one, so that no run takes a network of the "
    "old numbers for one of the new, and run: python tests/training/test_numerics.py"
)
NETWORKS = {
    "SRResNet": ["network.features=4", "network.blocks=1"],
    "TwoBranchSRResNet": [
        *("network=two_branch_small", "network.features=4", "network.blocks=1", "network.predictor_features=4"),
    ],
    "SRCNNStyle": ["network=srcnn_style_small"],
}
SETTINGS = [
    *("training=laptop", "trainer=cpu", "trainer.precision=64-true", "training.batch_size=2", "training.patch_size=12"),
    *("training.ema_decay=0.2", "training.validate_every=100"),
    *("training.baseline.iterations=4", "training.target.iterations=6", "training.target.restart_every=4"),
    *("degradation.parts.blur.kernel_size=5", "degradation.parts.blur.sigma=1.0", "seed=7"),
]


def settings_of(network):
    return check(compose([*SETTINGS, *NETWORKS[network]]))


def photographs():
    """Numbers only, so that no library that reads images has a say."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 30, 40, 3), dtype=np.uint8)
    return tuple(Photograph(name, name, p, name) for name, p in zip("ab", pixels, strict=True))


def given_weights(settings):
    """Multiples of 1/1024 of the size that initial weights have."""
    rng = np.random.default_rng(1)
    return {
        name: torch.from_numpy(rng.integers(-160, 161, tuple(value.shape)) / 1024).to(value.dtype)
        for name, value in make_network(settings).state_dict().items()
    }


def trained(settings, name, start):
    degradation = make_degradation(settings)
    patches = PatchDataset(
        photographs(), settings.training.patch_size, degradation.margin, seed=settings.seed, stream=name
    )
    module = make_module(settings, name, degradation, start)
    loop = make_loop(settings, photographs(), name)
    quiet = replace(loop, trainer={**loop.trainer, "limit_val_batches": 0})
    return fit(module, patches, (), loop=quiet)


def numbers_of(state):
    """Three numbers of each tensor that see every entry: sums with weights 1, cos n and sin n."""
    found = {}
    for name, value in state.items():
        flat = value.double().flatten()
        n = torch.arange(len(flat), dtype=torch.float64)
        found[name] = [float(flat.sum()), float((flat * n.cos()).sum()), float((flat * n.sin()).sum())]
    return found


def samples(settings, stream):
    degradation = make_degradation(settings)
    patches = PatchDataset(
        photographs(), settings.training.patch_size, degradation.margin, seed=settings.seed, stream=stream
    )
    batch = collate([patches[number] for number in range(16)])
    return batch, *degrade(batch, degradation, settings.seed, stream, stream == "baseline")


def as_bytes(values):
    """LR and HR are whole numbers of 255."""
    scaled = values.double() * 255
    assert (scaled - scaled.round()).abs().max() < 1e-4
    return scaled.round().to(torch.uint8).numpy().tobytes()


def measured(network):
    settings = settings_of(network)
    baseline = trained(settings, "baseline", given_weights(settings))
    target = trained(settings, "target", baseline.state)
    found = {"baseline": numbers_of(baseline.state), "target": numbers_of(target.state)}
    found["losses"] = [[row["loss"] for row in each.history] for each in (baseline, target)]
    found["fresh"] = numbers_of(make_network(settings).state_dict())
    for stream in ("baseline", "target"):
        batch, lr, hr = samples(settings, stream)
        found[f"samples/{stream}"] = [
            hashlib.sha256(content).hexdigest()
            for content in (batch.patches.numpy().tobytes(), *map(as_bytes, (lr, hr)))
        ]
    return found


@pytest.fixture(scope="module")
def recorded():
    return json.loads(FILE.read_text())


def assert_recorded(found, expected, tolerance):
    torch.testing.assert_close(
        found, expected, rtol=tolerance, atol=tolerance, msg=lambda why: f"{WHEN.format(NUMERICS_VERSION)}\n{why}"
    )


def test_the_recorded_numbers_are_of_this_version(recorded):
    assert recorded["version"] == NUMERICS_VERSION, "run: python tests/training/test_numerics.py"


@pytest.mark.parametrize("network", NETWORKS)
def test_a_few_trained_steps_are_those_recorded(network, recorded):
    found, expected = measured(network), recorded[network]
    for stream in ("baseline", "target"):
        assert found[f"samples/{stream}"] == expected[f"samples/{stream}"], WHEN.format(NUMERICS_VERSION)
        assert_recorded(found[stream], expected[stream], 1e-7)
    assert_recorded(found["losses"], expected["losses"], 1e-6)  # the loss is taken in float32
    assert_recorded(found["fresh"], expected["fresh"], 1e-5)  # float32


def test_the_test_can_fail(recorded):
    """A ten-thousandth more in the decay of the average is outside of the tolerance."""
    settings = settings_of("SRResNet")
    training = settings.training.model_copy(update={"ema_decay": 0.2 + 1e-4})
    changed = settings.model_copy(update={"training": training})
    found = numbers_of(trained(changed, "baseline", given_weights(changed)).state)
    with pytest.raises(AssertionError, match="raise NUMERICS_VERSION"):
        assert_recorded(found, recorded["SRResNet"]["baseline"], 1e-7)


def test_the_key_of_a_network_has_the_version(monkeypatch):
    image = PairedImage("i", torch.zeros(3, 4, 4), {n: torch.zeros(3, 2, 2) for n in ("clean", "blur", "noise")})
    settings, data = settings_of("SRResNet"), StudyData(photographs(), (image,), (image,), ("blur", "noise"))
    assert determinants(settings, "baseline", data, None)["numerics"] == NUMERICS_VERSION
    monkeypatch.setattr("faig_lab.cli.build.NUMERICS_VERSION", NUMERICS_VERSION + 1)
    assert determinants(settings, "baseline", data, None)["numerics"] == NUMERICS_VERSION + 1


if __name__ == "__main__":
    numbers = {"version": NUMERICS_VERSION} | {network: measured(network) for network in NETWORKS}
    FILE.write_text(json.dumps(numbers, indent=1) + "\n")
