"""Where the change of the loss sits: the shares of kernels and of all other parameters, in words and as rows."""

import math
from dataclasses import dataclass

from faig_lab.reporting.run_files import RunFiles, unique, value
from faig_lab.reporting.words import count, degraded, listed, share


@dataclass(frozen=True)
class Shares:
    """Shares of the loss change, columns in the order of `degradations`.

    Attributes:
        degradations: the columns.
        sentence: what it comes to.
        rows: parameter → how many weights, and the share of each column.
    """

    degradations: list[str]
    sentence: str
    rows: dict[str, tuple[float, list[float | None]]]


def shares(run: RunFiles) -> Shares | None:
    """What `tables/shares.csv` says; None for a run without it."""
    table = run.table("shares")
    if not table:
        return None
    names, parameters = unique(table, "degradation"), unique(table, "parameter")
    found = {(str(row["degradation"]), str(row["parameter"])): row for row in table}
    rows = {
        parameter: (
            value(found[names[0], parameter], "weights") or 0.0,
            [value(found[name, parameter], "share") for name in names],
        )
        for parameter in parameters
    }
    return Shares(names, _sentence(run, names), rows)


def _sentence(run: RunFiles, names: list[str]) -> str:
    table = run.table("shares")
    others = [row for row in table if row["kind"] == "other" and row["degradation"] == names[0]]
    if not others:
        return "The network has no parameters beside the weights of its convolutions and linear layers."
    said = []
    for name in names:
        sums = [
            math.fsum(value(row, "share") or 0.0 for row in table if (row["degradation"], row["kind"]) == (name, kind))
            for kind in ("kernel", "other")
        ]
        said.append(f"{share(sums[0])} and {share(sums[1])} on {degraded(name)} input")
    numbers = math.fsum(value(row, "weights") or 0.0 for row in others)
    ranked = not run.layout.get("not_ranked", [])
    fate = "They are ranked like the rest." if ranked else "No method ranks the latter, and masking leaves them alone."
    return (
        f"Of the change of the loss the weights of convolutions and linear layers carry, and the other "
        f"parameters (biases above all: {len(others)} tensors, {count(numbers)} numbers): {listed(said)}. {fate}"
    )
