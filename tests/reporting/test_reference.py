"""The learned mask as the line that methods are held against: distances, the sentence, and how figures draw it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from matplotlib.colors import to_hex

from faig_lab.config.composition import FOLDER
from faig_lab.reporting import reference
from faig_lab.reporting.isolation_figure import isolation
from faig_lab.reporting.methods_figure import methods
from faig_lab.reporting.report import write_report
from faig_lab.reporting.run_files import read_run
from faig_lab.reporting.style import INK, MUTED, method_colour, method_look
from faig_lab.reporting.tables import write_table

MakeRun = Callable[..., Path]
METHODS = ("faig", "signed_share", "learned_mask", "random")
LABEL = "learned mask (reference)"
SHARES = dict.fromkeys(METHODS, 0.5)
FOUND = {"faig": 0.5, "signed_share": 0.75, "learned_mask": 0.9, "random": -0.25}


def isolated(folder: Path, found: dict[str, float]) -> Path:
    """The tables of isolation: at 1 % as given, at 0.1 % half of it; denoising sets are 0.05 worse."""
    sets, means = [], []
    for method, best in found.items():
        for percent, factor in ((0.1, 0.5), (1.0, 1.0)):
            row = {"method": method, "percent": percent, "interval": "range"}
            means.append(row | {"isolation": factor * best})
            sets += [row | {"masked": m, "isolation": factor * best - c} for m, c in (("blur", 0.0), ("noise", 0.05))]
    write_table(folder / "tables" / "isolation.csv", sets)
    write_table(folder / "tables" / "isolation_methods.csv", means)
    return folder


def test_distances_at_equal_count(make_run: MakeRun) -> None:
    run = read_run(isolated(make_run(methods=METHODS, own=SHARES, other=SHARES), FOUND))
    assert reference.distances(run, 1.0) == pytest.approx({"faig": 0.4, "signed_share": 0.15, "random": 1.15})
    assert reference.distances(run, 0.1)["faig"] == pytest.approx(0.2)
    assert reference.distances(run, 3.0) == {}


def test_the_line_of_a_set(make_run: MakeRun) -> None:
    run = read_run(isolated(make_run(methods=METHODS, own=SHARES, other=SHARES), FOUND))
    assert reference.line(run, "noise") == [(0.1, pytest.approx(0.4)), (1.0, pytest.approx(0.85))]
    assert reference.line(run, "jpeg") == []


def test_the_sentence(make_run: MakeRun) -> None:
    assert reference.sentence(read_run(isolated(make_run(methods=METHODS, own=SHARES, other=SHARES), FOUND))) == (
        "Learned mask (reference) at 1 %: isolation 0.90, mean over the masked sets. Distance to it at equal count: "
        "FAIG 0.40, signed share 0.15 and random filters 1.15."
    )
    better = read_run(isolated(make_run(methods=METHODS, own=SHARES, other=SHARES), FOUND | {"faig": 0.95}))
    assert "FAIG \N{MINUS SIGN}0.05," in str(reference.sentence(better))


def test_the_report_says_it(make_run: MakeRun) -> None:
    folder = isolated(make_run(methods=METHODS, own=SHARES, other=SHARES, intervals=0.1), FOUND)
    page = write_report(folder).read_text(encoding="utf-8")
    assert str(reference.sentence(read_run(folder))) in page
    assert "Dash-dotted: the learned mask" in page or "figures/isolation.png" not in page


def test_panels_of_isolation_have_the_reference_line(make_run: MakeRun) -> None:
    figure = isolation(read_run(isolated(make_run(methods=METHODS, own=SHARES, other=SHARES), FOUND)))
    assert figure is not None
    drawn = [[line.get_ydata() for line in panel.lines if line.get_label() == LABEL] for panel in figure.axes]
    assert [len(lines) for lines in drawn] == [1, 1, 1, 1, 0, 0, 1, 1]  # two panels a method; not in its own row
    assert list(drawn[0][0]) == pytest.approx([0.45, 0.9])
    assert list(drawn[1][0]) == pytest.approx([0.4, 0.85])


def test_nothing_is_said_without_a_reference(make_run: MakeRun) -> None:
    others = {method: value for method, value in FOUND.items() if method != "learned_mask"}
    run = read_run(isolated(make_run(methods=tuple(others), own=SHARES, other=SHARES), others))
    assert reference.distances(run, 1.0) == {}
    assert reference.sentence(run) is None
    assert reference.sentence(read_run(make_run(methods=METHODS, own=SHARES, other=SHARES))) is None


def test_the_look_of_each_method() -> None:
    assert method_look(1, "learned_mask") == {"color": INK, "linestyle": "-."}
    assert method_look(1, "random") == {"color": MUTED, "linestyle": "--"}
    assert method_look(1, "faig") == {"color": method_colour(1), "linestyle": "-"}


def test_the_methods_of_attribution_all_look_different():
    settings = yaml.safe_load((FOLDER / "attribution" / "all.yaml").read_text(encoding="utf-8"))
    others = [name for name in settings["defaults"] if name != "_self_"]
    methods = ["faig", "signed_share", "ig", "weight_change", *others, "random"]
    looks = {tuple(method_look(index, method).items()) for index, method in enumerate(methods)}
    assert len(looks) == len(methods) == 12


def test_every_panel_of_the_methods_has_the_reference_line(make_run: MakeRun) -> None:
    figure = methods(read_run(make_run(methods=METHODS, own=SHARES, other=SHARES, intervals=0.1)))
    assert figure is not None
    panels = [panel for panel in figure.axes if panel.axison]
    assert len(panels) == 3
    for panel in panels:
        (line,) = [line for line in panel.lines if line.get_label() == LABEL]
        assert (to_hex(line.get_color()), line.get_linestyle()) == (INK, "-.")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["FAIG", "learned mask (reference)"]
