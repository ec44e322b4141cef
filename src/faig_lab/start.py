"""The entry of the command line. An interruption during the imports, which take a second, ends quietly."""

import sys
from importlib import import_module


def main() -> int:
    """Import the command line, run it on the arguments of the process, and return the exit code."""
    try:
        command_line = import_module("faig_lab.__main__")
    except KeyboardInterrupt:
        print("interrupted; no work was started; repeat the command", file=sys.stderr)
        return 130
    code: int = command_line.main()
    return code
