"""Images on disk: read to RGB at their own depth, listed by folder, written as PNG.

Pillow decodes what has 8 bits; 16-bit colour, which Pillow cuts to 8, goes through imagecodecs (PNG) and
tifffile (TIFF). Colour profiles are ignored, as in the field's benchmarks; so is broken metadata.
"""

import difflib
import io
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from faig_lab.archives import RATIO
from faig_lab.data.metadata import ORIENTATION, orientation, whole, without_metadata
from faig_lab.data.samples import Pixels, UnsupportedError, on_white, oriented, png_16, tiff_16, tiff_bits
from faig_lab.errors import UserError
from faig_lab.files import atomic_write

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""What `list_images` takes for an image, in any case; the content decides how a file is read."""

PIXEL_LIMIT = 500_000_000
"""Pixels that a file may declare: more than any camera takes; 1.5 GB of memory in 8 bits."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_EIGHT_BIT_MODES = ("1", "L", "P", "RGB", "RGBX", "RGBA", "LA", "PA", "CMYK", "YCbCr", "HSV")
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LARGE = 1_000_000_000  # bytes of pixels that any file may decode to


class _TooLargeError(Exception):
    """A file that declares more pixels than are read."""


def read_image(path: Path) -> Pixels:
    """Read an image file as RGB.

    PNG, JPEG, BMP, TIFF or WebP, recognised by content; grey is repeated over the channels, palettes are
    resolved, alpha is composited on white and the EXIF orientation is applied.

    Returns:
        (H, W, 3), uint8 or, for 16-bit files, uint16.

    Raises:
        UserError: the file is missing, damaged or of another kind, float, over 16 bits, or has many frames
            or more than PIXEL_LIMIT pixels.
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
    except UnsupportedError as reason:
        raise UserError(f"{path}: {reason}; convert it to an 8- or 16-bit RGB PNG") from None
    except _TooLargeError as reason:
        raise UserError(f"{path}: {reason}; cut it into smaller images") from None
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
    before, limit = [logger.disabled for logger in loggers], Image.MAX_IMAGE_PIXELS
    try:
        for logger in loggers:
            logger.disabled = True
        Image.MAX_IMAGE_PIXELS = None  # PIXEL_LIMIT counts
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def declared_size(data: bytes) -> tuple[int, int]:
    """Width and height of an image file by its header; damaged bytes raise anything."""
    with _quiet_decoders(), Image.open(io.BytesIO(without_metadata(data)), formats=_FORMATS) as image:
        return image.size


def _decode(data: bytes) -> Pixels:
    """The oriented RGB pixels of an image file."""
    if data.startswith(_TIFF_MAGIC):
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            _check_frames(len(tiff.pages))
            page = tiff.pages[0]
            assert isinstance(page, tifffile.TiffPage)
            _check_size(page.imagewidth, page.imagelength)
            if tiff_bits(page) == 16:
                _check_size(page.tilewidth, page.tilelength)
                _check_size(page.size // 4)  # a photograph has up to four channels
                _check_declared(6 * page.imagewidth * page.imagelength, data)
                tag = page.tags.get(ORIENTATION)
                return oriented(tiff_16(page), whole(tag.value) if tag else 1)
        try:
            return _by_pillow(data, data)
        except (UnsupportedError, _TooLargeError):
            raise
        except Exception:  # It may be the metadata that Pillow cannot read.
            bare = without_metadata(data)
            return _by_pillow(bare, bare)
    return _by_pillow(data, without_metadata(data))


def _by_pillow(data: bytes, bare: bytes) -> Pixels:
    """The oriented RGB pixels of a file whose pixels are in `bare`; a 16-bit PNG is decoded by imagecodecs."""
    with Image.open(io.BytesIO(bare), formats=_FORMATS) as image:
        _check_size(*image.size)
        # An MPO is a phone's JPEG with a preview or a second view after the photograph itself.
        _check_frames(1 if image.format == "MPO" else getattr(image, "n_frames", 1))
        is_16_bit_png = image.format == "PNG" and bare[24] == 16
        _check_declared((6 if is_16_bit_png else 3) * image.width * image.height, data)
        pixels = png_16(bare, image.info.get("transparency")) if is_16_bit_png else _eight_bits(image)
        if image.format == "TIFF":  # where Pillow has applied the orientation itself, it has removed the tag
            return oriented(pixels, whole(image.getexif().get(ORIENTATION, 1)))
        return oriented(pixels, orientation(data))


def _eight_bits(image: Image.Image) -> Pixels:
    """Whatever Pillow holds in 8 bits, as RGB."""
    if image.mode not in _EIGHT_BIT_MODES:
        raise UnsupportedError(f"pixels of mode {image.mode} are not supported")
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return on_white(rgba[..., :3], rgba[..., 3:])
    return np.asarray(image.convert("RGB"))


def _check_size(*sides: int) -> None:
    """Refuse what is declared to be too large, before it is decoded."""
    if math.prod(sides) > PIXEL_LIMIT:
        raise _TooLargeError(
            f"{'×'.join(map(str, sides))} pixels are declared, more than {PIXEL_LIMIT // 1_000_000} megapixels"
        )


def _check_frames(frames: int) -> None:
    if frames > 1:
        raise UnsupportedError(f"it has {frames} frames and a photograph has one")


def _check_declared(size: int, data: bytes) -> None:
    """Refuse a small file that claims to be a huge image, before it is decoded."""
    if size > max(_LARGE, RATIO * len(data)):
        raise UnsupportedError(f"its {len(data):,} bytes would be {size:,} of pixels; it was not decoded")


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in EXTENSIONS and path.is_file()


def _nearest_folder(path: Path) -> str:
    """Say which existing folder a missing one was probably meant to be."""
    while not path.parent.is_dir():
        path = path.parent
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_dir())
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"nearest: {path.parent / close[0]}" if close else f"nothing in {path.parent} is named like {path.name}"
