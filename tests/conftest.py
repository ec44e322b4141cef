"""What every test shares: a folder of its own to run in, no settings of the machine's, and a trained pair."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

pytest_plugins = ["once_fixtures", "network_fixtures", "run_fixtures", "weights_fixtures"]

if TYPE_CHECKING:
    from torch import Tensor, nn

LONG = ("contributing", "docs", "golden", "objective", "page", "security")
"""The files of more than ten seconds that are not in e2e/."""
FORKING = ("processes", "resume")
"""The files that fork processes. They come before the workers of a training, whose server has imported less."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: a process has one file at a time, and a long file at the end would be all that still runs."""

    def place(item: pytest.Item) -> int:
        name = item.path.stem.removeprefix("test_")
        return 0 if name in FORKING else 1 if "e2e" in item.path.parts or name in LONG else 2

    items.sort(key=place)


class TrainedPair(NamedTuple):
    """A network that blur and noise were trained into; both states in float32."""

    network: "nn.Module"
    baseline: "dict[str, Tensor]"
    target: "dict[str, Tensor]"


@pytest.fixture(scope="session")
def shipped_pair() -> TrainedPair:
    """The pair that the package ships; no test changes it."""
    import faig_lab

    network = faig_lab.SRResNet(scale=2, features=24, blocks=8).eval()
    states = [
        {
            key: value.float()
            for key, value in faig_lab.load_weights(f"package:srresnet_small_{name}.safetensors", network).items()
        }
        for name in ("baseline", "target")
    ]
    return TrainedPair(network, *states)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a test writes by a relative path lands in the checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Ctrl-C works, here and in processes started here, also where a shell runs the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
