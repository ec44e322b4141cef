"""Which architectures can be attributed: tiny instances, trained, attributed, masked, cut into tiles. Writes a table.

python -m benchmarks.compatibility            # docs/compatibility.md; minutes on two cores
python -m benchmarks.compatibility --only SPAN,HAT --out table.md
"""

import argparse
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.architectures import Architecture, architectures
from faig_lab.attribution import Problem, attribute, quadrature
from faig_lab.attribution.methods import faig
from faig_lab.attribution.tiling import PERIODS, bound_of_tiles, difference_of_tiles, measure_receptive_field
from faig_lab.data import PairedImage
from faig_lab.errors import UserError
from faig_lab.files import write_text
from faig_lab.filters import FilterLayout, evaluate, mask
from faig_lab.filters.foreign import describe
from faig_lab.filters.layout import head_blocks
from faig_lab.filters.trial import differentiable, try_gradient, try_output

POINTS = 16
STEPS = 8
SIDE = 32  # LR pixels
SIDES = (64, 96)  # LR pixels of the images that the receptive field is measured on
LARGEST_SINGLE = 50  # percent of filters that are single weights, above which channels are the better units
KINDS = ("blur", "noise")
COLUMNS = ("architecture", "trains", "gap", "masks", "tiles", "convolutions", "linear", "single weights", "units")


