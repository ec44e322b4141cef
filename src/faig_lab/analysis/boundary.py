"""The boundary of restoration: each degradation's severity swept below and beyond what the target was trained on.

The severity of a part is its first parameter (sigma, length, peak, quality). Held-out images are degraded anew from
their ground truth, with the noise that the study's own inputs have. They carry no margin, so their border is
reflected: pixels nearer to it than the degradation's margin differ from those of the study's inputs.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Annotated, Any, get_args, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from faig_lab.analysis.intervals import scene_interval
from faig_lab.analysis.interventions import mask
from faig_lab.analysis.masking import TableRow
from faig_lab.analysis.subject import Findings, Subject
from faig_lab.attribution import discovered
from faig_lab.data import CLEAN, Degradation, PairedImage, Part, sample_rng
from faig_lab.data.evaluation import EVALUATION_SEED
from faig_lab.networks import State
from faig_lab.training import as_image, bicubic

log = logging.getLogger(__name__)

FACTORS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
NETWORKS = ("bicubic", "baseline", "target", "masked")
SMALLEST_GAIN = 0.2
"""dB; of a smaller gain no share is given, since that would divide by next to nothing."""


def boundary(
    subject: Subject, factors: Annotated[Sequence[Annotated[float, Field(gt=0)]], Field(min_length=1)] = FACTORS
) -> Findings:
    """Judge baseline, target and the target without its discovered filters at severities around the trained one.

    Args:
        subject: what is analysed; masked are the degradation's own filters, at the headline percent of its method.
        factors: times the trained severity; of a trained range, its low end for factors below 1, its high end for
            those above, and both ends and the middle for 1.

    Returns:
        Table `boundary`: method, percent, degradation, parameter, severity, in_training (1 within the trained range),
        network, psnr (mean over held-out images). Table `boundary_gain`: the target's gain over the baseline in dB
        and the share of it that masking removes, with intervals over photographs. Metrics
        `boundary/gain/<D>/<severity>` and `boundary/share/<D>/<severity>`. Nothing, where no degradation of the
        data has a severity that is known.
    """
    swept = list(_sweep(subject, factors))
    if not swept:
        log.warning("boundary: no degradation of this run has a severity that can be swept")
    psnrs: list[TableRow] = []
    gains: list[TableRow] = []
    with subject.bar("boundary", len(swept)) as advance:
        for what, name, part in swept:
            images = degrade_anew(subject.data.held_out, replace(subject.degradation, parts={name: part}), name)
            values = _psnrs(subject, images, name)
            psnrs += [what | {"network": n, "psnr": float(values[:, i].mean())} for i, n in enumerate(NETWORKS)]
            gains.append(what | _gain(values, subject.judge.scenes, subject.problem.seed))
            advance(f"{name}, {what['parameter']} = {what['severity']}")
    tables = {"boundary": psnrs, "boundary_gain": gains} if swept else {}
    return Findings(tables, _metrics(gains))


def severities(part: Part, factors: Sequence[float]) -> dict[float, Part]:
    """The part at several severities: value of its first parameter → the part with it; ascending.

    A value that the part does not take (an even length, a quality above 100) becomes the whole number after it, or
    is left out. A kernel grows with a severity beyond training, so that it is cut off at the same multiple of it.
    """
    if not is_dataclass(part):
        return {}
    parameter = fields(part)[0].name
    trained = getattr(part, parameter)
    try:
        low, high = (trained, trained) if isinstance(trained, int | float) else trained
        wanted = {v for f in factors for v in ([low, high] if f == 1 else [_short((low if f < 1 else high) * f)])}
    except (TypeError, ValueError):
        return {}
    if 1 in factors and low < high:
        wanted.add((low + high) / 2)
    taken = get_type_hints(type(part))[parameter]
    whole = float not in (taken, *get_args(taken))
    found = (_at(part, parameter, value, high, whole) for value in sorted(wanted))
    return dict(pair for pair in found if pair is not None)


def degrade_anew(images: Sequence[PairedImage], degradation: Degradation, name: str) -> list[PairedImage]:
    """The images with another input `name`, made from their ground truth with a reflected border.

    Args:
        images: paired images.
        degradation: all of its parts are applied.
        name: of the input; it chooses the noise, which is that of the study's own input of this name.
    """
    parts, margin = frozenset(degradation.parts), degradation.margin
    anew = []
    for image in images:
        # NumPy's padding, since torch's reflects no further than the image is wide.
        padded = torch.from_numpy(np.pad(image.hr.numpy(), ((0, 0), (margin, margin), (margin, margin)), "reflect"))
        rng = sample_rng(EVALUATION_SEED, f"evaluation/{image.name}/{name}")
        lr = degradation.apply(padded[None], [parts], [rng])[0]
        anew.append(replace(image, lr={CLEAN: image.lr[CLEAN], name: lr}))
    return anew


def _sweep(subject: Subject, factors: Sequence[float]) -> Iterator[tuple[TableRow, str, Part]]:
    """Every degradation at every severity: what the tables say of it, its name, the part."""
    for name in subject.attribution.degradations:
        part: Any = subject.degradation.parts.get(name)
        for value, changed in severities(part, factors).items() if part is not None else ():
            parameter = fields(part)[0].name
            trained = getattr(part, parameter)
            ends = (trained, trained) if isinstance(trained, int | float) else trained
            what: TableRow = {"method": subject.method, "percent": subject.headline, "degradation": name}
            inside = int(ends[0] <= value <= ends[1])
            yield what | {"parameter": parameter, "severity": float(value), "in_training": inside}, name, changed


def _short(value: float) -> float:
    """Six digits: 3 · 0.1 is to be 0.3 in tables and keys."""
    return float(f"{value:.6g}")


def _at(part: Any, parameter: str, value: float, trained: float, whole: bool) -> tuple[float, Part] | None:
    """The part with this value, or the nearest one that it takes; None where there is none."""
    kernel = getattr(part, "kernel_size", None)
    for candidate in (round(value), round(value) + 1) if whole else (float(value),):
        changes: dict[str, Any] = {parameter: candidate}
        if isinstance(kernel, int) and parameter != "kernel_size" and candidate > trained:
            changes["kernel_size"] = 2 * round(kernel // 2 * candidate / trained) + 1
        if _accepts(part, changes):
            return candidate, replace(part, **changes)
    return None


def _accepts(part: Any, changes: Mapping[str, Any]) -> bool:
    try:
        replace(part, **changes)
    except (TypeError, ValueError):
        return False
    return True


def _psnrs(subject: Subject, images: Sequence[PairedImage], name: str) -> NDArray[np.float64]:
    """(images, NETWORKS) dB."""
    judge = replace(subject.judge, images=tuple(images))
    row = subject.attribution.degradations.index(name)
    own = discovered(subject.attribution.scores[subject.method][0][row], subject.headline)
    masked = mask(subject.target, subject.baseline, subject.attribution.layout, own)
    states: dict[str, State] = {"baseline": subject.baseline, "target": subject.target, "masked": masked}
    outputs: dict[str, list[Tensor]] = {n: judge.outputs(state, name) for n, state in states.items()}
    outputs["bicubic"] = [as_image(bicubic(image.lr[name][None], judge.scale)[0]) for image in images]
    return np.stack([judge.psnrs(outputs[network]).double().numpy() for network in NETWORKS], axis=1)


def _gain(psnrs: NDArray[np.float64], scenes: Sequence[str], seed: int) -> TableRow:
    """Gain and share of (images, NETWORKS), with intervals; None where the gain is too small for a share."""
    gain, share = gain_and_share(psnrs.mean(0)[None])[0]
    low, high, kind = scene_interval(psnrs, scenes, gain_and_share, seed=seed)
    numbers = {
        "gain": gain, "gain_low": low[0], "gain_high": high[0],
        "share": share, "share_low": low[1], "share_high": high[1],
    }  # fmt: skip
    row: TableRow = {key: None if np.isnan(value) else float(value) for key, value in numbers.items()}
    return row | {"interval": kind}


def gain_and_share(psnrs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over images (B, NETWORKS) → (B, 2): the target's gain in dB, and the share of it that masking removes.

    The share is NaN where the gain is below `SMALLEST_GAIN`.
    """
    _, baseline, target, masked = np.moveaxis(psnrs, -1, 0)
    gain = target - baseline
    enough = gain >= SMALLEST_GAIN
    share = np.where(enough, (target - masked) / np.where(enough, gain, 1.0), np.nan)
    return np.stack([gain, share], axis=-1)


def _metrics(gains: Sequence[TableRow]) -> dict[str, float | None]:
    return {
        f"boundary/{key}/{row['degradation']}/{float(str(row['severity'])):g}": None
        if row[key] is None
        else float(str(row[key]))
        for row in gains
        for key in ("gain", "share")
    }
