"""Progress of all loops except Lightning's training loop."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from faig_lab.plotting.words import duration
from faig_lab.runs import processes

EVERY = 10.0
"""Seconds between two lines where there is no terminal."""

log = logging.getLogger(__name__)


@contextmanager
def progress_bar(name: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar with the remaining time in a terminal, or log a line every 10 s. A shorter loop logs nothing.

    Args:
        name: name of the loop.
        total: number of steps. A loop may take more: then only the number of steps that are done is shown.

    Yields:
        A function to call after each step with the name of the step.
    """
    terminal = sys.stderr.isatty()
    start = said = time.monotonic()
    done = 0
    with tqdm(total=total, desc=name, leave=False, disable=processes.rank() > 0 or not terminal) as bar:

        def advance(what: str) -> None:
            nonlocal said, done
            done += 1
            bar.set_postfix_str(what, refresh=False)
            bar.update()
            now = time.monotonic()
            if now - said >= EVERY and not terminal and processes.rank() == 0:
                said = now
                left = duration((now - start) / done * (total - done)) if done <= total else None
                log.info("%s: %d%s", name, done, f" of {total}, about {left} left" if left else " steps done")

        yield advance
