"""Further sections of the report, in the order in which they are shown."""

from faig_lab.reporting.sections import (
    boundary,
    branches,
    curves,
    modulation,
    patches,
    path,
    planted,
    prediction,
    retraining,
    sanity,
    stability,
)
from faig_lab.reporting.sections.section import Section, Strips, Table

SECTIONS: tuple[Section, ...] = (
    modulation.SECTION,
    patches.SECTION,
    retraining.SECTION,
    prediction.SECTION,
    boundary.SECTION,
    branches.SECTION,
    curves.SECTION,
    planted.SECTION,
    sanity.SECTION,
    stability.SECTION,
    path.SECTION,
)
"""One per analysis; a section is shown when its table is in the run folder.

First what the filters do and can be used for, then whether the rankings can be trusted.
"""

__all__ = ["SECTIONS", "Section", "Strips", "Table"]
