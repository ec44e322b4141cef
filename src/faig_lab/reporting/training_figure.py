"""The training curves of a run."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from faig_lab.reporting.run_files import RunFiles, value
from faig_lab.reporting.style import MUTED, degradation_colour, drawing, legend_columns, new_figure
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import degraded

_NETWORKS = ("baseline", "target")
_PREFIX = "psnr/"


def training(run: RunFiles) -> Figure | None:
    """Validation PSNR per degradation and training loss against the step, a column per trained network."""
    trained = {name: rows for name in _NETWORKS if (rows := run.table(f"training_{name}"))}
    if not trained:
        return None
    # The union over both networks in a fixed order: a colour means one degradation in the whole figure.
    kinds = list(dict.fromkeys(key for rows in trained.values() for key in rows[0] if key.startswith(_PREFIX)))
    kinds.sort(key=lambda key: _order(run, key.removeprefix(_PREFIX)))
    with drawing():
        figure = new_figure(3.9)
        axes = figure.subplots(2, len(trained), squeeze=False, sharex="col", sharey="row", height_ratios=(3, 2))
        for column, (name, rows) in enumerate(trained.items()):
            _psnr(axes[0][column], rows, kinds, run.degradations)
            _loss(axes[1][column], rows)
            axes[0][column].set_title(f"{name}: validation")
            axes[1][column].set_xlabel("step")
        axes[0][0].set_ylabel("PSNR, dB")
        axes[1][0].set_ylabel("training loss")
        handles, labels = axes[0][-1].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside upper center", ncols=legend_columns(labels))
    return figure


def _order(run: RunFiles, degradation: str) -> tuple[int, str]:
    """Discriminated degradations first, so that they have the same colours as in the other figures."""
    names = run.degradations
    return (names.index(degradation) if degradation in names else len(names), degradation)


def _psnr(panel: Axes, rows: Sequence[Row], kinds: Sequence[str], degradations: Sequence[str]) -> None:
    for index, key in enumerate(kinds):
        steps, values = _series(rows, key)
        parts = key.removeprefix(_PREFIX).split("+")
        everything = len(parts) > 2 and set(parts) == set(degradations)
        label = "all of these together" if everything else f"{degraded('+'.join(parts))} input"
        panel.plot(steps, values, marker="o", markersize=2.5, color=degradation_colour(index), label=label)


def _loss(panel: Axes, rows: Sequence[Row]) -> None:
    """Each recorded loss thin, and their running mean over a twentieth of the curve."""
    steps, values = _series(rows, "loss")
    if values.size == 0:
        return
    window = max(1, values.size // 20)
    panel.plot(steps, values, color=MUTED, linewidth=0.5, alpha=0.5 if window > 1 else 1)
    if window > 1:
        smooth = np.convolve(values, np.full(window, 1 / window), mode="valid")
        panel.plot(steps[window - 1 :], smooth, color=MUTED, linewidth=1.6)
    if values.min() > 0:
        panel.set_ylim(0, 1.15 * float(np.quantile(values[values.size // 20 :], 0.98)))


def _series(rows: Sequence[Row], column: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and numbers of a column, where it has a number."""
    pairs = [(step, found) for row in rows if (step := value(row, "step")) is not None
             and (found := value(row, column)) is not None]  # fmt: skip
    array = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]
