"""What the predictor of a two-branch network says of held-out crops, and how often it is right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from faig_lab.analysis.bootstrap import Floats
from faig_lab.analysis.crops import cut_crops
from faig_lab.analysis.intervals import SceneInterval, scene_interval
from faig_lab.analysis.masking import TableRow
from faig_lab.data import PairedImage
from faig_lab.networks import State, first_floating
from faig_lab.networks.predicting import Predicting

EVERYTHING = "everything"
"""All degradations of an input named rightly, none too many."""


@dataclass(frozen=True)
class Answer:
    """What was said of one crop with one input.

    Attributes:
        scene: what the crop shows a part of; crops of one scene are not independent.
        input: e.g. "clean", "blur" or "blur+noise".
        suffered: degradation → whether the input suffers it.
        seen: degradation → whether the predictor says so.
    """

    scene: str
    input: str
    suffered: Mapping[str, bool]
    seen: Mapping[str, bool]


class _Logits(nn.Module):
    """The logits of a network, as a module whose weights can be replaced by a call."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: Tensor) -> Tensor:
        assert isinstance(self.network, Predicting)
        return self.network.predict(lr.clone())[1]  # some networks write into their input


@torch.no_grad()
def answers(
    network: nn.Module, state: State, images: Sequence[PairedImage], degradations: Sequence[str], crop: int
) -> list[Answer]:
    """Let a network name the degradations of every input of crops; nothing from a network that predicts none.

    Args:
        network: its logits stand for `degradations`, in their order.
        state: its weights, on the device to compute on.
        images: where crops are cut from.
        degradations: the names.
        crop: side in HR pixels; a smaller image is used whole.
    """
    if not isinstance(network, Predicting):
        return []
    like, module = first_floating(state.values()), _Logits(network)
    weights = {f"network.{name}": value for name, value in state.items()}
    scenes = {image.name: image.scene or image.name for image in images}
    found = []
    for piece in cut_crops(images, crop, overlapping=False):
        for name, lr in piece.inputs.items():
            logits = functional_call(module, weights, (lr[None].to(like),))[0]
            parts = name.split("+")
            suffered = {degradation: degradation in parts for degradation in degradations}
            seen = dict(zip(degradations, (logits > 0).tolist(), strict=True))
            found.append(Answer(scenes[piece.image], name, suffered, seen))
    return found


def accuracy_rows(found: Sequence[Answer], seed: int, resamples: int) -> list[TableRow]:
    """Balanced accuracy per degradation and for everything at once, with intervals over photographs.

    Returns:
        Rows of predicted (a degradation, or EVERYTHING), value, low, high, interval, inputs. A degradation's value is
        the mean of how often it is seen where it is and not seen where it is not; that of EVERYTHING the mean over the
        inputs of how often all is right.
    """
    rows = []
    for name in (*found[0].suffered, EVERYTHING) if found else ():
        if name == EVERYTHING:
            classes = [answer.input for answer in found]
            right = [answer.seen == answer.suffered for answer in found]
        else:
            classes = [str(answer.suffered[name]) for answer in found]
            right = [answer.seen[name] == answer.suffered[name] for answer in found]
        rows.append({"predicted": name} | _accuracy(found, classes, right, seed, resamples))
    return rows


def _accuracy(
    found: Sequence[Answer], classes: Sequence[str], right: Sequence[bool], seed: int, resamples: int
) -> TableRow:
    """The mean over the classes of the share that is right."""
    names = list(dict.fromkeys(classes))
    hits = np.zeros((len(found), len(names), 2))
    for place, (kind, correct) in enumerate(zip(classes, right, strict=True)):
        hits[place, names.index(kind)] = correct, 1

    def balanced(shares: Floats) -> Floats:
        correct, asked = np.moveaxis(shares, -1, 0)
        return np.asarray((correct / asked).mean(axis=-1))

    scenes = [answer.scene for answer in found]
    interval = scene_interval(hits, scenes, balanced, seed=seed, number=resamples)
    low, high = ends(interval)
    return {
        "value": float(balanced(hits.mean(0))),
        "low": low,
        "high": high,
        "interval": interval.kind,
        "inputs": len(found),
    }


def ends(found: SceneInterval) -> tuple[float | None, float | None]:
    """Low and high end of an interval of one number; None where there is none."""
    low, high = float(found.low), float(found.high)
    return None if np.isnan(low) else low, None if np.isnan(high) else high
