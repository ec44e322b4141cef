"""What every test shares: a folder of its own to run in, and no settings of the machine's."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ["network_fixtures", "run_fixtures"]


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
