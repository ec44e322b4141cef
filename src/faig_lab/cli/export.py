"""A masked or modulated network, or a sparse patch, out of a finished run; nothing is trained or restored."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from faig_lab.attribution import Attribution, count_of, discovered, load_attribution
from faig_lab.cli.build import make_layout, make_network
from faig_lab.cli.existing import settings_of
from faig_lab.config import Settings
from faig_lab.config.messages import suggest
from faig_lab.config.rules import smallest_percent
from faig_lab.errors import UserError
from faig_lab.filters import FilterLayout, export_weights, load_weights, make_patch, modulate, save_patch
from faig_lab.runs.versions import versions


def export(settings: Settings) -> str:
    """Write `settings.export.file` from the finished run `settings.run`.

    The suffix says what: .pt the whole network in our format, .pth in the authors', .npz a patch of the modulated
    filters alone, for the run's baseline.

    Returns:
        One line that says what was written.

    Raises:
        UserError: the run, its scores or a setting cannot be worked with.
    """
    wanted, folder = settings.export, Path(str(settings.run)).expanduser()
    own = settings_of(folder, settings)
    network = make_network(own)
    layout = make_layout(own)
    baseline, target = (load_weights(folder / "weights" / f"{n}.pt", network, "run") for n in ("baseline", "target"))
    method, percent = wanted.method or own.attribution.name, wanted.percent or own.analysis.headline_percent
    if not count_of(percent, len(layout)):
        smallest = smallest_percent(len(layout))
        raise UserError(
            f"export.percent: {percent:g} % of {len(layout)} {layout.word} is none; the smallest that selects one is "
            f"{smallest:g}"
        )
    sets = _sets(_scores(folder, own, layout), wanted.strengths, method, percent)
    try:
        state = modulate(target, baseline, layout, list(sets.values()), list(wanted.strengths.values()))
    except ValueError as error:
        raise UserError(f"export.strengths: {error}; give them one strength, or take a smaller percent") from error
    what = ", ".join(f"{name} at λ = {strength:g}" for name, strength in wanted.strengths.items())
    path = Path(str(wanted.file)).expanduser()
    if path.suffix == ".npz":
        filters = torch.cat(list(sets.values()))
        save_patch(path, make_patch(state, baseline, layout, filters, "+".join(sets)))
    else:
        about = {
            "what": f"target with {layout.word} of {what}",
            "network": own.network,
            "run": folder.name,
            "method": method,
            "percent": percent,
            "filters": {name: len(filters) for name, filters in sets.items()},
            "versions": versions(),
        }
        export_weights(path, state, about)
    return f"{path}: {layout.word} of {what}, {percent:g} % each by {method}, from {folder}"


def _scores(folder: Path, own: Settings, layout: FilterLayout) -> Attribution:
    """The run's scores; the order of its degradations is in its provenance."""
    path = folder / "attribution" / "provenance.json"
    try:
        names = tuple(json.loads(path.read_text(encoding="utf-8"))["degradations"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"run: {path} does not say which degradations there are ({error})") from error
    return load_attribution(folder / "attribution", own.attribution.name, names, layout)


def _sets(scores: Attribution, names: Iterable[str], method: str, percent: float) -> dict[str, Tensor]:
    """The discovered filters of each named degradation."""
    if method not in scores.scores:
        raise UserError(f"export.method: the run has no scores of {method}; {suggest(method, scores.scores)}")
    for name in names:
        if name not in scores.degradations:
            known = suggest(name, scores.degradations)
            raise UserError(f"export.strengths.{name}: the run has no such degradation; {known}")
    rows = dict(zip(scores.degradations, scores.scores[method][0], strict=True))
    return {name: discovered(rows[name], percent) for name in names}
