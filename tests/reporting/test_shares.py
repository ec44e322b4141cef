"""What the report says of the shares of kernels and of all other parameters."""

from pathlib import Path

from faig_lab.reporting.run_files import RunFiles
from faig_lab.reporting.shares import shares


def run_of(rows, ranked=False):
    layout = {"not_ranked": [] if ranked else [{"name": "a.bias"}]}
    return RunFiles(Path("run"), {}, {}, {}, layout, {}, {"shares": rows} if rows else {})


def row(degradation, parameter, kind, weights, share):
    return {"degradation": degradation, "parameter": parameter, "kind": kind, "weights": weights, "share": share}


ROWS = [
    row("blur", "a.weight", "kernel", 90.0, 0.7),
    row("blur", "a.bias", "other", 4.0, 0.1),
    row("blur", "b.weight", "kernel", 10.0, 0.2),
    row("noise", "a.weight", "kernel", 90.0, 1.5),
    row("noise", "a.bias", "other", 4.0, -0.5),
    row("noise", "b.weight", "kernel", 10.0, 0.0),
]


def test_kernels_and_others_are_added_up_for_each_input():
    found = shares(run_of(ROWS))
    assert found is not None
    assert found.degradations == ["blur", "noise"]
    assert found.rows == {"a.weight": (90, [0.7, 1.5]), "a.bias": (4, [0.1, -0.5]), "b.weight": (10, [0.2, 0.0])}
    assert "the other parameters (biases above all: 1 tensors, 4 numbers)" in found.sentence
    assert "90 % and 10 % on blurred input and 150 % and −50 % on noisy input" in found.sentence
    assert found.sentence.endswith("masking leaves them alone.")


def test_parameters_that_are_ranked_are_said_to_be():
    found = shares(run_of(ROWS, ranked=True))
    assert found is not None
    assert found.sentence.endswith("They are ranked like the rest.")


def test_without_a_table_there_is_nothing_to_say():
    assert shares(run_of([])) is None


def test_a_network_without_other_parameters():
    found = shares(run_of([ROWS[0], ROWS[2]]))
    assert found is not None
    assert found.sentence.startswith("The network has no parameters beside")
