"""Images on disk: read to RGB at their own depth, listed by folder, written as PNG.

Pillow decodes what has 8 bits; 16-bit colour, which Pillow cuts to 8, goes through imagecodecs (PNG) and
tifffile (TIFF). Colour profiles are ignored, as in the field's benchmarks.
"""

import difflib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from faig_lab.archives import RATIO
from faig_lab.errors import UserError
from faig_lab.files import atomic_write

Pixels = NDArray[np.uint8 | np.uint16]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""What `list_images` takes for an image, in any case; the content decides how a file is read."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_EIGHT_BIT_MODES = ("1", "L", "P", "RGB", "RGBX", "RGBA", "LA", "PA", "CMYK", "YCbCr", "HSV")
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION = 0x0112
_LARGE = 1_000_000_000  # bytes of pixels that any file may decode to


class _UnsupportedError(Exception):
    """A sound file of a kind that is not read."""


def read_image(path: Path) -> Pixels:
    """Read an image file as RGB.

    PNG, JPEG, BMP, TIFF or WebP, recognised by content; grey is repeated over the channels, palettes are
    resolved, alpha is composited on white and the EXIF orientation is applied.

    Returns:
        (H, W, 3), uint8 or, for 16-bit files, uint16.

    Raises:
        UserError: the file is missing, damaged or of another kind, float, over 16 bits, or has many frames.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return decode_image(data, path)


def decode_image(data: bytes, path: Path) -> Pixels:
    """As `read_image`, for the bytes of a file already in memory; `path` is for the message."""
    if not data:
        raise UserError(f"{path}: the file is empty")
    try:
        with _quiet_decoders():
            return _decode(data)
    except _UnsupportedError as reason:
        raise UserError(f"{path}: {reason}; convert it to an 8- or 16-bit RGB PNG") from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: not a readable PNG, JPEG, BMP, TIFF or WebP image") from None
    except Exception as error:  # Decoders raise anything on damaged bytes.
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: damaged or incomplete image ({detail})") from error


def to_tensor(pixels: Pixels) -> Tensor:
    """Turn (H, W, 3) uint8 or uint16 into float32 (3, H, W) in [0, 1]."""
    largest = np.float32(np.iinfo(pixels.dtype).max)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / largest)


def list_images(folder: Path, key: str) -> list[Path]:
    """List the images directly in `folder`, sorted by name; hidden files and other extensions are left out.

    Raises:
        UserError: there is no such folder or no image in it; the message names `key`.
    """
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else f"no such folder; {_nearest_folder(folder)}"
        raise UserError(f"{key}: {folder}: {kind}")
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise UserError(f"{key}: {folder}: cannot be read ({error.strerror})") from error
    images = [path for path in entries if _is_image(path)]
    if not images:
        inner = next((path for path in entries if path.is_dir() and any(map(_is_image, path.iterdir()))), None)
        hint = f"; nearest: {inner}" if inner else ""
        raise UserError(f"{key}: {folder}: no image in this folder ({' '.join(EXTENSIONS)}){hint}")
    return images


def required_folder(folder: str | Path | None, key: str) -> Path:
    """The path of a folder that must have been given.

    Raises:
        UserError: it has not; the message names `key`.
    """
    if folder is None:
        raise UserError(f"{key}: no folder given; add {key}=path/to/images")
    return Path(folder).expanduser()


def write_png(path: Path, image: Tensor) -> None:
    """Write (3, H, W) in [0, 1] as an 8-bit PNG, atomically; values outside are clipped."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"expected (3, H, W), not {tuple(image.shape)}")
    levels = (image.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8)
    with atomic_write(path) as temporary:
        Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy()).save(temporary, format="PNG")


@contextmanager
def _quiet_decoders() -> Iterator[None]:
    """Drop what decoders warn of and log: odd metadata is harmless, and damage is followed by an error."""
    loggers = [logging.getLogger(name) for name in ("tifffile", "PIL.TiffImagePlugin")]
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _decode(data: bytes) -> Pixels:
    """The oriented RGB pixels of an image file."""
    if data.startswith(_TIFF_MAGIC):
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            _check_frames(len(tiff.pages))
            page = tiff.pages[0]
            assert isinstance(page, tifffile.TiffPage)
            if _tiff_bits(page) == 16:
                _check_declared(6 * page.imagewidth * page.imagelength, data)
                tag = page.tags.get(_ORIENTATION)
                return _oriented(_tiff_16(page), int(tag.value) if tag else 1)
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        # An MPO is a phone's JPEG with a preview or a second view after the photograph itself.
        _check_frames(1 if image.format == "MPO" else getattr(image, "n_frames", 1))
        is_16_bit_png = image.format == "PNG" and data[24] == 16
        _check_declared((6 if is_16_bit_png else 3) * image.width * image.height, data)
        pixels = _png_16(data, image.info.get("transparency")) if is_16_bit_png else _eight_bits(image)
        # After the decoding: where Pillow has applied the orientation itself, it has removed the tag.
        return _oriented(pixels, image.getexif().get(_ORIENTATION, 1))


