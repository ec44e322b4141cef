"""The version of the numbers that a training gives: part of the key of every trained network in the store."""

NUMERICS_VERSION = 1
"""Raise this number by one if a change of the code makes a training with the same settings give other weights.

tests/training/test_numerics.py trains a few steps and compares them with recorded numbers. While that test passes, the
number stays, whatever was moved or renamed: every trained network and every unfinished training is found again.
When the test fails, either the change is a mistake, or the number is raised and the recorded numbers are made anew.
Another reason to raise it: a checkpoint of an unfinished training can no longer be read (a renamed callback).
"""
