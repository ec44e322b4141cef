"""Run notebooks in a fresh kernel. `python tests/notebook_case.py FILE ...` stores the outputs in the files."""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

SOURCE = Path(__file__).resolve().parents[1] / "src"


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """A notebook with the outputs of a run in a folder; CellExecutionError if a cell fails."""
    book = nbformat.read(path, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    paths = [str(SOURCE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    client.execute(env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))})
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # times
    return book


if __name__ == "__main__":
    for name in sys.argv[1:]:
        nbformat.write(executed(Path(name), Path.cwd()), name)
        print(name)
