"""A context for studies: two small networks with a path integral, and noise for images. And their sections."""

import torch
from markupsafe import escape

from faig_lab.attribution import Problem, attribute, quadrature
from faig_lab.attribution.methods import faig, random_filters, signed_share
from faig_lab.data import Degradation, Downsample, PairedImage, StudyData
from faig_lab.networks import SRResNet
from faig_lab.plotting.style import write_figure
from faig_lab.report.report import write_report
from faig_lab.runs.folder import RunFolder
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
