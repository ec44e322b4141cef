"""faig_lab: which filters of a blind super-resolution network remove which degradation (FAIG).

The names below are the library; `faig_lab.api` documents them. They are imported when they are first used, so that
`import faig_lab` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "AbsoluteError",
    "Adaptive",
    "Charbonnier",
    "FilterLayout",
    "Isolation",
    "Problem",
    "Result",
    "Run",
    "SRCNNStyle",
    "SRResNet",
    "Scores",
    "SquaredError",
    "UserError",
    "__version__",
    "attribute",
    "load_weights",
    "mask",
    "methods",
    "modulate",
    "open_run",
    "psnr",
    "quadrature",
    "removed_share",
    "save_weights",
    "spandrel_network",
]

if TYPE_CHECKING:
    from faig_lab.api import (
        AbsoluteError,
        Adaptive,
        Charbonnier,
        FilterLayout,
        Isolation,
        Problem,
        Result,
        Run,
        Scores,
        SquaredError,
        SRCNNStyle,
        SRResNet,
        UserError,
        attribute,
        load_weights,
        mask,
        methods,
        modulate,
        open_run,
        psnr,
        quadrature,
        removed_share,
        save_weights,
        spandrel_network,
    )
else:  # a type checker would take any name for one that this function knows

    def __getattr__(name: str) -> object:
        """Import a name of the library (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.api"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """Return all names of the module, imported or not."""
        return sorted({*globals(), *__all__})
