"""Further sections of the report, in the order in which they are shown."""

from faig_lab.reporting.sections import (
    boundary,
    branches,
    curves,
    modulation,
    patches,
    prediction,
    retraining,
    sanity,
    stability,
)
from faig_lab.reporting.sections.section import Section, Strips, Table

SECTIONS: tuple[Section, ...] = (
    curves.SECTION,
    sanity.SECTION,
    stability.SECTION,
    modulation.SECTION,
    patches.SECTION,
    prediction.SECTION,
    boundary.SECTION,
    retraining.SECTION,
    branches.SECTION,
)
"""One per analysis; a section is shown when its table is in the run folder."""

__all__ = ["SECTIONS", "Section", "Strips", "Table"]
