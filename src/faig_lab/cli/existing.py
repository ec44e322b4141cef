"""A finished run, opened again for further studies or to export a masked or modulated network."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from faig_lab import __version__
from faig_lab.attribution import count_of, discovered, load_attribution
from faig_lab.cli.build import check_selection, make_layout, make_network
from faig_lab.config import Settings, check
from faig_lab.config.messages import key_of, missing_path, suggest
from faig_lab.config.rules import smallest_percent
from faig_lab.config.settings import LoggerSettings
from faig_lab.config.targets import check_links, check_stored, read_stored, targets_of
from faig_lab.errors import UserError
from faig_lab.files import write_text
from faig_lab.filters import load_weights, make_patch, modulate, save_patch, save_weights
from faig_lab.runs.folder import RunFolder, reopen_run, versions


@contextmanager
def reopen(settings: Settings) -> Iterator[tuple[RunFolder, Settings, tuple[str, ...]]]:
    """Open the finished run `settings.run` for the studies of `settings` that the run does not have.

    Yields:
        The run folder; the settings of the run with its weights as given weights and with all studies; the names of
        the studies that the run does not have yet.

    Raises:
        UserError: the folder does not exist or has no finished run, or the run has all these studies.
    """
    assert settings.run is not None
    path = Path(settings.run).expanduser()
    config = OmegaConf.create(_read_config(path, settings))
    present = OmegaConf.to_container(config.analysis.studies)
    assert isinstance(present, dict)
    wanted = {name: node for name, node in settings.analysis.studies.items() if present.get(name) != node}
    if not wanted:
        raise UserError(f"analysis: {path} has all of these already: {', '.join(settings.analysis.studies)}")
    config.analysis.studies = present | wanted
    checked = _checked(config, path)
    check_selection(checked)
    with reopen_run(path) as run:
        yield run, checked, tuple(wanted)
        write_text(path / "config.yaml", OmegaConf.to_yaml(config))


def logger_settings(asked: LoggerSettings, recorded: LoggerSettings) -> LoggerSettings:
    """Return the logger settings of the finished run, with the changes that the command line asks for.

    Args:
        asked: the settings of this command, defaults included.
        recorded: the settings of the finished run.
    """
    if not HydraConfig.initialized():
        return recorded
    command = HydraConfig.get()
    typed = set(map(key_of, command.overrides.task))
    if "logger" in typed:  # a choice for the whole group
        return asked
    changed = {key.removeprefix("logger.") for key in typed if key.startswith("logger.")}
    if command.mode == RunMode.MULTIRUN:  # the jobs of a sweep are grouped and tagged
        changed |= {"group", "tags"}
    return recorded.model_copy(update={name: getattr(asked, name) for name in changed})


def _checked(config: DictConfig, path: Path, *, computes: bool = True) -> Settings:
    """Check the settings with the weights of the run as given weights. An error names the file of the run."""
    given = config.copy()
    for name in ("baseline", "target"):
        given[name].weights = str(path / "weights" / f"{name}.pt")
    try:
        return check(given, computes=computes)
    except (UserError, OmegaConfBaseException) as error:
        made = "?"  # in a run that does not record its version
        with suppress(OSError, ValueError, KeyError, TypeError):
            made = str(_provenance(path)["versions"]["faig_lab"])
        versions = "" if made == __version__ else f" (made with faig_lab {made}; this is {__version__})"
        raise UserError(f"run: {path / 'config.yaml'}{versions}: {str(error).splitlines()[0]}") from error


def _provenance(path: Path) -> dict[str, Any]:
    """Read the provenance of a run; the error is that of a damaged or missing file."""
    content: dict[str, Any] = json.loads((path / "attribution" / "provenance.json").read_text(encoding="utf-8"))
    return content


def _read_config(path: Path, asking: Settings) -> dict[str, object]:
    """Read the configuration of the run, if the run is finished and trusted."""
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

    The suffix chooses the format: .pt is the whole network in our format, .pth the whole network in the authors'
    format, .npz a sparse update of the run's baseline with the modulated filters only.

    Returns:
        One line about the written file.

    Raises:
        UserError: the run, its scores or a setting is not valid.
    """
    wanted, folder = settings.export, Path(str(settings.run)).expanduser()
    recorded = _checked(OmegaConf.create(_read_config(folder, settings)), folder, computes=False)
    network = make_network(recorded)
    layout = make_layout(recorded)
    baseline, target = (load_weights(folder / "weights" / f"{n}.pt", network, "run") for n in ("baseline", "target"))
    method, percent = wanted.method or recorded.attribution.name, wanted.percent or recorded.analysis.headline_percent
    if not count_of(percent, len(layout)):
        smallest = smallest_percent(len(layout))
        raise UserError(
            f"export.percent: {percent:g} % of {len(layout)} {layout.word} is none; the smallest that selects one is "
            f"{smallest:g}"
        )
    try:
        names = tuple(_provenance(folder)["degradations"])  # in the order of the scores
    except (OSError, ValueError, KeyError) as error:
        path = folder / "attribution" / "provenance.json"
        raise UserError(f"run: {path} does not say which degradations there are ({error})") from error
    scores = load_attribution(folder / "attribution", recorded.attribution.name, names, layout).scores
    if method not in scores:
        raise UserError(f"export.method: the run has no scores of {method}; {suggest(method, scores)}")
    for name in wanted.strengths:
        if name not in names:
            known = suggest(name, names)
            raise UserError(f"export.strengths.{name}: the run has no such degradation; {known}")
    sets = {name: discovered(scores[method][0, names.index(name)], percent) for name in wanted.strengths}
    try:
        state = modulate(target, baseline, layout, list(sets.values()), list(wanted.strengths.values()))
    except ValueError as error:
        raise UserError(f"export.strengths: {error}; give them one strength, or take a smaller percent") from error
    content = ", ".join(f"{name} at λ = {strength:g}" for name, strength in wanted.strengths.items())
    path = Path(str(wanted.file)).expanduser()
    if path.suffix == ".npz":
        filters = torch.cat(list(sets.values()))
        save_patch(path, make_patch(state, baseline, layout, filters, name="+".join(sets)))
    else:
        about = {
            "what": f"target with {layout.word} of {content}",
            "network": recorded.network,
            "run": folder.name,
            "method": method,
            "percent": percent,
            "filters": {name: len(filters) for name, filters in sets.items()},
            "versions": versions(),
        }
        save_weights(path, state, about)
    return f"{path}: {layout.word} of {content}, {percent:g} % each by {method}, from {folder}"
