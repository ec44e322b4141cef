"""The upscaling factors that the networks support."""

SCALES = (2, 3, 4)


def check_scale(scale: int) -> None:
    """Raise ValueError for a factor other than 2, 3 and 4."""
    if scale not in SCALES:
        raise ValueError(f"scale must be 2, 3 or 4, not {scale}")


def upsampling_factors(scale: int) -> tuple[int, ...]:
    """The pixel-shuffle stages of a factor: ×4 is two stages of ×2."""
    return (2, 2) if scale == 4 else (scale,)
