"""What a network with a degradation predictor offers beside its output."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Predicting(Protocol):
    """A network that also predicts what its input suffered, and learns that by a loss of its own."""

    def predict(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """LR (N, 3, H, W) → SR (N, 3, sH, sW) and logits (N, K)."""

    def prediction_loss(self, logits: Tensor, suffered: Sequence[frozenset[str]]) -> Tensor:
        """What is added to the loss of the restoration, from logits and what each sample suffered."""
