"""attribution.loss and attribution.truth through the command line: other scores, refusals, and a stored run again."""

import numpy as np
import pytest
from run_files import arrays, read
from tiny_case import tiny, without_report

from faig_lab.__main__ import main

TINY = tiny("+experiment=blur_noise", "training.patch_size=16", "analysis.percents=[1]")
L1 = "attribution.loss={_target_: faig_lab.attribution.AbsoluteError}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("losses")
    with without_report():
        for name, more in {"squared": [], "absolute": [L1], "own": ["attribution.truth=target"]}.items():
            assert main([*TINY, f"store={root}/store", f"hydra.run.dir={root}/{name}", *more]) == 0
    return root


def test_each_loss_has_its_own_scores_on_the_same_networks(runs):
    found = [arrays(runs / name)["blur"] for name in ("squared", "absolute", "own")]
    assert not any(np.allclose(found[i], found[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    profiles = [(runs / name / "tables" / "path.csv").read_text() for name in ("squared", "absolute")]
    psnr = [[float(line.split(",")[-1]) for line in text.splitlines()[1:]] for text in profiles]
    assert np.allclose(*psnr, atol=1e-4)


def test_a_run_with_another_loss_is_opened_again(runs):
    with without_report():
        assert main(["task=analyse", f"run={runs}/absolute", "analysis=sanity"]) == 0
    assert "analysis/sanity" in read(runs / "absolute" / "status.json")["stages_done"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("attribution.truth=targets", "attribution.truth"),
        ("attribution.loss={_target_: faig_lab.attribution.Charbonnier, epsilon: 0}", "attribution.loss.epsilon"),
        ("attribution.loss={_target_: faig_lab.attribution.Charbonier}", "attribution.loss._target_"),
        ("attribution.loss={_target_: faig_lab.attribution.AbsoluteError, eps: 1}", "attribution.loss.eps"),
    ],
)  # fmt: skip
def test_a_wrong_loss_is_one_line(given, message, tmp_path, capsys):
    assert main([*TINY, given, f"hydra.run.dir={tmp_path}/run"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert message in line
