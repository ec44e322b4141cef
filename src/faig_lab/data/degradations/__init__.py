"""Degradations: the steps from HR to LR (method.md §2).

HR patch with a margin ─ parts of domain "hr" ─► downsample ─► parts of domain "lr" ─► 8 bits.
Blurs and resizing are of domain "hr" and noises and JPEG of domain "lr" unless a configuration says otherwise.
Every step works on a batch on the batch's device. Randomness comes from one NumPy generator per sample, so a degraded
sample is the same in any batch and for any number of workers or ranks. A severity is a number, or a range [low, high]
from which each sample draws its value.
"""
