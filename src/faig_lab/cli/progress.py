"""Progress of the loops that Lightning does not run."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from faig_lab.runs import processes


@contextmanager
def progress_bar(name: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar in a terminal, nothing elsewhere (a log file has no use for one).

    Args:
        name: what is going on.
        total: how many steps.

    Yields:
        A function to call after each step with what was done.
    """
    with tqdm(total=total, desc=name, leave=False, disable=processes.rank() > 0 or not sys.stderr.isatty()) as bar:

        def advance(what: str) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.update()

        yield advance
