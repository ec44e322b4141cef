"""Command-line arguments: forms that Hydra tells apart and a user should not have to."""

import re
from collections.abc import Sequence

# `experiment` has its (empty) place in the defaults list, where Hydra refuses a `+`.
_EXPERIMENT = re.compile(r"^\+{1,2}(?=experiment=)")
# Here the names are the user's own, where Hydra insists on a `+`.
_OWN_NAMES = re.compile(r"^\+{0,2}(?=(data\.(test_)?lr_dirs|export\.strengths)(\.\w+)?=)")


def normalise(arguments: Sequence[str]) -> list[str]:
    """Rewrite `+experiment=x` to `experiment=x` and `data.lr_dirs.blur=x` to `++data.lr_dirs.blur=x`."""
    return [_OWN_NAMES.sub("++", _EXPERIMENT.sub("", argument)) for argument in arguments]
