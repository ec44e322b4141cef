"""The table of compatibility: its rows for our own minimal forms, and the page that is committed."""

import re

import pytest
from docs_pages import ROOT

from benchmarks import compatibility
from benchmarks.architectures import OWN, SPANDREL, Architecture
from benchmarks.minimal import EDSR
from faig_lab.errors import UserError
from faig_lab.filters.foreign import INSTALL


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def rows(text):
    table = text.partition("| architecture ")[2].partition("\n\n")[0].splitlines()[2:]
    return {cells(line)[0]: dict(zip(compatibility.COLUMNS, cells(line), strict=True)) for line in table}


def test_the_traps_are_mended_and_the_table_says_what_it_measured(tmp_path, capsys):
    wanted = ["EDSR", "U-Net", "window attention (minimal)", "merged kernels (minimal)", "in-place channels (minimal)"]
    assert compatibility.main(["--only", ",".join(wanted), "--out", str(tmp_path / "table.md")]) == 0
    found = rows((tmp_path / "table.md").read_text())
    assert list(found) == wanted
    assert "What does not work" not in (tmp_path / "table.md").read_text()
    for row in found.values():
        assert row["masks"] == "exact"
        assert float(row["gap"]) < 1e-2
        assert row["tiles"].startswith("equal, ")
        assert row["trains"].startswith("yes")
    assert found["EDSR"]["tiles"] == "equal, 13 pixels"  # six 3×3 convolutions
    assert found["EDSR"]["single weights"] == "0 %"
    assert found["window attention (minimal)"]["units"] == "head, output_channel"
    weights = 8 * 24 + 8 * 8 + 2 * 8 * 16  # of the attention and of the MLP
    parameters = weights + 24 + 8 + 16 + 8 + 16 * 2 + 2 * 8 + 3 * 9 * 8 + 8 + 12 * 9 * 8 + 12
    assert found["window attention (minimal)"]["linear"] == f"{100 * weights / parameters:.0f} %"


@pytest.mark.parametrize(
    ("error", "crashed", "words"),
    [(RuntimeError("no"), True, "A: fails: RuntimeError: no"), (UserError("no"), False, "A: refused: no")],
)
def test_what_cannot_be_used_is_a_line_of_words(error, crashed, words):
    class Breaks(EDSR):
        def forward(self, lr):
            raise error

    row, failed = compatibility.examined(Architecture("A", Breaks, 2, spandrel=False))
    assert (failed, row.notes) == (crashed, [words])


def test_an_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        compatibility.main(["--only", "EDSR,Unknown"])
    assert "there is no Unknown; choices: " in capsys.readouterr().err


def test_the_page_has_every_architecture_and_is_linked():
    page = ROOT / "docs" / "compatibility.md"
    found = rows(page.read_text(encoding="utf-8"))
    assert set(found) == {*SPANDREL, *OWN}
    assert len(SPANDREL) >= 15
    for other in (page.parent / "index.md", page.parent / "own_network.md", ROOT / "README.md"):
        assert "compatibility.md" in other.read_text(encoding="utf-8")


def test_the_extra_of_the_message_is_there():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extra = re.search(r"\[(\w+)\]", INSTALL)
    assert extra
    assert re.search(rf"^{extra[1]} = \[", text, re.MULTILINE)
