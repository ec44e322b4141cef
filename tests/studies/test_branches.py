"""One branch against two: paired differences, whole photographs, filters outside of the predictor, right labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from study_case import context_of, grid, image, rows_of, stored

from faig_lab.attribution import Problem, discovered, quadrature
from faig_lab.data import PairedImage
from faig_lab.evaluation.intervals import Resampling
from faig_lab.metrics import METRICS, quality
from faig_lab.networks import SECOND_BRANCH, SRResNet, TwoBranchSRResNet
from faig_lab.runs.folder import RunFolder
from faig_lab.studies.branches import (
    EVERYTHING,
    ONE,
    SECTION,
    TWO,
    Answer,
    accuracy_rows,
    answers,
    branches,
    compare,
    discriminative,
    restoring,
    without_predictor,
)
from faig_lab.studies.context import NetworkTrainer, Pair

NODE = {"_target_": "faig_lab.networks.TwoBranchSRResNet", "features": 3}


def moved(network, seed, size=0.05):
    """Baseline and target: the network's weights, and these with noise on them."""
    torch.manual_seed(seed)
    baseline = {n: v.clone() for n, v in network.state_dict().items()}
    return Pair(network, baseline, {n: v + size * torch.randn_like(v) for n, v in baseline.items()})


def two_branches(seed=0):
    torch.manual_seed(seed)
    return TwoBranchSRResNet(features=4, blocks=1, predictor_features=3)


def one_branch(seed):
    torch.manual_seed(seed)
    return SRResNet(features=4, blocks=1)


class Trainer:
    """Rivals that are there at once, and what was asked of them."""

    def __init__(self, rival=None):
        self.rival, self.asked, self.timed = rival, [], []

    def train(self, network, seed):
        self.asked.append((network, seed))
        if network is None:
            return moved(one_branch(seed), seed)
        return self.rival or moved(two_branches(seed), seed)

    def seconds(self, networks, steps):
        self.timed.append((list(networks), steps))
        return [0.25, 0.5]


def studied(rival=None, context=None, **parameters):
    trainer, context = Trainer(rival), context or context_of()
    context = replace(context, trainer=NetworkTrainer(trainer.train, trainer.seconds, lambda baseline, seed: baseline))
    return context, trainer, branches(context, NODE, resamples=50, crop=16, **parameters)


def same(context):
    """The subject's own networks as a rival."""
    return Pair(context.network, context.problem.baseline, context.problem.target)


# The comparison


def test_a_network_is_as_good_as_itself():
    context, _, found = studied(same(context_of()))
    assert {row["difference"] for row in found.rows("branches")} == {0.0}
    assert {(row["low"], row["high"]) for row in found.rows("branches")} == {(0.0, 0.0)}
    sides = [
        [row | {"network": None} for row in rows_of(found, "branches_filters", network=network)]
        for network in (ONE, TWO)
    ]
    assert sides[0] == sides[1]
    assert sides[0]
    assert "branches_prediction" not in found.tables
    assert "branches_predictor" not in found.tables
    parameters = sum(p.numel() for p in context.network.parameters())
    assert (
        found.metrics["branches/parameters/one_branch"] == found.metrics["branches/parameters/two_branch"] == parameters
    )


def test_differences_are_means_over_images_of_one_minus_two():
    context, _, found = studied(rival := moved(two_branches(), 5))
    for degradation in ("clean", "blur", "noise"):
        found_values = {}
        for name, network, state in ((ONE, context.network, context.target), (TWO, rival.network, rival.target)):
            network.load_state_dict(dict(state))
            with torch.no_grad():
                outputs = [network(i.lr[degradation][None]) for i in context.data.held_out]
            pairs = zip(outputs, context.data.held_out, strict=True)
            found_values[name] = [quality(output, i.hr[None], 2) for output, i in pairs]
        for measure in METRICS:
            (row,) = rows_of(found, "branches", measure=measure, degradation=degradation)
            one, two = (np.mean([float(v[measure]) for v in found_values[name]]) for name in (ONE, TWO))
            assert (row[ONE], row[TWO]) == pytest.approx((one, two), abs=1e-4)
            assert row["difference"] == pytest.approx(one - two, abs=1e-4)
            key = f"branches/{measure}/{degradation}"
            assert found.metrics[f"{key}/difference"] == row["difference"]
            assert found.metrics[f"{key}/low"] == row["low"] <= row["difference"] <= row["high"]


