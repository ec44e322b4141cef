"""Figures and pictures, made from the tables of a run folder."""
