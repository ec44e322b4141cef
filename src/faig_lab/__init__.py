"""faig_lab: which filters of a blind super-resolution network remove which degradation (FAIG)."""

__version__ = "0.1.0"
