"""Floating-point operations of a whole study by stage: a measure of the work that no other load on the machine changes.

python -m benchmarks.whole_study                        the study of make run
python -m benchmarks.whole_study training=laptop seed=1   with other settings
"""

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring import Table
from benchmarks.plan import Plan
from faig_lab.cli.arguments import compose
from faig_lab.cli.study import run
from faig_lab.runs.folder import RunFolder

TERA = 1e12


def by_stage(settings: Sequence[str], folder: Path) -> dict[str, int]:
    """Run a study from an empty store and count its operations by stage, in the order of their first end.

    A multiplication and an addition are two operations. Convolutions and matrix products count, forward and backward,
    those of the degradations and of the measured forecast too. The comparison of memory formats, which happens once on
    each kind of processor, is left out.

    Args:
        settings: as on the command line.
        folder: for the run and its store.
    """
    counted: dict[str, int] = defaultdict(int)
    stage, counter, outer = RunFolder.stage, FlopCounterMode(display=False), [0]

    @contextmanager
    def counting(folder: RunFolder, name: str) -> Iterator[None]:
        """The stage itself, whose operations are those that no stage inside it has."""
        before, inside = counter.get_total_flops(), outer[0]
        with stage(folder, name):
            yield
        total, own = counter.get_total_flops() - before, outer[0] - inside
        counted[name] += total - own
        outer[0] = inside + total

    store = f"store={folder / 'store'}"
    with patch.object(RunFolder, "stage", counting), counter:
        fixed = ("experiment=blur_noise", "trainer=cpu", "training.channels_last=true", "logger=none", store)
        run(compose([*fixed, *settings]), folder / "run")
    return dict(counted)


def measure(plan: Plan, folder: Path) -> None:
    """Write study_operations.csv: the whole study by stage."""
    table = Table(folder / "study_operations.csv", ("stage", "tflop"))
    with TemporaryDirectory() as place:
        counted = by_stage(plan.study, Path(place))
    for name, operations in counted.items():
        if operations:
            table.add(stage=name, tflop=operations / TERA)
    table.add(stage="all", tflop=sum(counted.values()) / TERA)


if __name__ == "__main__":
    with TemporaryDirectory() as path:
        found = by_stage(sys.argv[1:], Path(path))
    for what, number in [*found.items(), ("all", sum(found.values()))]:
        print(f"{what:20} {number / TERA:8.3f} TFLOP")
