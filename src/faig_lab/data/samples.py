"""Decoded samples to RGB: 16-bit files, alpha and orientation."""

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

Pixels = NDArray[np.uint8 | np.uint16]


class UnsupportedError(Exception):
    """A sound file of a kind that is not read."""


def png_16(data: bytes, transparent: int | tuple[int, ...] | None) -> Pixels:
    """A 16-bit PNG; `transparent` is the colour that stands for full transparency, if there is one."""
    samples = np.atleast_3d(imagecodecs.png_decode(data))
    colour = samples[..., :3] if samples.shape[2] >= 3 else samples[..., :1].repeat(3, axis=2)
    if samples.shape[2] in (2, 4):
        return on_white(colour, samples[..., -1:])
    if transparent is not None:
        seen = (colour != np.array(transparent, dtype=np.uint16)).any(axis=2, keepdims=True)
        return np.where(seen, colour, np.uint16(65535))
    return colour


def tiff_bits(page: tifffile.TiffPage) -> int:
    """Bits per sample, 1 to 16; anything that cannot be brought to 8 or 16 without guessing is refused."""
    bits, dtype = page.bitspersample, page.dtype
    if dtype is None or dtype.kind not in "ub" or bits not in (1, 2, 4, 8, 16):
        raise UnsupportedError(f"{bits}-bit pixels of type {dtype} are not supported")
    return bits


def tiff_16(page: tifffile.TiffPage) -> Pixels:
    """A 16-bit grey or RGB TIFF page, with or without alpha."""
    kind = tifffile.PHOTOMETRIC
    expected = {kind.MINISBLACK: 1, kind.MINISWHITE: 1, kind.RGB: 3}
    channels = expected.get(kind(page.photometric))
    if channels is None:
        raise UnsupportedError(f"16-bit pixels of kind {kind(page.photometric).name} are not supported")
    samples = page.asarray()
    samples = np.moveaxis(samples, 0, 2) if page.axes == "SYX" else np.atleast_3d(samples)
    if samples.ndim != 3 or samples.shape[2] < channels:
        raise UnsupportedError(f"an array of axes {page.axes} is not a photograph")
    colour = samples[..., :channels].repeat(3 // channels, axis=2)
    colour = ~colour if page.photometric == kind.MINISWHITE else colour
    if not page.extrasamples or page.extrasamples[0] == tifffile.EXTRASAMPLE.UNSPECIFIED:
        return colour
    associated = page.extrasamples[0] == tifffile.EXTRASAMPLE.ASSOCALPHA
    return on_white(colour, samples[..., channels : channels + 1], associated)


def on_white(colour: Pixels, alpha: Pixels, associated: bool = False) -> Pixels:
    """Composite (H, W, 3) with (H, W, 1) alpha on white; `associated`: colour holds colour × alpha."""
    largest = int(np.iinfo(colour.dtype).max)
    wide_colour, wide_alpha = colour.astype(np.uint64), alpha.astype(np.uint64)
    weighted = wide_colour * (largest if associated else wide_alpha)
    composited = (weighted + largest * (largest - wide_alpha) + largest // 2) // largest
    flattened: Pixels = np.minimum(composited, largest).astype(colour.dtype)
    return flattened


def oriented(pixels: Pixels, orientation: int) -> Pixels:
    """Apply the EXIF orientation 1 … 8; other values mean nothing and are ignored."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
