"""What the networks restore before anything is masked."""

from faig_lab.analysis.judge import Judge
from faig_lab.analysis.masking import TableRow
from faig_lab.training import bicubic, quality


def restoration(judge: Judge) -> list[TableRow]:
    """Quality of bicubic upscaling, baseline and target on every held-out image with every input."""
    rows: list[TableRow] = []
    for degradation in judge.images[0].lr:
        ends = judge.ends(degradation)
        outputs = {
            "bicubic": [bicubic(image.lr[degradation][None], judge.scale)[0] for image in judge.images],
            "baseline": ends.baseline_outputs,
            "target": ends.target_outputs,
        }
        for name, results in outputs.items():
            for image, output in zip(judge.images, results, strict=True):
                values = quality(output[None], image.hr[None], judge.scale)
                row = {"network": name, "degradation": degradation, "image": image.name}
                rows.append(row | {metric: float(value) for metric, value in values.items()})
    return rows
