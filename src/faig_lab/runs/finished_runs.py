"""Finished runs to compare: found by folder or pattern, and grouped by the settings in which they differ."""

import glob
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pandas.api.types import is_numeric_dtype

from faig_lab.config.messages import missing_path
from faig_lab.config.targets import check_links
from faig_lab.errors import UserError
from faig_lab.runs.folder import RunFolder

# Settings of place, name and execution. They do not make a run another experiment.
_IRRELEVANT = re.compile(
    r"^(seed|store|name|objective|task|runs?|file|other|resume|sweep|export|compare|prune|traceback|trust|logger"
    r"|attribution\.name"
    r"|analysis\.(?!precision$)\w+|trainer\.(?!precision$)\w+"
    r"|training\.(workers|validate_every|checkpoint_every)|data\.(prepared|base_url|cache)\w*)(\.|$)"
)
_UNITS = ("network", "degradation.parts")
_NUMBERS = {
    "specificity": ("percent", "own", "other", "specificity"),
    "isolation": ("percent", "isolation", "clean_change"),
}
"""The columns of numbers of the tables that a comparison reads."""


def settings_of(run: RunFolder) -> dict[str, Any]:
    """Return every setting of a run by dotted key. A network is one value, and so are the degradations."""
    return dict(_flat(run.config))


@dataclass(frozen=True)
class LeftOut:
    """A run folder that is not compared, and the reason."""

    folder: Path
    reason: str


def find(wanted: str | Sequence[str]) -> list[Path]:
    """Return every run folder at or below the folders and patterns, each once.

    Raises:
        UserError: a folder does not exist (the message names the nearest folder), a pattern matches nothing, or no
            folder contains a run.
    """
    places = [place for item in ([wanted] if isinstance(wanted, str) else wanted) for place in _places(item)]
    folders = list(dict.fromkeys(run for place in places for run in _runs_below(place)))
    if not folders:
        raise UserError(f"runs: no run folder in {', '.join(map(str, places[:3]))}")
    return folders


