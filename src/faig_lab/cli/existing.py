"""A finished run, opened again: for further studies, or to export a masked or modulated network."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from faig_lab import __version__
from faig_lab.attribution import Attribution, Problem, count_of, discovered, load_attribution
from faig_lab.cli.build import check_selection, make_layout, make_network
from faig_lab.config import Settings, check
from faig_lab.config.messages import missing_path, suggest
from faig_lab.config.rules import smallest_percent
from faig_lab.config.trust import check_links, check_stored, read_stored, targets_of
from faig_lab.errors import UserError
from faig_lab.files import write_text
from faig_lab.filters import FilterLayout, export_weights, load_weights, make_patch, modulate, read_states, save_patch
from faig_lab.runs.folder import RunFolder, reopen_run
from faig_lab.runs.versions import versions


@dataclass(frozen=True)
class Existing:
    """A finished run with further analyses.

    Attributes:
        run: its folder.
        settings: its settings, with its own weights as given ones and the analyses of both.
        wanted: the analyses that it does not have yet.
    """

    run: RunFolder
    settings: Settings
    wanted: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.run.path.name

    def path_states(self) -> tuple[dict[str, Tensor], ...]:
        """The inner states of the run's path; none for the straight line."""
        if self.settings.attribution.path == "straight":
            return ()
        return read_states(self.run.path / "attribution" / "path.pt", "run")

    def attribution(self, problem: Problem) -> Attribution:
        """The run's scores, from its file."""
        method = self.settings.attribution.name
        return load_attribution(self.run.path / "attribution", method, problem.degradations, problem.layout)


@contextmanager
def reopen(settings: Settings) -> Iterator[Existing]:
    """Open the finished run `settings.run` for the analyses of `settings` that it does not have.

    Raises:
        UserError: there is no such folder, it holds no finished run, or the run has all these analyses.
    """
    assert settings.run is not None
    path = Path(settings.run).expanduser()
    config = OmegaConf.create(_read_config(path, settings))
    had = OmegaConf.to_container(config.analysis.studies)
    assert isinstance(had, dict)
    wanted = {name: node for name, node in settings.analysis.studies.items() if had.get(name) != node}
    if not wanted:
        raise UserError(f"analysis: {path} has all of these already: {', '.join(settings.analysis.studies)}")
    config.analysis.studies = had | wanted
    own = _checked(config, path)
    check_selection(own)
    with reopen_run(path) as run:
        yield Existing(run, own, tuple(wanted))
        write_text(path / "config.yaml", OmegaConf.to_yaml(config))


def settings_of(path: Path, asking: Settings) -> Settings:
    """The settings of the finished run in a folder, with its own weights as given ones; its data may be gone.

    Args:
        path: the folder.
        asking: the settings of this command; what they name, the run may call.

    Raises:
        UserError: there is no such folder, it holds no finished run, or it names code that it may not call.
    """
    return _checked(OmegaConf.create(_read_config(path, asking)), path, computes=False)


def _checked(config: DictConfig, path: Path, *, computes: bool = True) -> Settings:
    """The settings with the run's own weights as given ones; what is wrong with them is said to be the run's."""
    try:
        return check(_with_own_weights(config, path), computes=computes)
    except (UserError, OmegaConfBaseException) as error:
        made = _version(path)
        versions = "" if made == __version__ else f" (made with faig_lab {made or '?'}; this is {__version__})"
        raise UserError(f"run: {path / 'config.yaml'}{versions}: {str(error).splitlines()[0]}") from error


def _version(path: Path) -> str | None:
    """Which faig_lab made a run; None where the run does not say."""
    try:
        provenance = json.loads((path / "attribution" / "provenance.json").read_text(encoding="utf-8"))
        return str(provenance["versions"]["faig_lab"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _with_own_weights(config: DictConfig, path: Path) -> DictConfig:
    """The configuration with the run's own weights as given ones."""
    own = config.copy()
    for name in ("baseline", "target"):
        own[name].weights = str(path / "weights" / f"{name}.pt")
    return own


def _read_config(path: Path, asking: Settings) -> dict[str, object]:
    """The run's configuration, if it may be worked with."""
    if not path.is_dir():
        raise UserError(missing_path("run", path, "folder"))
    file = path / "config.yaml"
    if not (file.is_file() and (path / "attribution" / "scores.npz").is_file()):
        raise UserError(f"run: {path} holds no finished run; a run folder has config.yaml and attribution/scores.npz")
    config = read_stored(file, "run")
    if not asking.trust:
        check_links(path, "run")
        check_stored(config, f"run: {file}", named=targets_of(asking.model_dump()))
    analysis = config.get("analysis")
    if not (isinstance(analysis, dict) and "studies" in analysis):
        raise UserError(f"run: {file} is of another version of faig_lab: it has no analysis.studies")
    return config


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
        save_patch(path, make_patch(state, baseline, layout, filters, name="+".join(sets)))
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
