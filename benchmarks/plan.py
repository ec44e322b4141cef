"""How much is measured: everything, a quick look, or a test."""

from dataclasses import dataclass, replace

FULL_NETWORK = ("network=srresnet",)
SMALL_NETWORK = ("network=srresnet_small",)
TINY_NETWORK = (*SMALL_NETWORK, "network.features=4", "network.blocks=1")


@dataclass(frozen=True)
class Plan:
    """Sizes and repeats of every part. Sizes are LR pixels, unless they are called patches."""

    network: tuple[str, ...] = FULL_NETWORK  # settings of the network that most is measured on: the paper's
    small: tuple[str, ...] = SMALL_NETWORK  # settings of the small default network
    # Part a.
    iterations: int = 300  # training steps of baseline and of target of the pair that is attributed
    image: tuple[int, int] = (78, 66)  # height and width
    reference: int = 400  # midpoints of the reference
    plain_points: int = 100  # of the published algorithm
    points: tuple[int, ...] = (4, 6, 8, 10, 12, 14, 16, 24)  # of the rules that are compared with it
    repeats: int = 3  # rounds
    # Part b.
    floor_image: int = 128  # side for the full network; half of it for the small one
    product: int = 2048  # side of the matrices whose product is timed
    floor_repeats: int = 15  # rounds
    # Part c.
    patch: int = 64  # HR pixels of a training patch
    batch: int = 16  # patches
    steps: int = 10  # training steps of a turn that count
    turns: int = 3
    large_photograph: tuple[int, int] = (1356, 2040)  # height and width of the larger photographs: those of DIV2K
    quality_steps: int = 1500  # of the small network, in each precision
    # Part d.
    memory_images: tuple[int, ...] = (64, 128, 192, 256, 384)  # sides
    memory_points: tuple[int, ...] = (1, 4, 16, 64)
    tiled_image: int = 192  # side of an image that is computed whole and in tiles
    tiled_memory: float = 0.25  # attribution.memory for it, in GB
    large_image: tuple[int, int] = (678, 1020)  # height and width of the image that only fits in tiles
    large_memory: float = 3.0  # attribution.memory for it, in GB
    # Part e.
    growth_image: int = 32  # side
    growth_widths: tuple[int, ...] = (16, 32, 64)  # features of the network
    growth_repeats: int = 5  # rounds
    # Part f.
    knob_images: tuple[int, ...] = (64,)  # sides
    knob_tiny_image: int = 16  # a side at which the small network does not fill the machine
    knob_repeats: int = 9  # rounds
    # Part g.
    study: tuple[str, ...] = ()  # settings of the study whose operations are counted


FULL = Plan()

QUICK = Plan(
    network=("network=srresnet", "network.features=32", "network.blocks=4"),
    iterations=20,
    image=(24, 20),
    reference=40,
    plain_points=20,
    points=(2, 4, 8),
    repeats=1,
    floor_image=32,
    product=512,
    floor_repeats=3,
    patch=32,
    batch=4,
    steps=3,
    turns=1,
    large_photograph=(678, 1020),
    quality_steps=20,
    memory_images=(32, 64, 128),
    memory_points=(1, 8),
    tiled_image=96,
    tiled_memory=0.02,
    large_image=(170, 256),
    large_memory=0.06,
    growth_image=16,
    growth_repeats=1,
    knob_images=(16,),
    knob_tiny_image=8,
    knob_repeats=1,
    study=("training.baseline.iterations=20", "training.target.iterations=20"),
)
"""Everything once, on a smaller network: does it run, and roughly what comes out?"""

TINY = replace(
    QUICK,
    network=TINY_NETWORK,
    small=TINY_NETWORK,
    iterations=4,
    image=(12, 10),
    reference=8,
    plain_points=4,
    points=(2, 4),
    floor_image=16,
    product=64,
    floor_repeats=1,
    patch=16,
    batch=2,
    steps=1,
    large_photograph=(520, 700),
    quality_steps=4,
    memory_images=(16, 32),
    memory_points=(1, 2),
    tiled_image=80,
    tiled_memory=0.001,
    large_image=(80, 96),
    large_memory=0.001,
    growth_image=8,
    growth_widths=(4, 8),
    study=(*TINY_NETWORK, "training.baseline.iterations=4", "training.target.iterations=4", "data.test_crop=32"),
)
"""What the tests run: as QUICK, where nothing else is given."""

PLANS = {"full": FULL, "quick": QUICK, "tiny": TINY}