def images(differences, seeds=(0,)):
    """Rows of `branches_images`: two branches have 20 dB, one branch has that much more, by seed and image."""
    return [
        {"seed": seed, "network": network, "degradation": "blur", "image": f"i{place}"}
        | dict.fromkeys(METRICS, 20.0 + (more if network == ONE else 0.0))
        for seed, row in zip(seeds, differences, strict=True)
        for network in (ONE, TWO)
        for place, more in enumerate(row)
    ]


def test_crops_of_one_photograph_are_drawn_together():
    differences = [[1.0, 3.0, -1.0, -1.0]]
    apart = compare(images(differences), ["a", "b", "c", "d"], Resampling(0, 500))[0]
    together = compare(images(differences), ["a", "a", "b", "b"], Resampling(0, 500))[0]
    assert apart["difference"] == together["difference"] == 0.5
    assert (together["low"], together["high"]) == (-1.0, 2.0)  # one photograph or the other, drawn twice
    assert apart["high"] > 2.0
    assert (apart["photographs"], together["photographs"], together["images"]) == (4, 2, 4)


def test_one_photograph_has_no_interval():
    row = compare(images([[1.0, 3.0]]), ["a", "a"], Resampling(0, 20))[0]
    assert (row["difference"], row["low"], row["high"]) == (2.0, None, None)


def test_seeds_are_averaged_and_their_range_is_told():
    row = compare(images([[1.0, 2.0], [-1.0, 0.0]], (0, 7)), ["a", "b"], Resampling(0, 200))[0]
    assert row["difference"] == 0.5
    assert (row["lowest_seed"], row["highest_seed"], row["seeds"]) == (-0.5, 1.5, 2)
    assert (row["low"], row["high"]) == (0.0, 1.0)


def test_each_further_seed_trains_both_networks_and_the_runs_own_seed_the_rival_only():
    context, trainer, found = studied(seeds=[8, 3])
    assert context.problem.seed == 3
    assert trainer.asked == [(NODE, 3), (None, 8), (NODE, 8)]
    for table in ("branches_images", "branches_filters"):
        assert {(row["seed"], row["network"]) for row in found.rows(table)} == {
            (s, n) for s in (3, 8) for n in (ONE, TWO)
        }
    assert {row["seed"] for row in found.rows("branches_predictor")} == {3, 8}
    assert {row["seeds"] for row in found.rows("branches")} == {2}


def test_time_is_taken_in_turn_or_not_at_all():
    _, trainer, found = studied(timed_steps=7)
    assert trainer.timed == [([None, NODE], 7)]
    assert found.metrics["branches/step_seconds/one_branch"] == 0.25
    assert found.metrics["branches/step_seconds/two_branch"] == 0.5
    _, trainer, found = studied(timed_steps=0)
    assert trainer.timed == []
    assert not [name for name in found.metrics if "seconds" in name]


@pytest.mark.parametrize("degradations", [("blur",), ("blur", "noise", "jpeg")])
def test_any_number_of_degradations(degradations):
    torch.manual_seed(0)
    network = TwoBranchSRResNet(features=4, blocks=1, predictor_features=3, degradations=degradations)
    found = studied(moved(network, 1), context_of(degradations))[2]
    predicted = [row["predicted"] for row in found.rows("branches_prediction")]
    assert predicted == [*degradations, EVERYTHING]
    specific = [row["specificity"] for row in rows_of(found, "branches_filters", method="faig")]
    assert (None in specific) == (len(degradations) == 1)


# Filters


def test_the_methods_are_the_runs_own_and_those_asked_for():
    found = studied(methods=["signed_share", "random", "unknown"])[2]
    assert {row["method"] for row in found.rows("branches_filters")} == {"faig", "signed_share"}
    found = studied(methods=[])[2]
    assert {row["method"] for row in found.rows("branches_filters")} == {"faig"}


def test_scores_keep_the_filters_outside_of_the_predictor_in_their_order():
    pair = moved(two_branches(), 1)
    problem = Problem(
        pair.network, pair.baseline, pair.target, (image(1, ("blur",)),), ("blur",), quadrature("midpoint", 1)
    )
    values = torch.arange(len(problem.layout), dtype=torch.float64)[None, None]
    found = restoring({"faig": values}, problem)
    assert [layer.name for layer in found.layout.layers] == [
        layer.name for layer in problem.layout.layers if not layer.name.startswith(SECOND_BRANCH)
    ]
    assert found.scores["faig"].shape == (1, 1, len(found.layout))
    for index, score in enumerate(found.scores["faig"][0, 0].tolist()):
        assert problem.layout.address(int(score)) == found.layout.address(index)