@dataclass
class Row:
    """One row of the table: texts by column, and one line for each thing that does not work."""

    texts: dict[str, str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """A trained pair and its probe image."""

    network: nn.Module
    baseline: Mapping[str, Tensor]
    target: Mapping[str, Tensor]
    image: PairedImage


def main(given: Sequence[str] | None = None) -> int:
    """Write the table; 1 if an architecture failed with something else than a refusal in words."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compatibility", description=__doc__)
    parser.add_argument("--only", default="", help="names of architectures, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("docs/compatibility.md"))
    asked = parser.parse_args(given)
    wanted = {name.strip() for name in asked.only.split(",") if name.strip()}
    every = {one.name: one for one in architectures()}
    if unknown := wanted - every.keys():
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; choices: {', '.join(every)}")
    found = [one for name, one in every.items() if not wanted or name in wanted]
    rows, failed = [], False
    for architecture in found:
        row, crashed = examined(architecture)
        print(" | ".join(row.texts.get(column, "") for column in COLUMNS), flush=True)
        for note in row.notes:
            print(f"  {note}", flush=True)
        rows.append(row)
        failed |= crashed
    write_text(asked.out, page(rows, any(one.spandrel for one in found)))
    print(asked.out)
    return int(failed)


def examined(architecture: Architecture) -> tuple[Row, bool]:
    """All checks of one architecture, and whether one ended in something else than words."""
    row = Row({"architecture": architecture.name})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries' own classes
        try:
            network = built(architecture)
            sizes(network, row)
            case = trained_case(network, architecture.scale, row)
            check_attribution(case, row)
            check_masks(case, row)
            check_tiles(case, architecture.scale, row)
        except UserError as error:
            row.notes.append(f"{architecture.name}: refused: {error}")
            return row, False
        except Exception as error:  # the table says so, and the command fails
            words = " ".join(str(error).split())[:200]
            row.notes.append(f"{architecture.name}: fails: {type(error).__name__}: {words}")
            return row, True
    return row, False


def built(architecture: Architecture) -> nn.Module:
    """The network with fresh weights. One of spandrel's is detected in them, as in a user's file."""
    torch.manual_seed(0)
    network = architecture.make()
    if architecture.spandrel:
        fresh = network.state_dict()
        found = describe(fresh, architecture.name)
        again = describe(found.network.state_dict(), f"{architecture.name}, written and read")
        if (again.architecture, found.scale) != (found.architecture, architecture.scale):
            raise UserError(f"spandrel reads {found.title}, and {again.title} after writing")
        network = found.network
    return differentiable(network)


def image_of(scale: int) -> PairedImage:
    """A smooth random image with edges, blurred and noisy at LR."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 6, 6, generator=generator)
    hr = F.interpolate(coarse, size=(scale * SIDE, scale * SIDE), mode="bicubic").clamp(0, 1)
    hr = torch.where(hr > 0.6, 1 - hr, hr)
    clean = F.avg_pool2d(hr, scale)
    blurred = F.avg_pool2d(F.pad(clean, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    return PairedImage("image", hr[0], {"clean": clean[0], "blur": blurred[0], "noise": noisy[0]})


def trained_case(network: nn.Module, scale: int, row: Row) -> Case:
    """A baseline trained on clean input, and a target trained further on degraded input, a few steps each."""
    image = image_of(scale)
    _fit(network, image, ["clean", "clean"])
    baseline = {name: value.clone() for name, value in network.state_dict().items()}
    before, after = _fit(network, image, list(KINDS))
    network.eval()
    target = {name: value.clone() for name, value in network.state_dict().items()}
    if not after < before:
        row.notes.append(f"{row.texts['architecture']}: the loss does not fall in {STEPS} steps")
    case = Case(network, baseline, target, image)
    try_output(network, target, image.lr["blur"][None])
    try_gradient(network, target, image.lr["blur"][None])
    return case


def _fit(network: nn.Module, image: PairedImage, kinds: Sequence[str]) -> tuple[float, float]:
    """Train a few steps on one image; the loss before and after."""
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4)
    losses = []
    lr = torch.stack([image.lr[kind] for kind in kinds])
    hr = image.hr.expand(len(kinds), -1, -1, -1)
    for _ in range(STEPS + 1):
        optimizer.zero_grad()
        loss = F.l1_loss(network(lr), hr)
        losses.append(float(loss))
        if len(losses) <= STEPS:
            loss.backward()
            optimizer.step()
    return losses[0], losses[-1]


def check_attribution(case: Case, row: Row) -> None:
    """The gradient reaches every unit, and the attributions add up."""
    problem = Problem(
        case.network, case.baseline, case.target, (case.image,), KINDS, quadrature("gauss_legendre", POINTS)
    )
    attribute(problem, {"faig": faig})
    silent = int((problem.integral.magnitude.sum((0, 1)) == 0).sum())
    total = len(problem.layout)
    row.texts["trains"] = "yes" if silent == 0 else f"yes, {silent:,} of {total:,} filters get no gradient"
    gap = max(problem.integral.gap(kind) for kind in KINDS)
    row.texts["gap"] = f"{gap:.1e}"


def check_masks(case: Case, row: Row) -> None:
    """All units masked are the baseline, none the target, bit for bit."""
    lr = case.image.lr["noise"][None]
    layout = FilterLayout.of(case.network, "filter", rank_others=True)

    def output(state: Mapping[str, Tensor]) -> Tensor:
        with torch.no_grad():
            return evaluate(case.network, state, lr)

    everything = mask(case.target, case.baseline, layout, torch.arange(len(layout)))
    nothing = mask(case.target, case.baseline, layout, torch.arange(0))
    exact = {
        "all": torch.equal(output(everything), output(case.baseline)),
        "none": torch.equal(output(nothing), output(case.target)),
    }
    row.texts["masks"] = "exact" if all(exact.values()) else "differ"
    if not exact["all"]:
        moved = [n for n, b in case.network.named_buffers() if n in case.target and b.is_floating_point()]
        why = "buffers are the target's" if moved else "a forward that is not the same at every pass"
        row.notes.append(f"{row.texts['architecture']}: masking everything is not the baseline: {why}")
    if not exact["none"]:
        row.notes.append(f"{row.texts['architecture']}: masking nothing is not the target: its forward is random")


def check_tiles(case: Case, scale: int, row: Row) -> None:
    """Tiles restore what the whole image gives, or the image is not cut."""
    field_ = measure_receptive_field(case.network, case.target, scale, sides=SIDES)
    if field_ is None:
        row.texts["tiles"] = "not cut: sees too far"
        return
    lr = torch.zeros(1, 3, SIDES[-1], SIDES[-1])

    def run(image: Tensor) -> Tensor:
        with torch.no_grad():
            return evaluate(case.network, case.target, image)

    wrong = difference_of_tiles(run, lr, scale, field_, SIDES[-1] ** 2)
    same = wrong <= bound_of_tiles(lr.dtype)
    row.texts["tiles"] = f"equal, {2 * field_.radius + 1} pixels" if same else f"not cut: differ by {100 * wrong:.1g} %"


def sizes(network: nn.Module, row: Row) -> None:
    """Where the weights are, how many filters are single weights, and the units that make sense."""
    layout = FilterLayout.of(network)
    every = sum(layer.weights for layer in (*layout.layers, *layout.others))
    linear = sum(layer.weights for layer in layout.layers if len(layer.shape) == 2)
    convolutions = sum(layer.weights for layer in layout.layers) - linear
    single = int((layout.weights_per_unit() == 1).sum())
    row.texts["convolutions"] = f"{100 * convolutions / every:.0f} %"
    row.texts["linear"] = f"{100 * linear / every:.0f} %"
    share = 100 * single / len(layout)
    row.texts["single weights"] = f"{share:.0f} %"
    row.texts["units"] = (
        "filter" if share <= LARGEST_SINGLE else "head, output_channel" if head_blocks(network) else "output_channel"
    )


HEAD = """# Which architectures can be attributed

<!-- Written by `python -m benchmarks.compatibility`. Change benchmarks/compatibility.py, not this page. -->

Each row is a tiny instance with fresh weights: a baseline is trained {steps} steps on clean input, and a target {steps}
steps further on blurred and noisy input. `python -m benchmarks.compatibility` writes this page.
{source}

{table}

| column | content |
| --- | --- |
| trains | whether the gradient of the loss reaches every filter; activations of 0 on the one image have none |
| gap | the completeness gap with {points} points (Gauss–Legendre), the larger of blur and noise |
| masks | exact: with all units masked the output is the baseline's, and with none the target's, bit for bit |
| tiles | equal: tiles give the output of the whole image, and an output pixel sees a square of this side. Sees too \
far: an output pixel sees {side} LR pixels or more in one direction, mostly the whole image, so no image is cut here |
| convolutions, linear | share of the weights in convolutions and in linear layers; the rest are biases, norms, tables |
| single weights | share of the filters that are one weight: those of linear layers and of 1×1 convolutions |
| units | the values of `attribution.granularity` that make sense |

A filter of a linear layer is a single weight. In a transformer most filters are single weights, and 1 % of them is no
part with a function. Use `attribution.granularity=head`: a unit is the query, the key or the value of one attention
head, and an output channel in every other layer. Or use `attribution.granularity=output_channel`, which has a meaning
in every layer.

Kernels that are merged in evaluation mode (SPAN), and channels that are overwritten there (PLKSR), have no gradients in
evaluation mode. Such modules stay in training mode, since their output is the same there. Merged copies of kernels are
no units.
{notes}"""


def page(rows: Sequence[Row], spandrel: bool) -> str:
    """The page of the table."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(row.texts.get(column, 'refused') for column in COLUMNS)} |" for row in rows]
    notes = [note for row in rows for note in row.notes]
    listed = "\n## What does not work\n\n" + "".join(f"- {note}\n" for note in notes) if notes else ""
    source = (
        "Classes are spandrel's, with their weights written, detected and read again. The last rows are minimal forms\n"
        "of our own (`benchmarks/minimal.py`)."
        if spandrel
        else "Classes are minimal forms of our own (`benchmarks/minimal.py`), since spandrel is not installed."
    )
    table, side = "\n".join(lines), SIDES[-1] // 2 - max(PERIODS)
    return HEAD.format(steps=STEPS, source=source, table=table, points=POINTS, side=side, notes=listed)


if __name__ == "__main__":
    sys.exit(main())
