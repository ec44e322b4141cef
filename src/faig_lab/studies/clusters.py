"""Clusters: are the features of a network separated by degradation, and does masking merge the groups?

After Liu and others, Discovering Distinctive "Semantics" in Super-Resolution Networks (arXiv 2108.00406): the features
of degraded inputs are reduced by principal components, shown by t-SNE, and their separation by degradation is measured
by the Calinski–Harabasz index.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from faig_lab.data import CLEAN
from faig_lab.evaluation.masking import TableRow
from faig_lab.evaluation.prediction import (
    Crop,
    check_layer,
    choose_evenly,
    cut_crops,
    embedding,
    last_layer,
    layer_input,
    principal_components,
    separation,
)
from faig_lab.filters import State
from faig_lab.plotting.charts import legend_above
from faig_lab.plotting.style import drawing, input_colour, new_figure
from faig_lab.plotting.words import decimal, degraded, listed, method_label, removal, sentence_case
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import mean_of, numbers, select, unique
from faig_lab.studies.context import StudyContext, StudyResult
from faig_lab.studies.section import Section, Table

log = logging.getLogger(__name__)

BASELINE, TARGET = "baseline", "target"
ALL = "all"
"""All inputs together, in the columns `a` and `b`."""


def clusters(
    context: StudyContext,
    methods: Sequence[str] = ("random",),
    percent: Annotated[float, Field(gt=0, le=100)] | None = None,
    *,
    layer: str | None = None,
    crop: Annotated[int, Field(ge=16)] = 96,
    most: Annotated[int, Field(ge=2)] = 64,
    components: Annotated[int, Field(ge=1)] = 50,
) -> StudyResult:
    """Measure how far the features of held-out crops are separated by degradation, in masked networks too.

    A vector has the features of one crop with one input, at all places. Every crop has clean input and each
    degradation, so the groups differ in degradation and not in content.

    Args:
        context: networks, attribution and images.
        methods: whose filters are masked, beside the run's own method; of a random method the first draw. Methods that
            the run lacks are left out.
        percent: of the masked filters; None is the headline percent.
        layer: name of the module whose input is the features; None is the last layer with filters.
        crop: side of a crop in HR pixels.
        most: crops, at most.
        components: principal components of the features, at most. The index and t-SNE use them.

    Returns:
        Table `clusters`: network ("baseline", "target", `<method>/<percent>/<masked>`), method, percent, filters,
        masked, a, b (two inputs, or "all"), index (Calinski–Harabasz), crops. Table `clusters_points`: network, method,
        percent, masked, input, image, x, y (t-SNE). Metrics `clusters/<network>/all` and `clusters/<network>/<a>/<b>`.

    Raises:
        InputError: the network has no such layer, or never calls the layer.
    """
    read = layer or last_layer(context.network)
    check_layer(context.network, read)
    crops = _crops(context, crop, most)
    inputs = [CLEAN, *context.attribution.degradations]
    labels = [name for name in inputs for _ in crops]
    groups = [(ALL, ALL, inputs), *((a, b, [a, b]) for a, b in combinations(inputs, 2))]
    networks = list(_networks(context, methods, percent or context.headline))
    rows: list[TableRow] = []
    points: list[TableRow] = []
    metrics: dict[str, float | None] = {}
    with context.bar("clusters", len(networks)) as advance:
        for state, label in networks:
            images = [one.inputs[name] for name in inputs for one in crops]
            features = (layer_input(context.network, state, image, read) for image in images)
            vectors = np.stack([values.flatten().float().cpu().numpy() for values in features])
            reduced = principal_components(vectors, components)
            for a, b, group in groups:
                chosen = np.isin(labels, group)
                index = separation(reduced[chosen], np.array(labels)[chosen].tolist())
                rows.append(label | {"a": a, "b": b, "index": index, "crops": len(crops)})
                metrics[f"clusters/{label['network']}/{'/'.join(dict.fromkeys((a, b)))}"] = index
            places = embedding(reduced, context.problem.seed)
            for name, one, place in zip(labels, crops * len(inputs), places, strict=True):
                at: TableRow = {"x": float(place[0]), "y": float(place[1])}
                points.append(label | {"input": name, "image": one.image} | at)
            advance(str(label["network"]))
    return StudyResult({"clusters": rows, "clusters_points": points}, metrics)


def _networks(context: StudyContext, methods: Sequence[str], percent: float) -> Iterator[tuple[State, TableRow]]:
    """Yield baseline, target, and the target with the discovered filters of each degradation masked.

    The cells of a network are its name, method, percent, filters and masked; the last four are empty for baseline and
    target.
    """
    empty: TableRow = dict.fromkeys(("method", "percent", "filters", "masked"))
    yield context.baseline, {"network": BASELINE} | empty
    yield context.target, {"network": TARGET} | empty
    for method in context.with_scores(methods):
        for masked, filters in context.discovered(method, percent).items():
            row: TableRow = {"network": f"{method}/{percent:g}/{masked}", "method": method, "percent": percent}
            yield context.masked(filters), row | {"filters": len(filters), "masked": masked}


def _crops(context: StudyContext, size: int, most: int) -> list[Crop]:
    """Return held-out crops of one size, since vectors of features must have one length."""
    crops = choose_evenly(cut_crops(context.data.held_out, size, overlapping=False), most)
    shapes = [tuple(crop.inputs[CLEAN].shape) for crop in crops]
    (shape, count), *_ = Counter(shapes).most_common(1)
    if count < len(crops):
        log.info("clusters: %d crops are left out, since they have another size", len(crops) - count)
    return [crop for crop, own in zip(crops, shapes, strict=True) if own == shape]


def _label(run: RunFolder, network: str) -> str:
    """Return the name of a network for readers, e.g. `deblurring masked, FAIG`."""
    rows = select(run.table("clusters"), network=network)
    masked = [f"{removal(name)} masked" for name in unique(rows, "masked")]
    return ", ".join([*masked, *map(method_label, unique(rows, "method"))]) or network


def _index(run: RunFolder, network: str, a: str = ALL, b: str = ALL) -> str:
    return decimal(mean_of(select(run.table("clusters"), network=network, a=a, b=b), "index"), 1)


def _sentence(run: RunFolder) -> str:
    own = unique(select(run.table("clusters"), method=run.chosen), "network")
    told = [f"{network} {_index(run, network)}" for network in (BASELINE, TARGET)]
    told += [f"{_label(run, network).partition(',')[0]} {_index(run, network)}" for network in own]
    return f"Calinski–Harabasz index of all inputs: {listed(told)}."


@drawing()
def _figure(run: RunFolder) -> Figure:
    """Draw a panel per network, with a dot per crop and input."""
    rows = run.table("clusters_points")
    networks = unique(rows, "network")
    columns = min(len(networks), max(2, len(run.degradations)))
    lines = -(-len(networks) // columns)
    figure = new_figure(0.5 + 2.2 * lines)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for panel, network in zip(panels, networks, strict=False):
        of_network = select(rows, network=network)
        for name in unique(of_network, "input"):
            dots = select(of_network, input=name)
            panel.plot(
                numbers(dots, "x"), numbers(dots, "y"), "o", markersize=2.5, alpha=0.7,
                color=input_colour(run.degradations, name), label=f"{degraded(name)} input",
            )  # fmt: skip
        panel.set_title(f"{sentence_case(_label(run, network))}: {_index(run, network)}")
        panel.set_xticks([])
        panel.set_yticks([])
    for panel in panels[len(networks) :]:
        panel.set_axis_off()
    legend_above(figure, figure.axes[0])
    return figure


def _table(run: RunFolder) -> Table:
    rows = run.table("clusters")
    pairs = [(a, b) for a in unique(rows, "a") for b in unique(select(rows, a=a), "b")]
    head = ["all inputs" if a == ALL else f"{degraded(a)}, {degraded(b)}" for a, b in pairs]
    lines = [
        [sentence_case(_label(run, network)), *(_index(run, network, a, b) for a, b in pairs)]
        for network in unique(rows, "network")
    ]
    return Table(["Calinski–Harabasz index", *map(sentence_case, head)], lines)


SECTION = Section(
    name="clusters",
    order=35,
    title="Does masking merge the degradations in the features?",
    link="Clusters",
    method=(
        "The features of a crop are all that the last layer reads. Crops of held-out photographs are shown clean and "
        "with each degradation. Principal components reduce the features, and the Calinski–Harabasz index measures how "
        "far the inputs are apart, compared with the differences between the crops (after Liu and others, 2021). The "
        "index is measured in the baseline, in the target, and in the target with discovered {units} masked."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Scatter plots of the features of held-out crops in the plane, a panel per network, a colour per input",
    caption=(
        "Features placed in the plane by t-SNE, a dot per crop and input. Behind each name is the index of all inputs: "
        "0 where the inputs have one mean, about 1 for inputs that were exchanged at random."
    ),
    table=_table,
    note=(
        "The index grows with the number of crops, so only networks of one run can be compared. It measures whether "
        "the inputs can be told apart in the features, not whether the network restores them."
    ),
)
