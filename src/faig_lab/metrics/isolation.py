"""Isolation: how close a masked network is to the ideal edit (method.md §9).

The ideal edit gives the baseline's output on the masked degradation D, and the target's output on every other input.
All formulas need only three sums over pixels and channels for each input, with the outputs y_b of the baseline, y_t of
the target and y_m of the masked network clipped to [0, 1]:

    energy = Σ ‖y_t − y_b‖²        along = Σ ⟨y_m − y_t, y_b − y_t⟩        moved = Σ ‖y_m − y_t‖²

The sums add up over images, so the numbers of any set of images come from the sums of the images. The functions accept
NumPy arrays and tensors alike, and tensors keep their gradients.
"""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Numbers = TypeVar("Numbers", Tensor, NDArray[np.float64])


class EditSums(NamedTuple, Generic[Numbers]):
    """The three sums of one input, for one image or for any number of images added up.

    Attributes:
        energy: Σ ‖y_t − y_b‖², the energy of the difference between target and baseline.
        along: Σ ⟨y_m − y_t, y_b − y_t⟩, the movement in the direction of the baseline.
        moved: Σ ‖y_m − y_t‖², the whole movement.
    """

    energy: Numbers
    along: Numbers
    moved: Numbers


def edit_sums(masked: Tensor, baseline: Tensor, target: Tensor) -> EditSums[Tensor]:
    """Compute the three sums of one input for each image.

    Args:
        masked: (N, C, H, W) output of the masked network, not clipped.
        baseline: output of the baseline, the same shape.
        target: output of the target, the same shape.

    Returns:
        (N,) float64 for each sum.
    """
    y_m, y_b, y_t = (output.clamp(0, 1).double().flatten(1) for output in (masked, baseline, target))
    edit, ideal = y_m - y_t, y_b - y_t
    return EditSums(ideal.square().sum(1), (edit * ideal).sum(1), edit.square().sum(1))


def back(sums: EditSums[Numbers]) -> Numbers:
    """Compute how far the output moved back to the baseline: 0 is the target's output, 1 is the baseline's."""
    return sums.along / sums.energy


def off(sums: EditSums[Numbers]) -> Numbers:
    """Compute the movement orthogonal to target − baseline, ≥ 0: squared, in units of the input's own energy."""
    return (sums.moved - sums.along * sums.along / sums.energy) / sums.energy


def side(other: EditSums[Numbers], own: EditSums[Numbers]) -> Numbers:
    """Compute the movement on an input that should not change, in units of the energy of the masked degradation."""
    return other.moved / own.energy


def isolation(
    own: EditSums[Numbers], others: Sequence[EditSums[Numbers]], clean: EditSums[Numbers] | None = None
) -> Numbers:
    """Compute 1 − [Σ ‖y_m − y_b‖² / E_D + mean side effect on the other degradations + side effect on clean input].

    The unchanged target gives exactly 0, the ideal edit exactly 1, and a broken network a negative number.

    Args:
        own: sums on the masked degradation D; its energy must not be 0.
        others: sums on each of the other degradations; their side effects are averaged.
        clean: sums on clean input; None if there is no clean input.
    """
    # Σ ‖y_m − y_b‖² = moved − 2 along + energy: with this form an unchanged network gives 0 to the last bit.
    result = (2 * own.along - own.moved) / own.energy
    if others:
        result = result - sum(side(other, own) for other in others) / len(others)
    return result if clean is None else result - side(clean, own)
