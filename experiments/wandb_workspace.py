"""The W&B workspace of a project as code: runs ranked by isolation, curves, pictures, tables.

python experiments/wandb_workspace.py --entity me --project faig_lab          # print the panels
python experiments/wandb_workspace.py --entity me --project faig_lab --save   # make the workspace, print its address

It needs the extra `workspace`: pip install "faig_lab[workspace]"
"""

import argparse
import sys
from collections.abc import Iterator

DEGRADATIONS = ("blur", "noise")
METHODS = ("faig", "isolation_share", "signed_share", "ig", "weight_change", "random")
TABLES = ("isolation", "isolation_methods", "specificity")


def workspace(entity, project, degradations=DEGRADATIONS, methods=METHODS):
    """The workspace, which nobody has saved yet."""
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as ws

    def by_step(network, quantity, title):
        axis = f"training/{network}/step"
        keys = [f"training/{network}/{key}" for key in quantity]
        return panels.LinePlot(title=f"{network}: {title}", x=axis, y=keys, title_x="step")

    gains = [f"gain/{name}" for name in degradations]
    sections = [
        ws.Section(
            name="Isolation",
            is_open=True,
            pinned=True,
            panels=[
                panels.LinePlot(
                    title=f"{method}: isolation by percent", x="curves/percent", y=[f"curves/isolation/{method}"],
                    log_x=True, title_x="percent masked",
                )
                for method in methods
            ]
            + [panels.BarPlot(title="isolation of the run's method", metrics=["isolation"], orientation="h")],
        ),
        ws.Section(
            name="Learning",
            is_open=True,
            panels=[
                by_step(network, quantity, title)
                for network in ("baseline", "target")
                for quantity, title in ((gains, "gain over bicubic, dB"), (["loss"], "loss"))
            ],
        ),
        ws.Section(
            name="Pictures",
            is_open=True,
            panels=[
                panels.MediaBrowser(title=name, media_keys=[f"figures/{name}"])
                for name in ("isolation", "layers", *(f"before_after_{name}" for name in degradations))
            ],
        ),
        ws.Section(
            name="Tables", panels=[panels.WeavePanelSummaryTable(table_name=f"values/{name}") for name in TABLES]
        ),
    ]  # fmt: skip
    runs = ws.RunsetSettings(
        groupby=[ws.Config("attribution.name")],
        order=[ws.Ordering(ws.Summary("isolation"), ascending=False)],
        pinned_columns=["summary:isolation", "summary:specificity", "config:attribution.name", "config:seed"],
    )
    return ws.Workspace(entity=entity, project=project, name="faig_lab", sections=sections, runset_settings=runs)


def keys(arranged) -> Iterator[str]:
    """Every key of a run that a panel of the workspace shows."""
    for section in arranged.sections:
        for panel in section.panels:
            metrics = [*getattr(panel, "y", []), *getattr(panel, "metrics", []), getattr(panel, "x", None)]
            for metric in metrics:
                if metric is not None:
                    yield getattr(metric, "name", metric)
            yield from getattr(panel, "media_keys", [])
            if hasattr(panel, "table_name"):
                yield panel.table_name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entity", required=True, help="account or team")
    parser.add_argument("--project", default="faig_lab")
    parser.add_argument("--degradations", nargs="+", default=DEGRADATIONS, metavar="NAME")
    parser.add_argument("--methods", nargs="+", default=METHODS, metavar="NAME")
    parser.add_argument("--save", action="store_true", help="make the workspace on the server")
    given = parser.parse_args()
    try:
        arranged = workspace(given.entity, given.project, given.degradations, given.methods)
    except ModuleNotFoundError as error:
        sys.exit(f'{error.name} is not installed; pip install "faig_lab[workspace]"')
    if given.save:
        print(arranged.save().url)
        return
    for section in arranged.sections:
        print(section.name)
        for panel in section.panels:
            print("   ", getattr(panel, "title", None) or panel.table_name)


if __name__ == "__main__":
    main()