def test_masking_leaves_the_predictor_and_shares_are_own_and_other():
    pair = moved(two_branches(), 1)
    context = context_of()
    problem = replace(context.problem, network=pair.network, baseline=pair.baseline, target=pair.target)
    generator = torch.Generator().manual_seed(0)
    scores = {"faig": torch.rand(1, *problem.shape, generator=generator, dtype=torch.float64)}
    study = replace(context, problem=problem, attribution=restoring(scores, problem))
    rows = list(discriminative(study))
    for k, row in enumerate(rows):
        filters = discovered(study.attribution.scores["faig"][0, k], study.headline)
        state = dict(study.target)
        for index in filters.tolist():
            layer, (out, in_) = study.attribution.layout.address(index)
            assert not layer.startswith(SECOND_BRANCH)
            state[layer] = state[layer].clone()
            state[layer][out, in_] = study.baseline[layer][out, in_]
        removed = [float(study.evaluator.evaluate(state, name).removed) for name in ("blur", "noise")]
        assert (row["own"], row["other"]) == pytest.approx((removed[k], removed[1 - k]))
        assert row["specificity"] == pytest.approx(removed[k] - removed[1 - k])
    assert [row["masked"] for row in rows] == ["blur", "noise"]


def test_a_predictor_that_does_everything_takes_everything_along():
    pair = moved(two_branches(), 1, size=0.5)
    target = {n: v if n.startswith(SECOND_BRANCH) else pair.baseline[n] for n, v in pair.target.items()}
    problem = replace(context_of().problem, network=pair.network, baseline=pair.baseline, target=target)
    study = replace(context_of(), problem=problem)
    assert [row["removed"] for row in without_predictor(study)] == [1.0, 1.0]
    assert list(without_predictor(context_of())) == []


# Prediction


def test_the_predictor_is_asked_about_every_input_of_every_crop():
    pair = moved(two_branches(), 2, size=0.3)
    generator = torch.Generator().manual_seed(0)
    lr = {name: torch.rand(3, 16, 24, generator=generator) for name in ("clean", "blur", "noise", "blur+noise")}
    photograph = PairedImage("coffee_x0_y0", torch.rand(3, 32, 48), lr, "coffee")
    found = answers(pair.network, pair.target, [photograph], degradations=("blur", "noise"), crop=16)
    assert len(found) == 2 * 3 * 4
    assert {answer.scene for answer in found} == {"coffee"}
    applied = {answer.input: answer.applied for answer in found}
    assert applied == {
        "clean": {"blur": False, "noise": False},
        "blur": {"blur": True, "noise": False},
        "noise": {"blur": False, "noise": True},
        "blur+noise": {"blur": True, "noise": True},
    }
    pair.network.load_state_dict(dict(pair.target))
    with torch.no_grad():
        logits = pair.network.predict(lr["noise"][None, :, :8, :8])[1][0]
    first = next(answer for answer in found if answer.input == "noise")
    assert list(first.predicted.values()) == (logits > 0).tolist()
    assert (
        answers(one_branch(0), one_branch(0).state_dict(), [photograph], degradations=("blur", "noise"), crop=16) == []
    )


def test_accuracy_is_balanced_and_everything_is_all_at_once():
    said = [
        Answer(scene, kind, {"blur": "blur" in kind, "noise": False}, {"blur": seen, "noise": False})
        for scene in ("a", "b")
        for kind, seen in (("clean", False), ("clean", True), ("clean", False), ("clean", False), ("blur", True))
    ]
    blur, noise, everything = accuracy_rows(said, 0, 20)
    assert blur["value"] == pytest.approx((3 / 4 + 1) / 2)
    assert noise["value"] == 1  # it is never there, and never seen
    assert everything["value"] == pytest.approx((3 / 4 + 1) / 2)
    assert (blur["low"], blur["high"]) == pytest.approx((0.875, 0.875))
    assert blur["inputs"] == 10
    assert accuracy_rows([], 0, 20) == []


INPUTS = ("clean", "blur", "noise", "blur+noise")


