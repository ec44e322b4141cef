"""The section on the path: what the network restores between the baseline and the target."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from faig_lab.reporting.run_files import RunFiles, unique, value
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.style import MUTED, degradation_colour, drawing, new_figure
from faig_lab.reporting.words import degraded, listed, number, sentence_case


def _barriers(run: RunFiles) -> dict[str, float]:
    """Input → barrier in dB."""
    names = unique(run.table("path"), "input")
    return {name: run.metrics[f"barrier/{name}"] for name in names if f"barrier/{name}" in run.metrics}


def _sentences(run: RunFiles) -> Sequence[str]:
    found = [f"{degraded(name)} input {number(barrier)} dB" for name, barrier in _barriers(run).items()]
    return [f"Barrier on the probe: {listed(found)}."] if found else []


def _figure(run: RunFiles) -> Figure | None:
    rows = run.table("path")
    names = unique(rows, "input")
    with drawing():
        figure = new_figure(2.6)
        panel = figure.subplots()
        for index, name in enumerate(names):
            points = [(value(row, "alpha"), value(row, "psnr")) for row in rows if row["input"] == name]
            known = name in run.degradations
            panel.plot(
                *zip(*points, strict=True), marker="o", markersize=2.5, label=f"{degraded(name)} input",
                color=degradation_colour(run.degradations.index(name)) if known else MUTED,
                linestyle="-" if known else "--", zorder=3 + index,
            )  # fmt: skip
        panel.set_xlabel("α: position on the path, from the baseline (0) to the target (1)")
        panel.set_ylabel("PSNR on the probe (dB)")
        figure.legend(loc="outside upper center", ncols=len(names))
    return figure


def _table(run: RunFiles) -> Table | None:
    rows = run.table("path")
    barriers = _barriers(run)
    cells = []
    for name in unique(rows, "input"):
        values = [x for row in rows if row["input"] == name and (x := value(row, "psnr")) is not None]
        ends = [number(values[0]), number(min(values)), number(values[-1])]
        cells.append([sentence_case(f"{degraded(name)} input"), *ends, number(barriers.get(name))])
    return Table(["PSNR on the probe (dB)", "baseline", "lowest on the path", "target", "barrier"], cells)


SECTION = Section(
    name="path",
    title="What lies between the baseline and the target?",
    link="Path",
    method=(
        "The attribution integrates the gradient of the loss along a path in weight space from the baseline to the "
        "target. The PSNR at the points of the quadrature shows what the networks on the path restore. The barrier of "
        "an input is how far its PSNR falls below the worse of the two ends."
    ),
    sentences=_sentences,
    figure=_figure,
    alt="A curve of PSNR over the position on the path for every input",
    caption="One curve for each input; a mark is a point of the quadrature. Outputs are neither clipped nor rounded.",
    table=_table,
    note=(
        "With a high barrier the integral measures the barrier and not the functions. The setting attribution.path "
        "offers other paths: trajectory (through weights of the training) and curve (trained to keep the loss low)."
    ),
)
