"""The removed share of a function: plain floats, so that tables and pages can use it without torch."""


def removed_share(target: float, masked: float, baseline: float) -> float | None:
    """R = (PSNR(target) − PSNR(masked)) / (PSNR(target) − PSNR(baseline)); 0 = untouched, 1 = removed.

    Returns:
        The share; None where target and baseline restore equally well, so that there is nothing to remove.
    """
    gain = target - baseline
    return (target - masked) / gain if abs(gain) > 1e-6 else None


def clipped(share: float | None) -> float | None:
    """Clip a removed share to [0, 1], as every mean takes it; None where the share is not defined."""
    return None if share is None else min(max(share, 0.0), 1.0)
