"""Further sections of the report, in the order in which they are shown."""

from faig_lab.reporting.sections.section import Section, Table

SECTIONS: tuple[Section, ...] = ()
"""One per analysis; a section is shown when its table is in the run folder."""

__all__ = ["SECTIONS", "Section", "Table"]
