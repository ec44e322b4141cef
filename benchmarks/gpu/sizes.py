"""How large everything is on a GPU, and for a look whether it runs; in part as in `benchmarks.plan`."""

import math
from dataclasses import dataclass

from benchmarks.plan import FULL as PLAN
from benchmarks.plan import TINY
from faig_lab.attribution import CompileMode


@dataclass(frozen=True)
class Sizes:
    """Sizes of images are LR pixels.

    Attributes:
        network: settings of the network.
        image: height and width of what is attributed.
        points: of its path.
        tiled: side of the image that is cut into tiles.
        memory: attribution.memory for it, in GB.
        compiled: modes of torch.compile that are checked.
        timed_compiled: those that are timed.
        iterations: of baseline and target in the runs of the command line.
        checkpoint: steps between their checkpoints.
        run_network: settings of their network.
        workers: processes that cut patches.
        product: side of the matrices that are multiplied.
        patch: HR pixels of a training patch.
        batch: patches.
        steps: training steps that are timed.
        plain_steps: of the plain loop.
        warm_up: steps before them.
        pair: steps of baseline and target of the networks whose attribution is timed.
        timed_image: height and width of what they are attributed on.
        reference: midpoints of the reference.
        authors: points of the published algorithm.
        timed_points: of these, so many are timed.
        tried: points of Gauss–Legendre.
        repeats: of a timing.
        memory_images: sides of the images whose memory is measured.
        study: settings of the study beside its own; none for the study itself.
        study_seconds: that its iterations are chosen for, at most.
    """

    network: tuple[str, ...] = PLAN.network
    image: tuple[int, int] = (64, 60)
    points: int = 8
    tiled: int = 192
    memory: float = 0.4
    compiled: tuple[CompileMode, ...] = ("reduce-overhead",)
    timed_compiled: tuple[CompileMode, ...] = ("reduce-overhead",)
    iterations: tuple[int, int] = (300, 100)
    checkpoint: int = 25
    run_network: tuple[str, ...] = PLAN.small
    workers: int = 4
    product: int = 8192
    patch: int = PLAN.patch
    batch: int = PLAN.batch
    steps: int = 200
    plain_steps: int = 15
    warm_up: int = 20
    pair: int = 300
    timed_image: tuple[int, int] = (78, 66)
    reference: int = 200
    authors: int = PLAN.plain_points
    timed_points: int = 10
    tried: tuple[int, ...] = (4, 6, 8, 12, 16)
    repeats: int = 5
    memory_images: tuple[int, ...] = (64, 128, 256)
    study: tuple[str, ...] = ()
    study_seconds: float = math.inf


FULL = Sizes()

QUICK = Sizes(
    network=TINY.network,
    image=(14, 12),
    points=3,
    tiled=80,
    memory=0.001,
    timed_compiled=(),
    iterations=(40, 12),
    checkpoint=5,
    run_network=TINY.small,
    workers=2,
    product=128,
    patch=TINY.patch,
    batch=TINY.batch,
    steps=8,
    plain_steps=2,
    warm_up=2,
    pair=8,
    timed_image=(12, 10),
    reference=24,
    authors=12,
    timed_points=2,
    tried=(2, 4),
    repeats=1,
    memory_images=(16, 32),
    study_seconds=2.0,
    study=(
        *TINY.network,
        f"training.batch_size={TINY.batch}",
        "training.patch_size=32",
        "data.probe_crop=32",
        "data.probe_crops=1",
        "data.test_crop=32",
        "data.test_crops=1",
        "attribution.points=3",
        "attribution.methods.random.draws=2",
        "analysis.studies.masking.resamples=20",
        "analysis.percents=[1,10]",
    ),
)
