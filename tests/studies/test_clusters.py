"""Clusters: the index of known features, groups that masking merges exactly, and the section of the report."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from coloured_case import coloured_context as between
from coloured_case import passing
from study_case import METHODS, context_of, grid, rows_of, stored

from faig_lab.attribution import attribute, discovered
from faig_lab.cli.arguments import compose
from faig_lab.cli.build import check_selection
from faig_lab.config import check
from faig_lab.data import PairedImage
from faig_lab.errors import InputError, UserError
from faig_lab.evaluation.prediction import separation
from faig_lab.studies.clusters import SECTION, clusters


def coloured(seed):
    """Clean input; with red light for blur and with green light for noise."""
    clean = 0.5 * torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed))
    red, green = (torch.eye(3)[channel][:, None, None] / 4 for channel in (0, 1))
    lr = {"clean": clean, "blur": clean + red, "noise": clean + green}
    return PairedImage(f"image{seed}", torch.rand(3, 16, 16), lr)


def coloured_context(images=5):
    """The target passes all colours on. The baseline sees neither red nor green."""
    return between([coloured(seed) for seed in range(images)], passing(2), passing(0, 1, 2))


def index(found, network, a="all", b="all"):
    (row,) = rows_of(found, "clusters", network=network, a=a, b=b)
    return row["index"]


def test_the_index_is_that_of_the_whole_features():
    """With the identity as first layer, features are the input; all components keep all distances."""
    context = coloured_context()
    vectors = [
        image.lr[name].flatten().numpy() for name in ("clean", "blur", "noise") for image in context.data.held_out
    ]
    labels = ["clean"] * 5 + ["blur"] * 5 + ["noise"] * 5
    found = clusters(context, crop=16)
    assert index(found, "target") == pytest.approx(separation(np.stack(vectors), labels), rel=1e-4)
    assert found.metrics["clusters/target/all"] == index(found, "target")
    some = separation(np.stack(vectors[5:]), labels[5:])
    assert index(found, "target", "blur", "noise") == pytest.approx(some, rel=1e-4)


def test_masking_merges_the_own_degradation_with_clean_input_and_no_other():
    found = clusters(coloured_context(), methods=[], crop=16)
    apart = index(found, "target", "clean", "noise")
    assert apart > 1
    assert index(found, "target", "clean", "blur") > 1
    assert index(found, "faig/2.3/blur", "clean", "blur") == pytest.approx(0, abs=1e-6)
    assert index(found, "faig/2.3/noise", "clean", "noise") == pytest.approx(0, abs=1e-6)
    assert index(found, "faig/2.3/blur", "clean", "noise") > 1
    assert index(found, "baseline") == pytest.approx(0, abs=1e-6)
    assert {row["network"] for row in found.rows("clusters")} == {
        *("baseline", "target", "faig/2.3/blur", "faig/2.3/noise")
    }


def test_further_methods_are_masked_and_missing_ones_left_out():
    found = clusters(coloured_context(), methods=["random", "ig"], crop=16)
    assert index(found, "random/2.3/noise", "clean", "blur") == pytest.approx(0, abs=1e-6)
    assert not any("/ig/" in key for key in found.metrics)
    assert {row["filters"] for row in found.rows("clusters") if row["masked"]} == {1}


def test_fewer_components_lose_what_lies_in_the_others():
    found = clusters(coloured_context(), methods=[], crop=16, components=1)
    whole = clusters(coloured_context(), methods=[], crop=16)
    assert index(found, "target") != pytest.approx(index(whole, "target"), rel=0.01)


def test_another_layer_can_be_read():
    """What the first layer reads is the input, in the baseline too."""
    found = clusters(coloured_context(), methods=[], crop=16, layer="first")
    assert index(found, "baseline") == index(found, "target") > 1


def test_every_crop_has_a_place_for_each_input():
    points = clusters(coloured_context(), methods=[], crop=16).rows("clusters_points")
    assert len(points) == 4 * 3 * 5
    assert {row["image"] for row in points} == {f"image{seed}" for seed in range(5)}


def test_crops_are_at_most_so_many_and_of_one_size(caplog):
    context = coloured_context(6)
    odd = PairedImage("odd", torch.rand(3, 16, 12), {n: torch.rand(3, 8, 6) for n in ("clean", "blur", "noise")})
    context = replace(context, data=replace(context.data, held_out=(odd, *context.data.held_out)))
    with caplog.at_level("INFO"):
        found = clusters(context, methods=[], crop=16)
    assert {row["crops"] for row in found.rows("clusters")} == {6}
    assert "1 crops are left out" in caplog.text
    found = clusters(context, methods=[], crop=16, most=3)
    assert {row["crops"] for row in found.rows("clusters")} == {2}


@pytest.mark.parametrize("degradations", [("blur",), ("blur", "noise", "jpeg")])
def test_any_number_of_degradations(degradations):
    context = context_of(degradations)
    found = clusters(context, crop=16)
    pairs = {(row["a"], row["b"]) for row in found.rows("clusters")}
    assert len(pairs) == 1 + (len(degradations) + 1) * len(degradations) // 2
    filters = {row["filters"] for row in found.rows("clusters") if row["masked"] == "blur"}
    assert filters == {len(discovered(context.attribution.scores["faig"][0, 0], context.headline))}


def test_a_layer_that_is_not_there_is_refused_before_anything_is_trained():
    with pytest.raises(InputError, match="layer: the network has no layer 'last1'; nearest: last"):
        clusters(coloured_context(), layer="last1")
    settings = check(compose(["analysis=clusters", "analysis.studies.clusters.layer=conv_lats", "trainer=cpu"]))
    with pytest.raises(UserError, match=r"^analysis\.studies\.clusters\.layer: the network has no layer 'conv_lats'"):
        check_selection(settings)


def test_the_trained_features_depend_on_the_methods_of_the_run():
    """The study reads the run's scores, not scores of its own."""
    context = context_of()
    context = replace(context, attribution=attribute(context.problem, METHODS), method="signed_share")
    found = clusters(context, methods=[], crop=16)
    assert {row["method"] for row in found.rows("clusters")} == {None, "signed_share"}


