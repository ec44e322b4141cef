"""Means over seeds with intervals, differences run by run, the conditions for words of order, and the page."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from faig_lab.evaluation import intervals
from faig_lab.plotting.words import decimal
from faig_lab.report import texts
from faig_lab.report.comparison import (
    Comparison,
    comparison_figure,
    estimate,
    obstacles,
    repeats,
    sentences,
    warnings,
    write_comparison,
)
from faig_lab.runs.finished_runs import LeftOut
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import frame

NETWORKS = {
    "SRResNet": {"_target_": "faig_lab.networks.SRResNet", "scale": 2},
    "SRCNNStyle": {"_target_": "faig_lab.networks.SRCNNStyle", "scale": 2},
    "Other": {"_target_": "a.Other", "scale": 2},
}
# Specificity of a method's blur set; the noise set has 0.2 more.
SHARES = {"faig": 0.3, "signed_share": 0.6, "random": 0.0, "learned_mask": 0.65}
# Isolation of both sets; it turns the order of FAIG and the signed share.
ISOLATION = {"faig": 0.5, "signed_share": -0.2, "random": 0.1, "learned_mask": 0.9}
NOISE = {0: 0.00, 1: 0.04, 2: -0.07}


def make(
    seed=0, network="SRResNet", methods=("faig", "signed_share", "random"), shift=0.0, gain=3.0, chosen="faig",
    percents=(0.5, 1.0), degradations=("blur", "noise"), folder=None, isolated=False, photographs=10,
):  # fmt: skip
    rows, isolation = [], []
    for method in methods:
        for percent in percents:
            for index, masked in enumerate(degradations):
                moved = (NOISE[seed] if method != "random" else 0) + shift
                own = SHARES[method] + 0.2 * index + moved
                other = 0.1 if len(degradations) > 1 else None
                place = {"method": method, "percent": percent, "masked": masked}
                rows.append(
                    place | {"own": own + (other or 0), "other": other, "specificity": own if other else None}
                )  # fmt: skip
                isolation.append(
                    place | {"isolation": ISOLATION[method] + 0.1 * index + moved, "clean_change": -0.3 + moved}
                )  # fmt: skip
    restoration = [
        {"network": name, "degradation": degradation, "image": image, "psnr": psnr + seed, "ssim": 0.8}
        for name, psnr in {"bicubic": 20.0, "baseline": 21.0, "target": 21.0 + gain}.items()
        for degradation in degradations
        for image in ("a", "b")
    ]
    config = {"seed": seed, "network": NETWORKS[network], "attribution": {"name": chosen}}
    tables = {"specificity": rows, "restoration": restoration, "comparison": [{"photographs": float(photographs)}]}
    tables |= {"isolation": isolation} if isolated else {}
    frames = {name: frame(rows) for name, rows in tables.items()}
    folder = folder or Path(f"runs/{network}-{seed}-{chosen}")
    run = RunFolder(folder)
    vars(run).update(config=config, metrics={}, status={"state": "done"}, _tables=frames)  # as if they were read
    return run


@pytest.fixture
def three():
    return Comparison([make(seed) for seed in range(3)], "faig")


@pytest.fixture
def isolated():
    methods = ("faig", "signed_share", "random", "learned_mask")
    return Comparison([make(seed, methods=methods, isolated=True) for seed in range(3)], "faig")


# Means and differences


@pytest.mark.parametrize("numbers", [[0.1, 0.5], [0.3, 0.35, 0.9], list(np.linspace(-1, 2, 7))])
def test_the_interval_is_students(numbers):
    found = estimate([*numbers, None])
    low, high = stats.t.interval(0.95, len(numbers) - 1, np.mean(numbers), stats.sem(numbers))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(numbers), low, high), abs=1e-12)
    assert found.n == len(numbers)


def test_one_number_has_no_interval_and_none_no_mean():
    one = estimate([0.5, None])
    assert (one.mean, one.low, one.high, one.n) == (0.5, None, None, 1)
    assert estimate([None]) is None


def test_means_are_over_masked_sets_and_then_over_seeds(three):
    shifts = np.array(list(NOISE.values()))
    found = three.estimate("SRResNet", "faig", 1.0)
    assert found.mean == pytest.approx(0.4 + shifts.mean())
    assert found.n == 3
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(shifts))
    assert three.estimate("SRResNet", "faig", 1.0, masked="blur").mean == pytest.approx(0.3 + shifts.mean())
    assert three.estimate("SRResNet", "faig", 1.0, measure="other").mean == pytest.approx(0.1)
    assert three.estimate("SRResNet", "faig", 7.0) is None
    assert three.estimate("SRResNet", "ig", 1.0) is None
    assert three.gain("SRResNet", "blur").mean == pytest.approx(3.0)
    assert three.psnr("SRResNet", "baseline", "noise").mean == pytest.approx(22.0)


def test_differences_are_paired(three):
    """Seeds shift both methods alike: the difference has no spread although each method has."""
    found = three.difference(["SRResNet"], "signed_share", 1.0)
    assert (found.mean, found.n) == (pytest.approx(0.3), 3)
    assert found.high - found.low == pytest.approx(0, abs=1e-9)
    assert three.estimate("SRResNet", "signed_share", 1.0).high - three.estimate("SRResNet", "faig", 1.0).low > 0.3


def test_a_sweep_over_methods_counts_each_training_once():
    runs = [make(seed, chosen=chosen) for seed in range(3) for chosen in ("faig", "signed_share")]
    comparison = Comparison(runs, "faig")
    assert comparison.groups == ["SRResNet"]
    assert comparison.estimate("SRResNet", "faig", 1.0).n == 3
    assert comparison.gain("SRResNet", "blur").n == 3
    assert [run.config["attribution"]["name"] for run in comparison.repeated] == ["signed_share"] * 3
    assert repeats(comparison)[0] == (
        "runs/SRResNet-0-signed_share repeats runs/SRResNet-0-faig: same settings, same seed; not counted twice."
    )


def test_methods_of_different_runs_come_together():
    comparison = Comparison(
        [make(0, methods=("faig",)), make(0, methods=("signed_share",), chosen="signed_share")], "faig"
    )
    assert comparison.methods == ["faig", "signed_share"]
    assert comparison.repeated == []
    assert comparison.difference(["SRResNet"], "signed_share", 1.0).mean == pytest.approx(0.3)
    assert Comparison([make(methods=("signed_share", "random"))], "faig").reference == "signed_share"


def test_networks_are_groups_and_runs_may_have_other_percents():
    runs = [make(0), make(1), make(0, "SRCNNStyle", percents=(1.0, 10.0))]
    comparison = Comparison(runs, "faig")
    assert comparison.groups == ["SRResNet", "SRCNNStyle"]
    assert comparison.percents == [0.5, 1.0, 10.0]
    assert comparison.estimate("SRCNNStyle", "faig", 0.5) is None
    assert comparison.difference(comparison.reliable, "signed_share", 1.0).n == 3
    assert comparison.difference(comparison.reliable, "signed_share", 10.0).n == 1


# Isolation


def test_isolation_is_the_headline_where_runs_hold_it(three, isolated):
    assert (three.measure, isolated.measure) == ("specificity", "isolation")
    shifts = np.array(list(NOISE.values()))
    found = isolated.estimate("SRResNet", "faig", 1.0)
    assert found.mean == pytest.approx(0.55 + shifts.mean())
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(shifts))
    assert isolated.estimate("SRResNet", "faig", 1.0, measure="clean_change").mean == pytest.approx(
        -0.3 + shifts.mean()
    )
    assert isolated.difference(["SRResNet"], "signed_share", 1.0).mean == pytest.approx(-0.7)
    assert isolated.difference(["SRResNet"], "signed_share", 1.0, measure="specificity").mean == pytest.approx(0.3)


def test_the_distance_to_the_learned_mask_is_paired_and_at_equal_percent(isolated):
    found = isolated.difference(["SRResNet"], "faig", 0.5, minus="learned_mask")
    assert (found.mean, found.low, found.high) == pytest.approx((-0.4, -0.4, -0.4))
    assert isolated.difference(["SRResNet"], "faig", 3.0, minus="learned_mask") is None


def test_a_run_without_isolation_is_compared_by_what_it_has():
    runs = [make(0, isolated=True), make(1, folder=Path("old/1"))]
    comparison = Comparison(runs, "faig")
    assert comparison.estimate("SRResNet", "faig", 1.0).n == 1
    assert comparison.estimate("SRResNet", "faig", 1.0, measure="own").n == 2
    (note,) = warnings(comparison)
    assert note == "old/1 has no isolation (tables/isolation.csv), only removed shares."
    (note,) = warnings(Comparison(runs[1:], "faig"))
    assert note.startswith("These runs have no isolation (tables/isolation.csv)")
    assert "compared by specificity" in note


def test_removed_shares_are_clipped_and_the_excess_is_harm():
    """The noise set removes 0.3 + 0.2 + 0.1 + 1 = 1.6 of its function, the blur set 1.4: shares of 1, harm of 0.5."""
    comparison = Comparison([make(0, shift=1.0)], "faig")
    found = {
        m: comparison.estimate("SRResNet", "faig", 1.0, measure=m).mean for m in ("own", "other", "specificity", "harm")
    }
    assert found == pytest.approx({"own": 1.0, "other": 0.1, "specificity": 0.9, "harm": 0.5})
    negative = Comparison([make(0, shift=-0.9)], "faig")
    assert negative.estimate("SRResNet", "faig", 1.0, measure="own").mean == 0
    assert negative.estimate("SRResNet", "faig", 1.0, measure="harm").mean == 0
    run = make(0, isolated=True)
    run.table("isolation")["harm"] = 0.25  # the harm of the table comes first
    assert Comparison([run], "faig").estimate("SRResNet", "faig", 1.0, measure="harm").mean == 0.25


# Words: each condition of method.md §9 alone forbids an order of methods

ENOUGH = {"scenes": (10, 24, 10), "trainings": 3, "gains": (0.5, 3.0, 2.0, 4.0, 1.0, 0.7)}


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({}, []),
        ({"scenes": (24, 9, 24)}, ["9 scenes (at least 10 are needed)"]),
        ({"scenes": (1,)}, ["1 scene (at least 10 are needed)"]),
        ({"scenes": (24, None, 24)}, ["the number of scenes is not known"]),
        ({"scenes": ()}, ["the number of scenes is not known"]),
        ({"trainings": 2}, ["2 trainings (at least 3 are needed)"]),
        ({"trainings": 1}, ["1 training (at least 3 are needed)"]),
        ({"gains": (3.0, 0.49, 3.0)}, ["a run whose target gains 0.49 dB (at least 0.5 dB are needed)"]),
        ({"gains": (9.0, 9.0, -0.2)}, ["a run whose target gains -0.20 dB (at least 0.5 dB are needed)"]),
        ({"gains": (3.0, None)}, ["the gain of a run is not known"]),
        ({"gains": ()}, ["the gain of a run is not known"]),
    ],
)
def test_one_obstacle_is_enough(change, reasons):
    assert obstacles(**ENOUGH | change) == reasons


def test_the_limit_of_scenes_is_that_of_the_bootstrap():
    assert texts.FEWEST_SCENES == intervals.FEWEST_SCENES


def test_sentences_are_means_and_the_differences_that_the_evidence_supports(isolated):
    means, differences = sentences(isolated)
    assert means.startswith("SRResNet, 1 % of the filters, isolation over 3 runs: FAIG 0.54 (0.40 to 0.68), signed")
    assert differences == (
        "Above FAIG: learned mask by 0.40 (0.40 to 0.40); below FAIG: signed share by 0.70 (0.70 to 0.70) and random "
        "filters by 0.39 (0.25 to 0.53) (in the same run)."
    )


@pytest.mark.parametrize(
    ("photographs", "seeds", "reason"),
    [(3, 3, "3 scenes"), (9, 3, "9 scenes"), (10, 2, "2 trainings"), (24, 1, "1 training")],
)
def test_too_few_scenes_or_trainings_name_no_order(tmp_path, photographs, seeds, reason):
    comparison = Comparison([make(seed, isolated=True, photographs=photographs) for seed in range(seeds)], "faig")
    _, why = sentences(comparison)
    assert why.startswith(f"No order of the methods follows from these runs: {reason} (at least ")
    assert "bove" not in " ".join(sentences(comparison))
    page = write_comparison(tmp_path, comparison, []).read_text(encoding="utf-8")
    assert 'class="clear"' not in page  # bold has the same conditions


def test_a_difference_whose_interval_contains_zero_is_not_put_into_words():
    runs = [make(seed, methods=("faig",)) for seed in range(3)]
    runs += [
        make(seed, methods=("signed_share",), shift=shift, chosen="signed_share")
        for seed, shift in enumerate((-0.5, -0.3, 0.2))
    ]
    comparison = Comparison(runs, "faig")
    found = comparison.difference(["SRResNet"], "signed_share", 1.0)
    assert found.low < 0 < found.high
    assert not comparison.may_claim(["SRResNet"], found)
    assert not comparison.may_claim(["SRResNet"], None)
    assert len(sentences(comparison)) == 1


def test_a_single_run_of_small_gain_is_not_hidden_by_the_mean():
    """Gains of 3, 3 and 0.2 dB have the mean 2.07. The group has no sentence, and the other group has one."""
    runs = [make(0), make(1), make(2, gain=0.2), make(0, "SRCNNStyle", gain=-0.2), make(0, "Other")]
    comparison = Comparison(runs, "faig")
    assert comparison.gain("SRResNet", "blur").mean == pytest.approx(6.2 / 3)
    assert comparison.reliable == ["Other"]
    assert all(sentence.startswith(("Other, ", "No order")) for sentence in sentences(comparison))
    notes = [note for note in warnings(comparison) if "seed" in note]
    assert [note.partition(". The measures")[0] for note in notes] == [
        f"{network} the target is {side} the baseline in {removal}"
        for network, side in (("SRResNet, seed 2:", "only 0.20 dB above"), ("SRCNNStyle, seed 0:", "0.20 dB below"))
        for removal in ("deblurring", "denoising")
    ]
    found = comparison.difference(["SRResNet"], "signed_share", 1.0)
    assert found.low > 0
    assert not comparison.may_claim(["SRResNet"], found)


def test_trainings_of_several_groups_count_as_those_of_the_smallest():
    comparison = Comparison([*(make(seed) for seed in range(3)), make(0, "SRCNNStyle")], "faig")
    assert comparison.obstacles(["SRResNet"]) == []
    assert comparison.obstacles(comparison.reliable) == ["1 training (at least 3 are needed)"]


# The page


def test_the_page_shows_and_links_everything(three, tmp_path):
    sweep, place = tmp_path / "my sweep", tmp_path / "outputs" / "compare"
    methods = ("faig", "signed_share", "learned_mask")
    runs = [
        make(seed, network, methods, isolated=True, folder=sweep / f"{network} {seed}")
        for network in ("SRResNet", "SRCNNStyle")
        for seed in range(3)
    ]
    for run in runs[:-1]:
        run.path.mkdir(parents=True)
        (run.path / "report.html").touch()
    page = write_comparison(place, Comparison(runs, "faig"), [LeftOut(sweep / "7", "failed: <disk> full")])
    text = page.read_text(encoding="utf-8")
    assert "Distance to the learned mask" in text
    assert "Change on clean input" in text
    # Both percents of both networks, and both together; of two other methods, and against the learned mask again.
    assert text.count('class="clear"') == 2 * 2 * 3 * 2
    links = re.findall(r'<a href="(\.\.[^"]+)"', text)
    assert links[0] == "../../my%20sweep/SRResNet%200/report.html"
    assert len(links) == 5
    assert "SRCNNStyle 2 (no report)" in text
    assert "failed: &lt;disk&gt; full" in text
    assert "all runs together" in text
    assert "<script" not in text
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:|\.\./|\w+\.csv)""", text)
    assert (place / "isolation.png").is_file()