def _eight_bits(image: Image.Image) -> Pixels:
    """Whatever Pillow holds in 8 bits, as RGB."""
    if image.mode not in _EIGHT_BIT_MODES:
        raise _UnsupportedError(f"pixels of mode {image.mode} are not supported")
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return _on_white(rgba[..., :3], rgba[..., 3:])
    return np.asarray(image.convert("RGB"))


def _png_16(data: bytes, transparent: int | tuple[int, ...] | None) -> Pixels:
    """A 16-bit PNG; `transparent` is the colour that stands for full transparency, if there is one."""
    samples = np.atleast_3d(imagecodecs.png_decode(data))
    colour = samples[..., :3] if samples.shape[2] >= 3 else samples[..., :1].repeat(3, axis=2)
    if samples.shape[2] in (2, 4):
        return _on_white(colour, samples[..., -1:])
    if transparent is not None:
        seen = (colour != np.array(transparent, dtype=np.uint16)).any(axis=2, keepdims=True)
        return np.where(seen, colour, np.uint16(65535))
    return colour


def _tiff_bits(page: tifffile.TiffPage) -> int:
    """Bits per sample, 1 to 16; anything that cannot be brought to 8 or 16 without guessing is refused."""
    bits, dtype = page.bitspersample, page.dtype
    if dtype is None or dtype.kind not in "ub" or bits not in (1, 2, 4, 8, 16):
        raise _UnsupportedError(f"{bits}-bit pixels of type {dtype} are not supported")
    return bits


def _tiff_16(page: tifffile.TiffPage) -> Pixels:
    """A 16-bit grey or RGB TIFF page, with or without alpha."""
    kind = tifffile.PHOTOMETRIC
    expected = {kind.MINISBLACK: 1, kind.MINISWHITE: 1, kind.RGB: 3}
    channels = expected.get(kind(page.photometric))
    if channels is None:
        raise _UnsupportedError(f"16-bit pixels of kind {kind(page.photometric).name} are not supported")
    samples = page.asarray()
    samples = np.moveaxis(samples, 0, 2) if page.axes == "SYX" else np.atleast_3d(samples)
    if samples.ndim != 3 or samples.shape[2] < channels:
        raise _UnsupportedError(f"an array of axes {page.axes} is not a photograph")
    colour = samples[..., :channels].repeat(3 // channels, axis=2)
    colour = ~colour if page.photometric == kind.MINISWHITE else colour
    if not page.extrasamples or page.extrasamples[0] == tifffile.EXTRASAMPLE.UNSPECIFIED:
        return colour
    associated = page.extrasamples[0] == tifffile.EXTRASAMPLE.ASSOCALPHA
    return _on_white(colour, samples[..., channels : channels + 1], associated)


def _on_white(colour: Pixels, alpha: Pixels, associated: bool = False) -> Pixels:
    """Composite (H, W, 3) with (H, W, 1) alpha on white; `associated`: colour holds colour × alpha."""
    largest = int(np.iinfo(colour.dtype).max)
    wide_colour, wide_alpha = colour.astype(np.uint64), alpha.astype(np.uint64)
    weighted = wide_colour * (largest if associated else wide_alpha)
    composited = (weighted + largest * (largest - wide_alpha) + largest // 2) // largest
    flattened: Pixels = np.minimum(composited, largest).astype(colour.dtype)
    return flattened


def _oriented(pixels: Pixels, orientation: int) -> Pixels:
    """Apply the EXIF orientation 1 … 8; other values mean nothing and are ignored."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _check_frames(frames: int) -> None:
    if frames > 1:
        raise _UnsupportedError(f"it has {frames} frames and a photograph has one")


def _check_declared(size: int, data: bytes) -> None:
    """Refuse a small file that claims to be a huge image, before it is decoded."""
    if size > max(_LARGE, RATIO * len(data)):
        raise _UnsupportedError(f"its {len(data):,} bytes would be {size:,} of pixels; it was not decoded")


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in EXTENSIONS and path.is_file()


def _nearest_folder(path: Path) -> str:
    """Say which existing folder a missing one was probably meant to be."""
    while not path.parent.is_dir():
        path = path.parent
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_dir())
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"nearest: {path.parent / close[0]}" if close else f"nothing in {path.parent} is named like {path.name}"
