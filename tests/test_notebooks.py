"""The notebooks: they run in a fresh kernel, and their stored outputs are those of their cells."""

import nbformat
import pytest
from docs_pages import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST = 500_000  # bytes: git keeps every version


book = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path):
    """The cells of code."""
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def kinds(cell):
    """The kinds of a cell's outputs, streams of standard error included."""
    return {output.get("name") or next(iter(sorted(output.get("data", {"error": ""})))) for output in cell.outputs}


def test_both_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS] == ["finding", "your_own_network"]
    assert len(cells(NOTEBOOKS[0])) == 10


@book
def test_a_notebook_is_stored_with_its_outputs_and_is_small(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    assert path.stat().st_size < LARGEST
    stored = cells(path)
    assert [cell.execution_count for cell in stored] == list(range(1, len(stored) + 1))
    assert sum("image/jpeg" in kinds(cell) for cell in stored) >= 1
    for cell in stored:
        assert not kinds(cell) & {"stderr", "error"}, cell.source
        assert "/home/" not in str(cell.outputs)
        assert "site-packages" not in str(cell.outputs)


def numbers(path, start):
    """The numbers of a printed line."""
    text = "".join(o.get("text", "") for cell in cells(path) for o in cell.outputs)
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return [float(word) for word in line.replace("dB", "").split() if word.lstrip("+-").replace(".", "", 1).isdigit()]


def test_the_stored_outputs_show_the_finding():
    finding = NOTEBOOKS[0]
    assert numbers(finding, "blur ")[2] > 1
    assert numbers(finding, "noise ")[2] > 2
    assert min(numbers(finding, "isolation_share")) > 0.5
    assert max(map(abs, numbers(finding, "random"))) < 0.25


@pytest.mark.slow
@pytest.mark.timeout(900)
@book
def test_a_notebook_runs_in_a_fresh_kernel_and_shows_what_is_stored(path, tmp_path):
    from notebook_case import executed

    run = [cell for cell in executed(path, tmp_path).cells if cell.cell_type == "code"]
    stored = cells(path)
    assert [kinds(cell) for cell in run] == [kinds(cell) for cell in stored]
    assert not list(tmp_path.iterdir())