def test_a_single_degradation_has_a_page_without_specificity(tmp_path):
    comparison = Comparison([make(degradations=("blur",))], "faig")
    assert comparison_figure(comparison) is None
    text = write_comparison(tmp_path, comparison, []).read_text(encoding="utf-8")
    assert "There is no summary" in text
    assert not (tmp_path / "specificity.png").exists()


def test_old_runs_have_no_column_of_what_they_lack(three, tmp_path):
    text = write_comparison(tmp_path, three, []).read_text(encoding="utf-8")
    assert "compared by specificity" in text
    assert "Change on clean input" not in text
    assert "earned mask" not in text
    assert (tmp_path / "specificity.png").is_file()


@pytest.mark.parametrize("groups", [1, 2])
def test_the_figure_has_lines_without_bars_and_a_row_per_method(groups):
    runs = [make(seed, network, isolated=True) for network in list(NETWORKS)[:groups] for seed in range(3)]
    figure = comparison_figure(Comparison(runs, "faig"))
    assert len(figure.axes) == 2 * groups
    for lines, dots in zip(figure.axes[::2], figure.axes[1::2], strict=True):
        assert lines.containers == []
        assert [line.get_label() for line in lines.lines[:3]] == ["FAIG", "signed share", "random filters"]
        assert [text.get_text() for text in dots.get_yticklabels()] == ["FAIG", "signed share", "random filters"]
        runs_of_faig = next(line for line in dots.lines if len(line.get_xdata()) == 3)
        assert sorted(runs_of_faig.get_xdata()) == pytest.approx(sorted(0.55 + shift for shift in NOISE.values()))


def test_what_lies_below_the_figure_is_marked_at_its_edge():
    runs = [make(seed, isolated=True, shift=-3.0) for seed in range(3)]
    figure = comparison_figure(Comparison(runs, "faig"))
    lines, dots = figure.axes
    assert lines.get_ylim()[0] == dots.get_xlim()[0] == -1.05
    lowest = min(lines.lines[0].get_ydata())
    assert lowest < -1.05
    assert f"▾ {decimal(lowest)}" in [text.get_text() for text in lines.texts]
