"""Weights through the command line: a network that seems to be wrapped, and files that cannot be computed with."""

import pytest
import torch
from named_network import Named
from tiny_case import tiny, without_report

from faig_lab.__main__ import main
from faig_lab.filters import load_weights

TINY = tiny("+experiment=blur_noise", "analysis.percents=[5]", "analysis.headline_percent=5")
OWN = ["network._target_=named_network.Named"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a network that has parts called `network` and `module`."""
    root = tmp_path_factory.mktemp("named")
    with without_report():
        assert main([*TINY, *OWN, f"store={root / 'store'}", f"hydra.run.dir={root / 'run'}"]) == 0
    return root / "run"


def test_such_a_network_is_trained_stored_analysed_and_exported(run, tmp_path):
    state = load_weights(run / "weights" / "target.pt", Named())
    assert list(state) == list(Named().state_dict())
    again = [*TINY, *OWN, f"store={run.parent / 'store'}", f"hydra.run.dir={tmp_path / 'again'}"]
    with without_report():
        assert main(again) == 0  # both networks come from the store
    assert "already trained" in (tmp_path / "again" / "run.log").read_text()
    reopened = [f"run={run}", "logger=none", "trainer=cpu", "trust=true"]
    with without_report():
        assert main(["task=analyse", *reopened, "analysis=curves"]) == 0
    masked = tmp_path / "masked.pth"
    assert main(["task=export", *reopened, f"export.file={masked}", "export.strengths.blur=1"]) == 0
    assert all(torch.equal(value, state[name]) for name, value in load_weights(masked, Named()).items())
    Named().load_state_dict(torch.load(masked, weights_only=True)["params"], strict=True)


@pytest.mark.parametrize("which", ["baseline", "target"])
def test_weights_that_overflow_are_refused_before_any_work(which, run, tmp_path, capsys):
    state = {n: v * 1e38 for n, v in load_weights(run / "weights" / "target.pt", Named()).items()}
    torch.save(state, tmp_path / "large.pt")
    given = f"{which}.weights={tmp_path / 'large.pt'}"
    assert main([*TINY, *OWN, given, f"store={tmp_path / 'store'}", f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{which}.weights: {tmp_path / 'large.pt'}: the network's output on the clean input of" in message
    assert not (tmp_path / "store").exists()


def test_a_damaged_file_is_refused_before_any_work(run, tmp_path, capsys):
    content = bytearray((run / "weights" / "target.pt").read_bytes())
    values = load_weights(run / "weights" / "target.pt", Named())["network.weight"].numpy().tobytes()
    content[content.index(values)] ^= 1
    (tmp_path / "a.pt").write_bytes(content)
    given = f"target.weights={tmp_path / 'a.pt'}"
    assert main([*TINY, *OWN, given, f"store={tmp_path / 'store'}", f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert "cannot be read as weights (it is damaged: the checksum of" in capsys.readouterr().err
