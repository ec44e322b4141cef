"""Files that hold several states of one network, in order: the inner states of a path in weight space."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from faig_lab.archives import read_tensors, reason
from faig_lab.errors import UserError
from faig_lab.files import write_tensors
from faig_lab.networks.tied import State


def write_states(path: Path, states: Sequence[State]) -> None:
    """Write states to a file, atomically; `<number>/<name>` is the key of a tensor."""
    write_tensors(path, {f"{k}/{name}": value.cpu() for k, state in enumerate(states) for name, value in state.items()})


def read_states(path: Path, key: str) -> tuple[dict[str, Tensor], ...]:
    """Read what `write_states` wrote; nothing in the file is executed.

    Args:
        path: the file.
        key: the setting that an error names.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        content = read_tensors(path)
        states: dict[int, dict[str, Tensor]] = {}
        for place, value in content.items():
            number, name = place.split("/", 1)
            states.setdefault(int(number), {})[name] = value
        return tuple(states[k] for k in range(len(states)))
    except Exception as error:  # reading arbitrary bytes as a pickle, torch raises almost anything
        raise UserError(f"{key}: {path} cannot be read as states of a network ({reason(error)})") from error
