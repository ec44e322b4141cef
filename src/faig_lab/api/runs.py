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
