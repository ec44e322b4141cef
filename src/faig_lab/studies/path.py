"""The section on the path: the PSNR of the networks between the baseline and the target."""

from matplotlib.figure import Figure

from faig_lab.plotting.charts import legend_above, line
from faig_lab.plotting.style import drawing, input_colour, new_figure
from faig_lab.plotting.words import decimal, degraded, listed, sentence_case
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import groups, unique
from faig_lab.studies.section import Section, Table


def _sentence(run: RunFolder) -> str:
    names = [name for name in unique(run.table("path"), "input") if f"barrier/{name}" in run.metrics]
    barriers = [f"{degraded(name)} input {decimal(run.metrics[f'barrier/{name}'])} dB" for name in names]
    return f"Barrier on the probe: {listed(barriers)}." if barriers else ""


@drawing()
def _figure(run: RunFolder) -> Figure:
    figure = new_figure(2.2)
    panel = figure.subplots()
    for name, rows in groups(run.table("path"), "input").items():
        colour = input_colour(run.degradations, name)
        line(panel, rows, "alpha", "psnr", label=f"{degraded(name)} input", color=colour)
    panel.set_xlabel("α: position on the path, from the baseline (0) to the target (1)")
    panel.set_ylabel("PSNR on the probe (dB)")
    legend_above(figure, panel)
    return figure


def _table(run: RunFolder) -> Table:
    lines = []
    for name, rows in groups(run.table("path"), "input").items():
        psnr = rows["psnr"]
        values = [psnr.iloc[0], psnr.min(), psnr.iloc[-1], run.metrics.get(f"barrier/{name}")]
        lines.append([sentence_case(f"{degraded(name)} input"), *map(decimal, values)])
    return Table(["PSNR on the probe (dB)", "baseline", "lowest on the path", "target", "barrier"], lines)


SECTION = Section(
    name="path",
    order=110,
    title="What lies between the baseline and the target?",
    link="Path",
    method=(
        "The attribution integrates the gradient of the loss along a path in weight space from the baseline to the "
        "target. The PSNR at the points of the quadrature shows how well the networks on the path restore. The barrier "
        "of an input is how far its PSNR falls below the lower PSNR of the two ends."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="A curve of PSNR over the position on the path for every input",
    caption="One curve for each input; a mark is a point of the quadrature. Outputs are neither clipped nor rounded.",
    table=_table,
    note=(
        "With a high barrier the integral measures the barrier and not the functions. The setting attribution.path "
        "offers other paths: trajectory (through weights of the training) and curve (trained to keep the loss low)."
    ),
)