def read(folders: Sequence[Path]) -> tuple[list[RunFolder], list[LeftOut]]:
    """Read the finished runs among the folders. The other folders are returned with the reason."""
    runs, left_out = [], []
    for folder in folders:
        try:
            runs.append(_read(folder))
        except UserError as error:
            left_out.append(LeftOut(folder, str(error)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            left_out.append(LeftOut(folder, f"cannot be read ({type(error).__name__}: {reason[:120]})"))
    return runs, left_out


def group(runs: Sequence[RunFolder]) -> dict[RunFolder, dict[str, str]]:
    """Return the settings that distinguish the experiment of each run: run → column → value.

    Runs with equal values differ only in the seed. A setting that a run lacks, as in another version, does not
    distinguish experiments. If several settings of one group of the configuration differ, and the chosen file of the
    group tells their values, the file is the value: `training` is `short` or `laptop`.
    """
    settings = [settings_of(run) for run in runs]
    keys = [
        key
        for key in dict.fromkeys(key for flat in settings for key in flat)
        if len({json.dumps(flat[key], sort_keys=True) for flat in settings if key in flat}) > 1
    ]
    files = _files([_choices(run) for run in runs], settings, keys)
    keys = [key for key in keys if key != "network" and key.partition(".")[0] not in files]
    networks = _network_labels([flat.get("network") or {} for flat in settings])
    return {
        run: {
            "network": label,
            **{name: chosen[place] for name, chosen in files.items()},
            **{"degradation" if key == "degradation.parts" else key: _text(flat.get(key)) for key in keys},
        }
        for place, (run, flat, label) in enumerate(zip(runs, settings, networks, strict=True))
    }


def _places(item: str) -> list[Path]:
    pattern = str(Path(item).expanduser())
    path = Path(pattern)
    if not glob.has_magic(pattern) or path.is_dir():  # a name may hold brackets
        if not path.is_dir():
            raise UserError(_nearest(path))
        return [path]
    matches = sorted(glob.glob(pattern), key=_natural)  # noqa: PTH207 - Path.glob takes no absolute patterns
    folders = [Path(name) for name in matches if Path(name).is_dir()]
    if not folders:
        fixed = Path(*takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
        inside = f"; {fixed} holds no such folder" if fixed.is_dir() else f"; {_nearest(fixed).removeprefix('runs: ')}"
        raise UserError(f"runs: {item} matches no folder{inside}")
    return folders


def _nearest(path: Path) -> str:
    """Return one line about a missing folder, with the nearest existing folder."""
    existing = path
    while not existing.parent.is_dir():
        existing = existing.parent
    hint = missing_path("runs", existing, "folder")
    return hint if existing == path else f"{hint} (asked for: {path})"


def _runs_below(folder: Path) -> Iterator[Path]:
    """Yield the run folders at or below a folder, in natural order. A run folder contains no other run folder.

    The folder of a comparison is not a run folder.
    """
    if re.match(r"compare(-|$)", folder.name) and not (folder / "status.json").exists():
        return
    if any((folder / name).exists() for name in ("status.json", "config.yaml", ".hydra")):
        yield folder
        return
    inside = sorted((entry for entry in os.scandir(folder) if entry.is_dir()), key=lambda entry: _natural(entry.name))
    for entry in inside:
        if not entry.name.startswith("."):
            yield from _runs_below(Path(entry.path))


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts 2 before 10."""
    return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", name)]


def _read(folder: Path) -> RunFolder:
    """Return a finished run with everything that is compared.

    The files are read now, so that a damaged file is reported here and not during the comparison.
    """
    if not (folder / "status.json").is_file():
        raise UserError("never started (no status.json)")
    run = RunFolder(folder)
    if run.status.get("state") != "done":
        error = f": {run.status['error']}" if run.status.get("error") else ""
        raise UserError(f"{run.status.get('state')}{error}")
    check_links(folder, "run")
    if not (folder / "config.yaml").is_file():
        raise UserError("has no config.yaml")
    if not (folder / "tables" / "specificity.csv").is_file():
        raise UserError("has no tables/specificity.csv (its analyses are without masking)")
    for name, columns in _NUMBERS.items():
        if not (folder / "tables" / f"{name}.csv").is_file():  # a run of an older version, without isolation
            continue
        table = run.table(name)
        if table.empty or not {"method", "masked", *columns} <= {*table.columns}:
            raise UserError(f"tables/{name}.csv is empty or of another version")
        if not all(is_numeric_dtype(table[column]) for column in columns) or table["percent"].isna().any():
            raise UserError(f"tables/{name}.csv is damaged")
    _ = run.metrics, run.table("comparison"), run.table("restoration"), run.seed, settings_of(run)
    return run


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if _IRRELEVANT.match(key):
            continue
        if isinstance(value, Mapping) and key not in _UNITS and value:
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _choices(run: RunFolder) -> Mapping[str, Any]:
    """Return group of the configuration → chosen file, as Hydra recorded them; empty without that record."""
    try:
        recorded = yaml.safe_load((run.path / ".hydra" / "hydra.yaml").read_text(encoding="utf-8"))
        return dict(recorded["hydra"]["runtime"]["choices"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return {}


def _files(
    choices: Sequence[Mapping[str, Any]], every: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> dict[str, list[str]]:
    """Return group → the chosen file of each run, for groups with several different settings that the file tells."""
    files = {}
    for name in dict.fromkeys(key.partition(".")[0] for key in keys):
        inside = [key for key in keys if key.startswith(f"{name}.")]
        chosen = [str(of_run.get(name, "")) for of_run in choices]
        values = {
            (file, json.dumps([flat.get(key) for key in inside])) for file, flat in zip(chosen, every, strict=True)
        }
        if len(inside) > 1 and all(chosen) and len(values) == len(set(chosen)):
            files[name] = chosen
    return files


def _network_labels(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the class of each network, with the settings in which networks of the same class differ."""
    labels = []
    for node in nodes:
        name = str(node.get("_target_", "network")).rpartition(".")[2]
        alike = [other for other in nodes if other.get("_target_") == node.get("_target_")]
        telling = [key for key in node if len({json.dumps(other.get(key)) for other in alike}) > 1]
        details = ", ".join(f"{key} {_text(node[key])}" for key in telling)
        labels.append(f"{name} ({details})" if details else name)
    return labels


def _text(value: Any) -> str:
    """Return a setting in a word: a node by its class, parts by their names with their arguments."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} ({_arguments(part)})" for name, part in value.items())
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _arguments(part: Any) -> str:
    if not isinstance(part, Mapping):
        return _text(part)
    return ", ".join(f"{name} {_text(value)}" for name, value in part.items() if not str(name).startswith("_"))


MEAN = "mean"
"""Entry of the column `masked` for the mean over the masked sets."""

PLACE = ("method", "percent", "masked")
"""The columns that name a masked set of a run."""

MEASURES = ("isolation", "clean_change", "own", "other", "specificity", "harm")
"""The measures of a masked set, in the order of the tables."""


def observations(run: RunFolder) -> pd.DataFrame:
    """Return the measures of every masked set of a run, and after the sets of a percent their mean.

    Returns:
        The columns `PLACE` (`masked` is "mean" for the mean over the sets) and `MEASURES`. A missing number is NaN. The
        mean is NaN if a set has no number, since a mean over fewer sets is not comparable.

        - isolation: 1 for the ideal edit, 0 for no masking, negative for harm; missing in runs without isolation.
        - clean_change: change of the PSNR on clean input in dB; missing in runs without clean input.
        - own: removed share of the own function, clipped to [0, 1].
        - other: mean removed share of the other functions, clipped to [0, 1].
        - specificity: own minus other.
        - harm: excess of the own removed share over 1. There the network is worse than the baseline.
    """
    place, columns = list(PLACE), list(MEASURES)
    shares = run.table("specificity")[[*place, "own", "other"]]
    isolation = run.table("isolation").reindex(columns=[*place, "isolation", "clean_change", "harm"])
    sets = shares.merge(isolation.astype({"percent": float}), how="left", on=place)
    sets["harm"] = sets["harm"].fillna((sets["own"] - 1).clip(lower=0))
    sets[["own", "other"]] = sets[["own", "other"]].clip(0, 1)
    sets["specificity"] = sets["own"] - sets["other"]
    ordered = []
    for _, of_method in sets.groupby("method", sort=False):
        for _, here in of_method.groupby("percent"):
            ordered += [here, here[:1].assign(masked=MEAN, **here[columns].mean(skipna=False))]
    return pd.concat(ordered, ignore_index=True)[[*place, *columns]]
