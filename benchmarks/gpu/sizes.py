"""How large everything is on a GPU, and for a look whether it runs; in part as in `benchmarks.plan`."""

import math
from dataclasses import dataclass

from benchmarks.plan import FULL as PLAN
from benchmarks.plan import TINY
from faig_lab.attribution import CompileMode


@dataclass(frozen=True)
class Sizes:
    """Sizes of images are LR pixels."""

    # Part correct.
    network: tuple[str, ...] = PLAN.network  # settings of the network
    image: tuple[int, int] = (64, 60)  # height and width of what is attributed
    points: int = 8  # of its path
    tiled: int = 192  # side of the image that is cut into tiles
    memory: float = 0.4  # attribution.memory for it, in GB
    compiled: tuple[CompileMode, ...] = ("reduce-overhead",)  # modes of torch.compile that are checked
    workers: int = 4  # processes that cut patches
    # Part runs.
    iterations: tuple[int, int] = (300, 100)  # of baseline and target
    checkpoint: int = 25  # steps between their checkpoints
    run_network: tuple[str, ...] = PLAN.small  # settings of their network
    # Part speed.
    product: int = 8192  # side of the matrices that are multiplied
    patch: int = PLAN.patch  # HR pixels of a training patch
    batch: int = PLAN.batch  # patches
    steps: int = 200  # training steps that are timed
    plain_steps: int = 15  # of the plain loop
    warm_up: int = 20  # steps before them
    pair: int = 300  # steps of baseline and target of the networks whose attribution is timed
    timed_image: tuple[int, int] = PLAN.image  # height and width of what they are attributed on
    reference: int = 200  # midpoints of the reference
    authors: int = PLAN.plain_points  # points of the published algorithm
    timed_points: int = 10  # of these, so many are timed
    tried: tuple[int, ...] = (4, 6, 8, 12, 16)  # points of Gauss–Legendre
    repeats: int = 5  # of a timing
    memory_images: tuple[int, ...] = (64, 128, 256)  # sides of the images whose memory is measured
    timed_compiled: tuple[CompileMode, ...] = ("reduce-overhead",)  # modes of torch.compile that are timed
    # Part study.
    study: tuple[str, ...] = ()  # settings of the study beside its own; none for the study itself
    study_seconds: float = math.inf  # that its iterations are chosen for, at most


FULL = Sizes()

QUICK = Sizes(
    network=TINY.network,
    image=(14, 12),
    points=3,
    tiled=TINY.tiled_image,
    memory=TINY.tiled_memory,
    workers=2,
    iterations=(40, 12),
    checkpoint=5,
    run_network=TINY.small,
    product=128,
    patch=TINY.patch,
    batch=TINY.batch,
    steps=8,
    plain_steps=2,
    warm_up=2,
    pair=8,
    timed_image=TINY.image,
    reference=24,
    authors=12,
    timed_points=2,
    tried=(2, 4),
    repeats=1,
    memory_images=TINY.memory_images,
    timed_compiled=(),
    study=(
        *(*TINY.network, f"training.batch_size={TINY.batch}", "training.patch_size=32"),
        *("data.probe_crop=32", "data.probe_crops=1", "data.test_crop=32", "data.test_crops=1"),
        *("attribution.points=3", "attribution.methods.random.draws=2"),
        *("analysis.studies.masking.resamples=20", "analysis.percents=[1,10]"),
    ),
    study_seconds=2.0,
)