@pytest.fixture
def run(make_run):
    networks = {"baseline": (None, None), "target": (None, None)}
    networks |= {f"{m}/1/{name}": (m, name) for m in ("faig", "random") for name in ("blur", "noise")}
    labels = grid(
        network=[*networks], method=lambda row: networks[row["network"]][0], percent=lambda row: row["method"] and 1,
        filters=lambda row: row["method"] and 122, masked=lambda row: networks[row["network"]][1],
    )  # fmt: skip
    pairs = [("all", "all"), ("clean", "blur"), ("clean", "noise"), ("blur", "noise")]
    rows = [
        row | {"a": a, "b": b, "index": 10.0 + k - j, "crops": 4}
        for k, row in enumerate(labels)
        for j, (a, b) in enumerate(pairs)
    ]
    places = grid(input=["clean", "blur", "noise"], image="0801", x=[0.0, 1.0, 2.0], y=2.0)
    points = [row | place for row in labels for place in places]
    return stored(make_run(), clusters=rows, clusters_points=points)


def test_the_sentence_has_the_index_of_the_runs_own_method(run):
    assert SECTION.sentence(run) == (
        "Calinski–Harabasz index of all inputs: baseline 10.0, target 11.0, deblurring masked 12.0 and denoising "
        "masked 13.0."
    )


def test_the_table_has_a_row_for_each_network_and_a_column_for_each_pair(run):
    table = SECTION.table(run)
    assert table.head[1:] == ["All inputs", "Clean, blurred", "Clean, noisy", "Blurred, noisy"]
    assert [row[0] for row in table.rows][:3] == ["Baseline", "Target", "Deblurring masked, FAIG"]
    assert table.rows[0][1:] == ["10.0", "9.0", "8.0", "7.0"]


def test_the_figure_has_a_panel_for_each_network(run):
    drawn = [panel for panel in SECTION.figure(run).axes if panel.lines]
    assert len(drawn) == 6
    assert [line.get_label() for line in drawn[0].lines] == ["clean input", "blurred input", "noisy input"]
