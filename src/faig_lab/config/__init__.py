"""The configuration: where it lies, its schema, and what is checked before anything starts."""

from faig_lab.config.check import check
from faig_lab.config.messages import FOLDER
from faig_lab.config.settings import Settings

__all__ = ["FOLDER", "Settings", "check"]
