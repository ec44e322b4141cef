"""What predictors said, and how often they were right: confusion, accuracy with intervals, headline numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faig_lab.analysis.intervals import scene_interval
from faig_lab.analysis.masking import TableRow
from faig_lab.data import CLEAN

ACCURACY, BALANCED = "accuracy", "balanced_accuracy"
"""Clean and each degradation alone, "clean" allowed; and the degradations alone, told apart by `forced`."""


@dataclass(frozen=True)
class Guess:
    """What one predictor said of one input.

    Attributes:
        method: the predictor's name.
        image: what the input was cut from; crops of one image are not independent.
        truth: the input: "clean", a degradation, or a mix.
        predicted: "clean" or a degradation.
        forced: its choice among the degradations alone.
    """

    method: str
    image: str
    truth: str
    predicted: str
    forced: str


def confusion(guesses: Sequence[Guess], names: Sequence[str]) -> list[TableRow]:
    """Rows of method, truth, predicted, count, for every answer that there can be."""
    counts = Counter((guess.method, guess.truth, guess.predicted) for guess in guesses)
    asked = dict.fromkeys((guess.method, guess.truth) for guess in guesses)
    return [
        {"method": method, "truth": truth, "predicted": answer, "count": counts[method, truth, answer]}
        for method, truth in asked
        for answer in (CLEAN, *names)
    ]


def accuracies(
    guesses: Sequence[Guess],
    names: Sequence[str],
    fitted: Mapping[str, tuple[str, int]],
    scenes: Mapping[str, str],
    seed: int,
) -> list[TableRow]:
    """Accuracy of each method with its interval over photographs.

    A mix has no right answer and is left out. Whole photographs are drawn, with all of their crops.

    Args:
        guesses: of all methods.
        names: the degradations; with one there is nothing to tell apart, and no balanced accuracy.
        fitted: method → which crops it was calibrated or trained on, and how many.
        scenes: image → what it shows; images of one scene are not independent.
        seed: of the bootstrap.

    Returns:
        Rows of method, measure, fitted_on, fitted_crops, images, photographs, inputs, value, low, high,
        interval (what low and high are the ends of). Both measures
        are means over the true classes of the share that is right (balanced).
    """
    rows: list[TableRow] = []
    for method, (source, crops) in fitted.items():
        own = [guess for guess in guesses if guess.method == method]
        for measure, classes in ((ACCURACY, (CLEAN, *names)), (BALANCED, tuple(names))):
            if len(classes) > 1:
                what: TableRow = {"method": method, "measure": measure, "fitted_on": source, "fitted_crops": crops}
                counts: TableRow = {"images": len({guess.image for guess in own})}
                rows.append(what | counts | _accuracy(_hits(own, classes, measure, scenes), seed))
    return rows


def guess_metrics(
    guesses: Sequence[Guess], accuracy: Sequence[TableRow], names: Sequence[str], main: str
) -> dict[str, float | None]:
    """`prediction/<measure>` with `…_low` and `…_high` of the main method, `prediction/<method>/<measure>` of others.

    And `prediction/mixed/<input>/<D>`: how often the main method calls a mix D.
    """
    metrics: dict[str, float | None] = {}
    for row in accuracy:
        name = str(row["measure"]) if row["method"] == main else f"{row['method']}/{row['measure']}"
        for key, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            metrics[f"prediction/{name}{suffix}"] = None if row[key] is None else float(str(row[key]))
    own = [guess for guess in guesses if guess.method == main]
    for mix in dict.fromkeys(guess.truth for guess in own if guess.truth not in (CLEAN, *names)):
        said = [guess.predicted for guess in own if guess.truth == mix]
        metrics |= {f"prediction/mixed/{mix}/{name}": said.count(name) / len(said) for name in (CLEAN, *names)}
    return metrics


def _hits(
    guesses: Sequence[Guess], classes: Sequence[str], measure: str, scenes: Mapping[str, str]
) -> NDArray[np.float64]:
    """(photographs, classes, 2): how many inputs of a class were named rightly, and how many there are."""
    shown = list(dict.fromkeys(scenes[guess.image] for guess in guesses))
    hits = np.zeros((len(shown), len(classes), 2))
    for guess in guesses:
        if guess.truth in classes:
            said = guess.forced if measure == BALANCED else guess.predicted
            hits[shown.index(scenes[guess.image]), classes.index(guess.truth)] += (said == guess.truth, 1)
    return hits


def _accuracy(hits: NDArray[np.float64], seed: int) -> TableRow:
    def mean_recall(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        right, asked = np.moveaxis(drawn, -1, 0)
        return np.asarray((right / asked).mean(axis=-1))

    low, high, kind = scene_interval(hits, [*map(str, range(len(hits)))], mean_recall, seed=seed)
    counts: TableRow = {"photographs": len(hits), "inputs": int(hits[..., 1].sum())}
    ends: TableRow = {name: None if np.isnan(end) else float(end) for name, end in (("low", low), ("high", high))}
    return counts | {"value": float(mean_recall(hits.mean(0)))} | ends | {"interval": kind}
