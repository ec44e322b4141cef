"""Finished run folders."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from faig_lab.api.results import Scores
from faig_lab.api.weights import choice, load_weights
from faig_lab.attribution import load_attribution
from faig_lab.config.messages import missing_path
from faig_lab.config.targets import check_node, make
from faig_lab.config.trust import check_links, check_stored, read_stored
from faig_lab.errors import UserError
from faig_lab.filters import FilterLayout
from faig_lab.runs.folder import RunFolder


@dataclass(frozen=True, eq=False, kw_only=True)
class Run(Scores):
    """A finished run folder.

    Attributes:
        files: its configuration, metrics, tables, provenance and status as plain data.
    """

    files: RunFolder = field(repr=False)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.files.path

    @property
    def metrics(self) -> dict[str, float]:
        """metrics.json: the flat headline numbers."""
        return self.files.metrics

    @property
    def completeness_gap(self) -> dict[str, float]:
        """Degradation → relative error of the path integral."""
        return dict(self.files.provenance["completeness_gap"])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes these numbers doubtful, one sentence each, as the run recorded it."""
        return tuple(self.files.status.get("warnings") or ())

    def table(self, name: str) -> pd.DataFrame:
        """Return `tables/<name>.csv` as a pandas frame: names as text, all else as numbers, NaN for an empty cell.

        Raises:
            UserError: the run has no such table.
        """
        return self.files.tables[choice(name, tuple(self.files.tables), "table")]


def open_run(path: str | Path, *, trust: bool = False) -> Run:
    """Open a run folder: its networks, scores, metrics and tables. Nothing is computed.

    Args:
        path: the folder.
        trust: the run's configuration may call any code that it names (a network of your own, say), and links in the
            folder may lead out of it; else it may call what faig_lab ships.

    Raises:
        UserError: there is no such folder, it has no weights and scores (yet), or it names code that it may not call.
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
    # Runs from before there was a choice have filters.
    layout = FilterLayout.of(network, scored.get("granularity", "filter"), scored.get("rank_other_parameters", False))
    return Run(
        network=network,
        baseline=load_weights(folder / "weights" / "baseline.pt", network),
        target=load_weights(folder / "weights" / "target.pt", network),
        attribution=load_attribution(folder / "attribution", scored["name"], degradations, layout),
        method=scored["name"],
        files=files,
    )
