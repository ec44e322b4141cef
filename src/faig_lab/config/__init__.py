"""The configuration: where it lives, how it is composed, and what is checked before anything starts."""

from faig_lab.config.check import check
from faig_lab.config.composition import FOLDER, compose
from faig_lab.config.settings import Settings

__all__ = ["FOLDER", "Settings", "check", "compose"]
