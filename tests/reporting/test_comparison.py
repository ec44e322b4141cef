"""Means over seeds with intervals, differences run by run, and the page that shows them."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from faig_lab.reporting.comparison import Comparison, estimate
from faig_lab.reporting.comparison_figure import specificity_figure
from faig_lab.reporting.comparison_page import interval, sentences, warnings, write_comparison
from faig_lab.reporting.finished_runs import FinishedRun, LeftOut
from faig_lab.reporting.run_files import RunFiles

NETWORKS = {
    "SRResNet": {"_target_": "faig_lab.networks.SRResNet", "scale": 2},
    "SRCNNStyle": {"_target_": "faig_lab.networks.SRCNNStyle", "scale": 2},
}
# Specificity of a method's blur set; the noise set has 0.2 more.
SHARES = {"faig": 0.3, "signed_share": 0.7, "random": 0.0}
NOISE = {0: 0.00, 1: 0.04, 2: -0.07}


def make(
    seed=0, network="SRResNet", methods=("faig", "signed_share", "random"), shift=0.0, gain=3.0, chosen="faig",
    percents=(0.5, 1.0), degradations=("blur", "noise"), folder=None,
):  # fmt: skip
    rows = []
    for method in methods:
        for percent in percents:
            for index, masked in enumerate(degradations):
                own = SHARES[method] + 0.2 * index + (NOISE[seed] if method != "random" else 0) + shift
                other = 0.1 if len(degradations) > 1 else None
                rows.append(
                    {
                        "method": method, "percent": percent, "masked": masked, "own": own + (other or 0),
                        "other": other, "specificity": own if len(degradations) > 1 else None,
                    }
                )  # fmt: skip
    restoration = [
        {"network": name, "degradation": degradation, "image": image, "psnr": psnr + seed, "ssim": 0.8}
        for name, psnr in {"bicubic": 20.0, "baseline": 21.0, "target": 21.0 + gain}.items()
        for degradation in degradations
        for image in ("a", "b")
    ]
    config = {"seed": seed, "network": NETWORKS[network], "attribution": {"name": chosen}}
    tables = {"specificity": rows, "restoration": restoration}
    folder = folder or Path(f"runs/{network}-{seed}-{chosen}")
    return FinishedRun(folder, RunFiles(folder, config, {}, {"state": "done"}, {}, {}, tables))


@pytest.fixture
def three():
    return Comparison([make(seed) for seed in range(3)], "faig")


# Estimates


@pytest.mark.parametrize("numbers", [[0.1, 0.5], [0.3, 0.35, 0.9], list(np.linspace(-1, 2, 7))])
def test_the_interval_is_students(numbers):
    found = estimate(numbers)
    low, high = stats.t.interval(0.95, len(numbers) - 1, np.mean(numbers), stats.sem(numbers))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(numbers), low, high), abs=1e-12)
    assert found.n == len(numbers)


def test_one_number_has_no_interval_and_none_no_mean():
    assert estimate([0.5, None]) == estimate([0.5])
    assert (estimate([0.5]).low, estimate([0.5]).n) == (None, 1)
    assert estimate([None]) is None
    assert estimate([]) is None
    assert interval(estimate([0.5])) == ""
    assert interval(estimate([0.5, 0.5])) == "0.50 to 0.50"


# Comparisons


def test_means_are_over_masked_sets_and_then_over_seeds(three):
    shifts = np.array(list(NOISE.values()))
    found = three.estimate("SRResNet", "faig", 1.0)
    assert found.mean == pytest.approx(0.4 + shifts.mean())
    assert found.n == 3
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(shifts))
    assert three.estimate("SRResNet", "faig", 1.0, masked="blur").mean == pytest.approx(0.3 + shifts.mean())
    assert three.estimate("SRResNet", "faig", 1.0, "other").mean == pytest.approx(0.1)
    assert three.estimate("SRResNet", "faig", 7.0) is None
    assert three.estimate("SRResNet", "ig", 1.0) is None


def test_differences_are_paired(three):
    """Seeds shift both methods alike: the difference has no spread although each method has."""
    found = three.difference(["SRResNet"], "signed_share", 1.0)
    assert (found.mean, found.n) == (pytest.approx(0.4), 3)
    assert found.high - found.low == pytest.approx(0, abs=1e-9)
    assert three.estimate("SRResNet", "signed_share", 1.0).high - three.estimate("SRResNet", "faig", 1.0).low > 0.4


def test_a_sweep_over_methods_counts_each_training_once():
    runs = [make(seed, chosen=chosen) for seed in range(3) for chosen in ("faig", "signed_share")]
    comparison = Comparison(runs, "faig")
    assert comparison.groups == ["SRResNet"]
    assert comparison.estimate("SRResNet", "faig", 1.0).n == 3
    assert comparison.gain("SRResNet", "blur").n == 3
    assert [run.files.config["attribution"]["name"] for run in comparison.repeated] == ["signed_share"] * 3


def test_methods_of_different_runs_come_together():
    comparison = Comparison(
        [make(0, methods=("faig",)), make(0, methods=("signed_share",), chosen="signed_share")], "faig"
    )
    assert comparison.methods == ["faig", "signed_share"]
    assert comparison.repeated == []
    assert comparison.difference(["SRResNet"], "signed_share", 1.0).mean == pytest.approx(0.4)


def test_networks_are_groups_and_runs_may_have_other_percents():
    runs = [make(0), make(1), make(0, "SRCNNStyle", percents=(1.0, 10.0))]
    comparison = Comparison(runs, "faig")
    assert comparison.groups == ["SRResNet", "SRCNNStyle"]
    assert comparison.percents == [0.5, 1.0, 10.0]
    assert comparison.estimate("SRCNNStyle", "faig", 0.5) is None
    assert comparison.difference(comparison.judged, "signed_share", 1.0).n == 3
    assert comparison.difference(comparison.judged, "signed_share", 10.0).n == 1


def test_the_best_is_of_a_column(three):
    assert three.best("SRResNet", 1.0) == "signed_share"
    assert three.best("SRResNet", 7.0) is None
    assert Comparison([make(methods=("faig",))], "faig").best("SRResNet", 1.0) is None


def test_the_reference_is_there_or_the_first_method_is():
    assert Comparison([make(methods=("signed_share", "random"))], "faig").reference == "signed_share"


def test_gains_are_those_of_the_targets(three):
    assert three.gain("SRResNet", "blur").mean == pytest.approx(3.0)
    assert three.psnr("SRResNet", "baseline", "noise").mean == pytest.approx(22.0)


def test_what_restores_too_little_is_not_summed_up():
    comparison = Comparison([*(make(seed) for seed in range(3)), make(0, "SRCNNStyle", gain=0.2, shift=9)], "faig")
    assert comparison.judged == ["SRResNet"]
    (warning,) = {text.partition(" in ")[0] for text in warnings(comparison)}
    assert warning == "SRCNNStyle: the target is only 0.20 dB above the baseline"
    assert not any("SRCNNStyle" in sentence for sentence in sentences(comparison))


# Words


def test_sentences_follow_the_numbers():
    runs = [make(seed, network) for network in NETWORKS for seed in range(3)]
    first, second, together = sentences(Comparison(runs, "faig"))
    assert first.startswith("SRResNet: signed share is the most specific at 1 %, with 0.79 (")
    assert "Signed share minus FAIG in the same run: +0.40 (0.40 to 0.40) over 3 runs: more specific." in first
    assert second.startswith("SRCNNStyle: ")
    assert together.startswith("In all of them together signed share minus FAIG in the same run: +0.40 ")
    assert "over 6 runs" in together


def test_a_difference_that_may_be_none_is_called_so():
    runs = [make(0), make(1, methods=("faig", "random"))]
    rival = make(1, methods=("signed_share",), shift=-0.3, chosen="signed_share")
    (text,) = sentences(Comparison([*runs, rival], "faig"))
    assert text.endswith("over 2 runs: the interval holds zero, so these runs do not tell them apart.")


def test_one_run_claims_nothing_about_runs():
    (text,) = sentences(Comparison([make(0)], "faig"))
    assert text.endswith("over 1 run; one run says nothing about how much runs differ.")


# The page


def test_the_page_shows_and_links_everything(three, tmp_path):
    sweep, place = tmp_path / "my sweep", tmp_path / "outputs" / "compare"
    runs = [make(seed, network, folder=sweep / f"{network} {seed}") for network in NETWORKS for seed in range(3)]
    for run in runs[:-1]:
        run.folder.mkdir(parents=True)
        (run.folder / "report.html").touch()
    page = write_comparison(place, Comparison(runs, "faig"), [LeftOut(sweep / "7", "failed: <disk> full")])
    text = page.read_text(encoding="utf-8")
    assert text.count('class="best"') == 4
    links = re.findall(r'<a href="(\.\.[^"]+)"', text)
    assert links[0] == "../../my%20sweep/SRResNet%200/report.html"
    assert len(links) == 5
    assert "SRCNNStyle 2 (no report)" in text
    assert "failed: &lt;disk&gt; full" in text
    assert "all runs together" in text
    assert "<script" not in text
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:|\.\./|\w+\.csv)""", text)
    assert (place / "specificity.png").is_file()


def test_a_single_degradation_has_a_page_without_specificity(tmp_path):
    comparison = Comparison([make(degradations=("blur",))], "faig")
    assert specificity_figure(comparison) is None
    text = write_comparison(tmp_path, comparison, []).read_text(encoding="utf-8")
    assert "There is nothing to sum up" in text
    assert not (tmp_path / "specificity.png").exists()


@pytest.mark.parametrize("groups", [1, 2])
def test_the_figure_has_a_panel_for_each_group_and_a_line_for_each_method(groups):
    runs = [make(seed, network) for network in list(NETWORKS)[:groups] for seed in range(3)]
    figure = specificity_figure(Comparison(runs, "faig"))
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == groups
    assert all(len(panel.containers) == 3 for panel in panels)
