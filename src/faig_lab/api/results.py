"""Scores of filters, of an attribution or of a finished run folder, with functions that mask, modulate and evaluate."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import pandas as pd
import torch
from torch import Tensor, nn

from faig_lab.api.weights import Images, Weights, checked_images, choice, load_weights, mask, modulate, state_of
from faig_lab.attribution import Attribution, Problem, count_of, discovered, load_attribution
from faig_lab.attribution.scores import shares
from faig_lab.attribution.weight_paths import profile
from faig_lab.config.messages import missing_path
from faig_lab.config.rules import smallest_percent
from faig_lab.config.targets import check_links, check_node, check_stored, make, read_stored
from faig_lab.data import CLEAN
from faig_lab.errors import UserError
from faig_lab.filters import FilterLayout, State, evaluate, first_floating
from faig_lab.metrics import EditSums, back, edit_sums, isolation, off, side
from faig_lab.runs.folder import RunFolder


@dataclass(frozen=True)
class Isolation:
    """The isolation of an edit and its parts.

    The parts are squared distances in units of the energy of the masked degradation, where nothing else is said.

    Attributes:
        isolation: 1 is the ideal edit, 0 is the unchanged target. Below 0 the edit is worse than no edit.
        own_left: distance to the baseline's output on the masked degradation; 0 if the function is gone.
        side_effects: input → movement away from the target, for every input except the masked degradation.
        back: input → movement to the baseline as a share: 0 is the target's output, 1 the baseline's. NaN if baseline
            and target have the same output on the input.
        off: input → movement orthogonal to target − baseline, in units of the input's own energy; NaN as for `back`.
    """

    isolation: float
    own_left: float
    side_effects: dict[str, float]
    back: dict[str, float]
    off: dict[str, float]


@torch.no_grad()
def _sums(network: nn.Module, states: tuple[State, State, State], images: list[Tensor]) -> EditSums[Tensor]:
    """Return the sums over all images. The order of the states is masked, baseline, target."""
    reference = first_floating(states[2].values())
    placed = [{name: value.to(reference.device) for name, value in state.items()} for state in states]
    total = EditSums(*(torch.zeros((), dtype=torch.float64) for _ in EditSums._fields))
    for image in images:
        outputs = (evaluate(network, state, image[None].to(reference)) for state in placed)
        total = EditSums(*(a + b.sum().cpu() for a, b in zip(total, edit_sums(*outputs), strict=True)))
    return total


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores:
    """Two networks and the scores of their filters.

    Attributes:
        network: the module. Its own weights are neither used nor changed.
        baseline: θ̄.
        target: θ.
        attribution: the scores of every method: `attribution.scores[method]` is (draws, K, F).
        method: the method whose scores are used by `scores`, `discovered`, `mask` and `modulate`. `by` chooses another.
    """

    network: nn.Module = field(repr=False)
    baseline: State = field(repr=False)
    target: State = field(repr=False)
    attribution: Attribution = field(repr=False)
    method: str

    @property
    def degradations(self) -> tuple[str, ...]:
        """Return the names of the K degradations."""
        return self.attribution.degradations

    @property
    def layout(self) -> FilterLayout:
        """Return the layout of the F filters or other units. `layout.address(index)` is the position of a unit."""
        return self.attribution.layout

    @property
    def methods(self) -> tuple[str, ...]:
        """Return the names of the methods that have scores."""
        return tuple(self.attribution.scores)

    @property
    def scores(self) -> dict[str, Tensor]:
        """Return degradation → (F,) scores, float64 on the CPU. A higher score means more responsible for its removal.

        If the method has several draws, these are the scores of the first draw.
        """
        rows = self.attribution.scores[self.method][0]
        return dict(zip(self.degradations, rows, strict=True))

    def by(self, method: str) -> Self:
        """Return the same networks with the scores of another method.

        Raises:
            UserError: the method has no scores.
        """
        return replace(self, method=choice(method, self.methods, "method"))

    def discovered(self, degradation: str, percent: float = 1.0) -> Tensor:
        """Return the flat indices of the top `percent` % of all filters, the best first; none at 0 %.

        Raises:
            UserError: there is no such degradation, or the percent is not in 0..100 or too small to select a filter.
        """
        if not 0 <= percent <= 100:
            raise UserError(f"percent: {percent:g} is not in 0..100")
        if percent and not count_of(percent, len(self.layout)):
            smallest = smallest_percent(len(self.layout))
            raise UserError(
                f"percent: {percent:g} % of {len(self.layout):,} {self.layout.word} is none; the smallest percent that "
                f"selects one is {smallest:g}"
            )
        return discovered(self.scores[choice(degradation, self.degradations, "degradation")], percent)

    def mask(self, degradation: str, percent: float = 1.0) -> dict[str, Tensor]:
        """Return the target with the discovered filters of a degradation set back to the baseline's values."""
        return mask(self.target, self.baseline, self.layout, self.discovered(degradation, percent))

    def modulate(self, degradation: str, strength: float, percent: float = 1.0) -> dict[str, Tensor]:
        """Return the target with these filters at θ̄ + λ(θ − θ̄), λ = `strength`: 0 is masked, 1 is the target."""
        return modulate(self.target, self.baseline, self.layout, self.discovered(degradation, percent), strength)

    def isolation(
        self,
        degradation: str,
        percent: float = 1.0,
        *,
        images: Mapping[str, Images],
        weights: Weights | None = None,
    ) -> Isolation:
        """Compute the isolation of masking: how close it is to an edit that removes one function and changes no other.

        Args:
            degradation: the masked degradation, a key of `images`.
            percent: the percentage of filters that is masked.
            images: input → LR images in [0, 1], e.g. `{"blur": blurred, "noise": noisy, "clean": clean}`. Ground truth
                is not needed. Use images that the attribution has not used. An input with a `+` in its name is mixed.
                It has `back`, `off` and a side effect, and is not part of the isolation.
            weights: weights to evaluate in place of the masked weights, e.g. those of `faig_lab.mask`.

        Raises:
            UserError: a name or an image does not fit, or baseline and target have the same output on the degradation.
        """
        masked = self.mask(degradation, percent) if weights is None else state_of(weights, self.network, "weights")
        separate = tuple(name for name in images if name != CLEAN and "+" not in name)
        choice(degradation, separate, "degradation")
        states = (masked, self.baseline, self.target)
        sums = {
            name: _sums(self.network, states, checked_images(given, f"images[{name!r}]"))
            for name, given in images.items()
        }
        own = sums[degradation]
        if not own.energy > 0:
            raise UserError(
                f"images[{degradation!r}]: baseline and target give the same output, so nothing can be removed"
            )
        others = [sums[name] for name in separate if name != degradation]
        return Isolation(
            isolation=float(isolation(own, others, sums.get(CLEAN))),
            own_left=float((own.energy - 2 * own.along + own.moved) / own.energy),
            side_effects={name: float(side(total, own)) for name, total in sums.items() if name != degradation},
            back={name: float(back(total)) for name, total in sums.items()},
            off={name: float(off(total)) for name, total in sums.items()},
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Result(Scores):
    """The result of `attribute`.

    Attributes:
        problem: the networks, images and settings of the attribution. `problem.integral` holds the path integrals image
            by image.
    """

    problem: Problem = field(repr=False)

    @cached_property
    def shares(self) -> dict[str, Tensor]:
        """Return degradation → (F,) each filter's exact signed share of the loss change over all images.

        With the shares of biases and all other parameters they add up to 1, within the completeness gap.
        """
        integral = self.problem.integral
        return dict(zip(self.degradations, shares(integral.signed, integral.loss_change), strict=True))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return one sentence for each reason to doubt the scores: a large completeness gap, unranked parameters."""
        return self.attribution.warnings

    @cached_property
    def barriers(self) -> dict[str, float]:
        """Return input → barrier in dB: how far the PSNR along the path falls below its lower endpoint."""
        return profile(self.problem).barriers

    @property
    def completeness_gap(self) -> dict[str, float]:
        """Return degradation → relative error of the path integral, |Σ attributions − loss change| / |loss change|."""
        return {name: self.problem.integral.gap(name) for name in self.degradations}


@dataclass(frozen=True, eq=False, kw_only=True)
class Run(Scores):
    """A finished run folder.

    Attributes:
        files: the configuration, metrics, tables, provenance and status of the run as plain data.
    """

    files: RunFolder = field(repr=False)

    @property
    def path(self) -> Path:
        """Return the folder."""
        return self.files.path

    @property
    def metrics(self) -> dict[str, float]:
        """Return the headline numbers of metrics.json."""
        return self.files.metrics

    @property
    def completeness_gap(self) -> dict[str, float]:
        """Return degradation → relative error of the path integral."""
        return dict(self.files.provenance["completeness_gap"])

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return one sentence for each reason to doubt the scores, as the run recorded it."""
        return tuple(self.files.status.get("warnings") or ())

    def table(self, name: str) -> pd.DataFrame:
        """Return `tables/<name>.csv` as a pandas frame: names as text, all else as numbers, NaN for an empty cell.

        Raises:
            UserError: the run has no such table.
        """
        return self.files.tables[choice(name, tuple(self.files.tables), "table")]


def open_run(path: str | Path, *, trust: bool = False) -> Run:
    """Open a run folder and read its networks, scores, metrics and tables. Nothing is computed.

    Args:
        path: the folder.
        trust: allow the run's configuration to call any code that it names (e.g. your own network), and links in the
            folder to lead out of it. Without it, only code of faig_lab is called.

    Raises:
        UserError: the folder does not exist, has no weights or scores yet, or names code that is not allowed.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(missing_path("run", folder, "folder"))
    needed = ("config.yaml", "weights/baseline.pt", "weights/target.pt", "attribution/scores.npz")
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise UserError(f"run: {folder} has no {missing[0]}; a run folder has it once the attribution is done")
    if not trust:
        check_links(folder, "run")
        check_stored(read_stored(folder / "config.yaml", "run"), f"run: {folder / 'config.yaml'}")
    files = RunFolder(folder)
    check_node(files.config["network"], "network")
    network = make(files.config["network"])
    degradations = tuple(files.provenance["degradations"])
    scored = files.config["attribution"]
    # Old runs have no setting of the granularity; their units are filters.
    layout = FilterLayout.of(network, scored.get("granularity", "filter"), scored.get("rank_other_parameters", False))
    return Run(
        network=network,
        baseline=load_weights(folder / "weights" / "baseline.pt", network),
        target=load_weights(folder / "weights" / "target.pt", network),
        attribution=load_attribution(folder / "attribution", scored["name"], degradations, layout),
        method=scored["name"],
        files=files,
    )
