"""Operations that masking would save if a masked network started from the target's features at its first masked layer.

python -m benchmarks.shared_prefix outputs/blur_noise/<time>     a finished run; nothing is trained or timed

Before its first masked layer, a masked network computes what the target computes. The operations up to that layer are
the most that can be shared. The result says whether sharing them is worth its code (docs/performance.md).
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from faig_lab.api import open_run
from faig_lab.attribution import Attribution, count_of
from faig_lab.evaluation.masking import rankings

LR_SIDE = 64  # pixels; shares of operations do not depend on it for convolutions


def operations_before(network: nn.Module, lr: torch.Tensor) -> tuple[dict[str, int], int]:
    """Count the operations before the first call of the module that owns each parameter, and those of a whole pass.

    Args:
        network: in evaluation mode.
        lr: (1, 3, h, w).

    Returns:
        Parameter → operations; a parameter whose module is never called is absent. Then all operations.
    """
    before: dict[str, int] = {}
    with FlopCounterMode(display=False) as counter, torch.no_grad():

        def note(module: nn.Module, inputs: object) -> None:
            for name in owned[module]:
                before.setdefault(name, counter.get_total_flops())

        owned = {
            module: [f"{place}.{name}".removeprefix(".") for name, _ in module.named_parameters(recurse=False)]
            for place, module in network.named_modules()
        }
        hooks = [module.register_forward_pre_hook(note) for module in owned]
        try:
            network(lr)
        finally:
            for hook in hooks:
                hook.remove()
    return before, counter.get_total_flops()


def shared(attribution: Attribution, percents: Sequence[float], before: Mapping[str, int], total: int) -> pd.DataFrame:
    """Compute the share of the operations that each masked network of a masking study has in common with the target.

    Args:
        attribution: the scores.
        percents: q.
        before: parameter → operations before its first use. A parameter that is absent shares nothing.
        total: operations of a pass.

    Returns:
        Rows of method, percent, shared (0 to 1). A set that two methods or degradations have in common is one network
        and one row, as in the study.
    """
    layout = attribution.layout
    starts = torch.tensor([min(before.get(name, 0) for name in layer.names) for layer in layout.layers])
    first = starts[layout.layer_of()]
    rows: dict[bytes, dict[str, object]] = {}
    for method, _, _, order in rankings(attribution):
        for percent in percents:
            filters = order[: count_of(percent, len(layout))].sort().values
            start = int(first[filters].min()) if len(filters) else total
            row: dict[str, object] = {"method": method, "percent": percent, "shared": start / total}
            rows.setdefault(filters.numpy().tobytes(), row)
    return pd.DataFrame(list(rows.values()))


def of_run(folder: Path) -> pd.DataFrame:
    """Compute `shared` of the masked networks of a finished run."""
    run = open_run(folder)
    before, total = operations_before(run.network.eval(), torch.zeros(1, 3, LR_SIDE, LR_SIDE))
    return shared(run.attribution, run.files.config["analysis"]["percents"], before, total)


if __name__ == "__main__":
    found = of_run(Path(sys.argv[1]))
    print(found.pivot_table("shared", "method", "percent", sort=False).to_string(float_format="{:.3f}".format))
    mean = found["shared"].mean()
    print(f"{len(found)} networks share {mean:.4f} of their operations: at most {1 / (1 - mean):.3f} times as fast")
