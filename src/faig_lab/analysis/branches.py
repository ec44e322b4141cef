"""One branch against two (method.md §7): is a plain blind network as good as one with a degradation predictor?

Both are trained on the same data with the same seed, schedule and loss, and judged on the same held-out images.
Crops of one photograph are not independent, so intervals come from resampling photographs.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from faig_lab.analysis.branch_filters import discriminative, restoring, without_predictor
from faig_lab.analysis.branch_prediction import Answer, accuracy_rows, answers, ends
from faig_lab.analysis.headline import means
from faig_lab.analysis.intervals import scene_interval
from faig_lab.analysis.masking import TableRow
from faig_lab.analysis.rivals import Pair
from faig_lab.analysis.subject import Findings, Subject
from faig_lab.networks import first_floating
from faig_lab.training import METRICS, quality

log = logging.getLogger(__name__)

ONE, TWO = "one_branch", "two_branch"
"""The run's own network, and its rival."""


def branches(
    subject: Subject,
    rival: dict[str, Any],
    seeds: Sequence[Annotated[int, Field(ge=0)]] = (),
    methods: Sequence[str] = ("signed_share",),
    crop: Annotated[int, Field(ge=16)] = 96,
    resamples: Annotated[int, Field(ge=1)] = 2000,
    timed_steps: Annotated[int, Field(ge=0)] = 20,
) -> Findings:
    """Train a rival of the run's network on the same budget, and compare the two on held-out images.

    Args:
        subject: the run's network; `subject.rivals` does the training, or finds it in the store.
        rival: `_target_` and arguments of the other network; its scale and degradations become the run's.
        seeds: further ones beside the run's; each trains both networks.
        methods: whose filters are masked in both, beside the run's method; one that the run lacks is left out.
        crop: side in HR pixels of the held-out crops whose degradations a rival with a predictor names.
        resamples: of the bootstrap over photographs.
        timed_steps: training steps of each network whose time is taken, in each round; 0 takes none.

    Returns:
        Tables `branches` (measure, degradation, one_branch, two_branch, difference = one − two, its interval
        low … high over photographs, lowest and highest difference of a seed, seeds, photographs, images),
        `branches_images` (seed, network, degradation, image, PSNR, …), `branches_filters` (seed, network, method,
        percent, filters, masked, own, other, specificity; of the filters outside of the predictor), and for a rival
        with a predictor `branches_prediction` and `branches_predictor` (seed, degradation, removed: with the whole
        predictor set back to the baseline's). Metrics `branches/…`. Nothing for data without photographs.

    Raises:
        UserError: a training diverged.
    """
    if subject.rivals is None:
        log.warning("branches: left out, since the data has no photographs to train on")
        return Findings({})
    every = list(dict.fromkeys((subject.problem.seed, *seeds)))
    wanted = [name for name in dict.fromkeys((subject.method, *methods)) if _deterministic(subject, name)]
    images: list[TableRow] = []
    filters: list[TableRow] = []
    predictor: list[TableRow] = []
    said: list[Answer] = []
    metrics: dict[str, float | None] = {}
    with subject.bar("branches", 2 * len(every)) as advance:
        for seed in every:
            for name, study in _studies(subject, rival, seed, wanted):
                what: TableRow = {"seed": seed, "network": name}
                images += [what | row for row in _restored(study)]
                filters += [what | row for row in discriminative(study)]
                if name == TWO:
                    predictor += [{"seed": seed} | row for row in without_predictor(study)]
                    said += answers(study.network, study.target, study.data.held_out, study.problem.degradations, crop)
                metrics[f"branches/parameters/{name}"] = float(sum(p.numel() for p in study.network.parameters()))
                advance(f"seed {seed}, {name}")
    compared = compare(images, subject.judge.scenes, subject.problem.seed, resamples)
    accuracy = accuracy_rows(said, subject.problem.seed, resamples)
    tables = {"branches": compared, "branches_images": images, "branches_filters": filters}
    tables |= {"branches_prediction": accuracy} if accuracy else {}
    tables |= {"branches_predictor": predictor} if predictor else {}
    metrics |= _metrics(compared, filters, accuracy)
    if timed_steps:
        seconds = subject.rivals.step_seconds([None, rival], timed_steps)
        metrics |= {f"branches/step_seconds/{name}": s for name, s in zip((ONE, TWO), seconds, strict=True)}
    return Findings(tables, metrics)


