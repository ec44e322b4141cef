"""A context for studies: two small networks with a path integral, and noise for images. And their sections."""

from dataclasses import replace

import numpy as np
import torch
from markupsafe import escape

from faig_lab.attribution import Problem, attribute, quadrature
from faig_lab.attribution.methods import faig, random_filters, signed_share
from faig_lab.data import Degradation, Downsample, PairedImage, Photograph, StudyData
from faig_lab.files import write_json
from faig_lab.networks import SRResNet
from faig_lab.plotting.style import write_figure
from faig_lab.report.report import write_report
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import write_table
from faig_lab.studies.context import StudyContext

METHODS = {"faig": faig, "signed_share": signed_share, "random": random_filters}


def image(seed, degradations):
    generator = torch.Generator().manual_seed(seed)
    lr = {name: torch.rand(3, 8, 8, generator=generator) for name in ("clean", *degradations)}
    return PairedImage(f"image{seed}", torch.rand(3, 16, 16, generator=generator), lr)


def context_of(degradations=("blur", "noise"), method="faig", make=lambda: SRResNet(features=4, blocks=1)):
    """A context whose target is the baseline with noise on every weight."""
    torch.manual_seed(0)
    network = make()
    baseline = {n: v.clone() for n, v in network.state_dict().items()}
    target = {n: v + 0.05 * torch.randn_like(v) if v.is_floating_point() else v for n, v in baseline.items()}
    probe = tuple(image(seed, degradations) for seed in (1, 2))
    held_out = tuple(image(seed, degradations) for seed in (3, 4))
    problem = Problem(network, baseline, target, probe, degradations, quadrature("midpoint", 2), seed=3)
    data = StudyData((), probe, held_out, degradations)
    attribution = attribute(problem, METHODS)
    degradation = Degradation({}, Downsample("bicubic", True), 2, True)
    return StudyContext(problem, METHODS, attribution, method, data, degradation, (1.0, 10.0), 10.0)


def trainable_context():
    """A context whose training is the one that settings describe, with weight decay."""
    from faig_lab.cli.arguments import compose
    from faig_lab.cli.build import make_degradation
    from faig_lab.cli.trained import make_retraining
    from faig_lab.config import check

    tiny = ["network.features=4", "network.blocks=1", "training.batch_size=2", "training.patch_size=16", "trainer=cpu"]
    adamw = ["training.optimizer._target_=torch.optim.AdamW", "+training.optimizer.weight_decay=0.1"]
    settings = check(compose([*tiny, *adamw]))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    context = context_of()
    data = replace(context.data, train=(Photograph("a", "a", pixels, "a"),))
    return replace(context, retraining=make_retraining(settings, data, make_degradation(settings)))


def rows_of(result, table, **wanted):
    """The rows of a table with these cells."""
    return [row for row in result.rows(table) if wanted.items() <= row.items()]


def grid(**columns):
    """Rows of all combinations of listed cells, the last column fastest. A function computes a cell from its row."""
    rows = [{}]
    for name, cells in columns.items():
        listed = cells if isinstance(cells, list | tuple) else [cells]
        rows = [row | {name: cell(row) if callable(cell) else cell} for row in rows for cell in listed]
    return rows


def stored(folder, metrics=None, **tables):
    """A run folder with these tables and, if any are given, these metrics alone."""
    for name, rows in tables.items():
        write_table(folder / "tables" / f"{name}.csv", rows)
    if metrics is not None:
        write_json(folder / "metrics.json", metrics)
    return RunFolder(folder)


def written(section, folder):
    """Draw the section of a study and write the report: figure, table and page. All rows of a table are as long."""
    run = RunFolder(folder)
    figure, table = section.figure(run), section.table(run)
    if figure is not None:
        write_figure(folder / "figures" / f"{section.name}.png", figure)
    assert table is None or {len(row) for row in table.rows} == {len(table.head)}
    page = write_report(folder).read_text(encoding="utf-8")
    assert f'id="{section.name}"' in page
    assert str(escape(run.worded(section.title))) in page
    return figure, table, page