@pytest.fixture
def make(make_run):
    def write(seeds=1, interval="bootstrap", two=True, **differences):
        """Differences: `<measure>_<input>` → difference, low, high of a row; 0.01, −0.05 and 0.07 otherwise."""
        levels = {"psnr": 25.0, "psnr_y": 26.0, "ssim": 0.8}
        rows = grid(measure=[*levels], degradation=INPUTS)
        for row in rows:
            known = differences.get(f"{row['measure']}_{row['degradation']}", (0.01, -0.05, 0.07))
            difference, low, high = known if interval else (known[0], None, None)
            level = levels[row["measure"]]
            row |= {"one_branch": level + difference, "two_branch": level, "difference": difference}
            row |= {"low": low, "high": high, "interval": interval, "seeds": seeds, "photographs": 3, "images": 6}
            row |= {"lowest_seed": difference - 0.3, "highest_seed": difference + 0.3}
        own = {"one_branch": 0.9, "two_branch": 0.7}
        filters = grid(
            seed=list(range(seeds)), network=[*own], method=["faig", "signed_share"], percent=1.0, filters=122,
            masked=["blur", "noise"], own=lambda row: own[row["network"]], other=0.1,
        )  # fmt: skip
        tables = {"branches": rows, "branches_filters": filters}
        metrics = {"branches/parameters/one_branch": 110691.0, "branches/parameters/two_branch": 110665.0}
        if two:
            predicted = {"blur": (0.97, 0.9, 1.0), "noise": (1.0, 1.0, 1.0), "everything": (0.95, 0.9, 0.99)}
            tables["branches_prediction"] = [
                {"predicted": name, "value": value, "low": low, "high": high}
                for name, (value, low, high) in predicted.items()
            ]
            tables["branches_predictor"] = grid(seed=0, degradation=["blur", "noise"], removed=0.2)
            metrics |= {"branches/step_seconds/one_branch": 0.02, "branches/step_seconds/two_branch": 0.03}
        return stored(make_run(), metrics, **tables)

    return write


def cells(run, start):
    return next(list(row[1:]) for row in SECTION.table(run).rows if row[0].startswith(start))


def test_differences_are_numbers_of_either_sign(make):
    found = {"psnr_noise": (-0.2, -0.3, -0.1), "psnr_blur": (0.4, 0.2, 0.6)}
    run = make(**found, ssim_clean=(0.02, 0.01, 0.03))
    assert SECTION.sentence(run).startswith(
        "Both were trained for 3,000 and 3,000 iterations (baseline and target). "
        "PSNR, one branch minus two branches (in brackets the 95 % interval over photographs): +0.01 (−0.05 to +0.07) "
        "dB on clean input, +0.40 (+0.20 to +0.60) dB on blurred input, −0.20 (−0.30 to −0.10) dB on noisy input and"
    )
    assert cells(run, "SSIM, clean") == ["0.820", "0.800", "+0.020 (+0.010 to +0.030)"]
    inputs = ("clean", "blurred", "noisy", "blurred and noisy")
    heads = [row[0] for row in SECTION.table(run).rows[:8]]
    assert heads == [f"{measure}, {name} input" for measure in ("PSNR", "SSIM") for name in inputs]


def test_few_photographs_have_a_range_that_is_called_so_and_one_has_none(make):
    assert "(in brackets the range over photographs)" in SECTION.sentence(make(interval="range"))
    run = make(interval=None, psnr_noise=(-0.9, -1.0, -0.8))
    assert SECTION.figure(run) is not None
    text = SECTION.sentence(run)
    assert "PSNR, one branch minus two branches: +0.01 dB on clean input" in text
    assert "−0.90 dB on noisy input and" in text


def test_networks_that_were_given_have_no_iterations(make, make_run):
    run = make()
    make_run(trained=False)  # writes the configuration of given networks into the same folder
    text = SECTION.sentence(RunFolder(run.path))
    assert text.startswith("The run's own network was given and not trained by this run. PSNR,")


def test_the_table_has_predictor_sets_sizes_and_times(make):
    run = make()
    assert cells(run, "blur predicted") == ["", "97 % (90 % to 100 %)", ""]
    assert cells(run, "everything predicted") == ["", "95 % (90 % to 99 %)", ""]
    assert cells(run, "deblurring lost with the predictor") == ["", "20 %", ""]
    assert cells(run, "deblurring removed by the set of FAIG") == ["90 % (10 %)", "70 % (10 %)", ""]
    assert cells(run, "parameters") == ["110,691", "110,665", ""]
    assert cells(run, "ms a step") == ["20.0", "30.0", ""]


def test_a_rival_without_predictor_and_times_has_no_such_rows(make):
    heads = " ".join(row[0] for row in SECTION.table(make(two=False)).rows)
    assert not any(word in heads for word in ("predicted", "predictor", "ms a step"))


def test_seeds_are_crosses(make):
    drawn = [SECTION.figure(make(seeds=seeds)).axes[0].lines for seeds in (3, 1)]
    crosses = [[list(line.get_xdata()) for line in lines if line.get_marker() == "x"] for lines in drawn]
    assert crosses[0][2] == pytest.approx([-0.29, 0.31])
    assert crosses[1] == []