def compare(images: Sequence[TableRow], scenes: Sequence[str], seed: int, resamples: int) -> list[TableRow]:
    """Both networks by every measure on every input; the difference is paired by image and seed.

    Args:
        images: rows of seed, network, degradation, image and the measures.
        scenes: what each image shows, in the order of the images.
        seed: of the bootstrap.
        resamples: how many.
    """
    values = {
        (measure, row["degradation"], row["network"], row["seed"], row["image"]): float(str(row[measure]))
        for row in images
        for measure in METRICS
    }
    names, seeds = (list(dict.fromkeys(row[column] for row in images)) for column in ("image", "seed"))
    rows: list[TableRow] = []
    for measure in METRICS:
        for degradation in dict.fromkeys(row["degradation"] for row in images):
            one, two = (
                np.array([[values[measure, degradation, network, s, name] for s in seeds] for name in names])
                for network in (ONE, TWO)
            )
            rows.append({"measure": measure, "degradation": degradation} | _row(one, two, scenes, seed, resamples))
    return rows


def _row(
    one: NDArray[np.float64], two: NDArray[np.float64], scenes: Sequence[str], seed: int, resamples: int
) -> TableRow:
    """(images, seeds) of both networks → one row."""
    difference = one - two
    found = scene_interval(difference.mean(1), scenes, lambda means: means, seed=seed, number=resamples)
    low, high = ends(found)
    return {
        ONE: float(one.mean()),
        TWO: float(two.mean()),
        "difference": float(difference.mean()),
        "low": low,
        "high": high,
        "interval": found.kind,
        "lowest_seed": float(difference.mean(0).min()),
        "highest_seed": float(difference.mean(0).max()),
        "seeds": one.shape[1],
        "photographs": len(set(scenes)),
        "images": len(scenes),
    }


def _studies(
    subject: Subject, rival: Mapping[str, Any], seed: int, methods: Sequence[str]
) -> Iterator[tuple[str, Subject]]:
    """Both networks of a seed, each with scores of its filters outside of the predictor."""
    assert subject.rivals is not None
    if seed == subject.problem.seed:
        scores = {name: subject.attribution.scores[name] for name in methods}
        yield ONE, replace(subject, attribution=restoring(scores, subject.problem))
    else:
        yield ONE, _study(subject, subject.rivals.train(None, seed), methods)
    yield TWO, _study(subject, subject.rivals.train(rival, seed), methods)


def _study(subject: Subject, pair: Pair, methods: Sequence[str]) -> Subject:
    """The subject with another pair of networks, attributed like its own."""
    like = first_floating(subject.problem.target.values())
    baseline, target = (
        {n: v.to(like) if v.is_floating_point() else v.to(like.device) for n, v in state.items()}
        for state in (pair.baseline, pair.target)
    )
    network = pair.network.to(like.device)  # with what no state holds, buffers that are not saved
    problem = subject.problem.straight(network=network, baseline=baseline, target=target)
    scores = {name: subject.methods[name](problem) for name in methods}
    return replace(subject, problem=problem, attribution=restoring(scores, problem))


def _deterministic(subject: Subject, method: str) -> bool:
    return method in subject.methods and len(subject.attribution.scores.get(method, ())) == 1


def _restored(study: Subject) -> Iterator[TableRow]:
    """The target's quality on every held-out image with every input."""
    images, judge = study.data.held_out, study.judge
    for degradation in images[0].lr:
        for image, output in zip(images, judge.restore(judge.target, degradation), strict=True):
            values = quality(output[None], image.hr[None], judge.scale)
            yield {"degradation": degradation, "image": image.name} | {n: float(v) for n, v in values.items()}


def _metrics(
    compared: Sequence[TableRow], filters: Sequence[TableRow], accuracy: Sequence[TableRow]
) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for row in compared:
        for key in (ONE, TWO, "difference", "low", "high"):
            number = row[key]
            found[f"branches/{row['measure']}/{row['degradation']}/{key}"] = (
                None if number is None else float(str(number))
            )
    for row in accuracy:
        found[f"branches/prediction/{row['predicted']}"] = float(str(row["value"]))
    specific = means(filters, "specificity", ("network", "method", "percent"))
    return found | {f"branches/{name}": value for name, value in specific.items()}
