"""Images on disk: read as RGB at their own depth, listed by folder, written as PNG.

Pillow decodes files of 8 bits. Pillow would cut 16-bit colour to 8 bits, so imagecodecs (PNG) and tifffile (TIFF)
decode it. Colour profiles are ignored, as in the field's benchmarks. Decoders get no metadata, since broken metadata
must not keep them from the pixels.
"""

import difflib
import io
import logging
import math
import struct
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

from faig_lab.errors import InputError, UserError
from faig_lab.files import RATIO, atomic_write

Pixels = NDArray[np.uint8 | np.uint16]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""The extensions of files that `list_images` returns, in any case. The content decides how a file is read."""

PIXEL_LIMIT = 500_000_000
"""The largest number of pixels that a file may declare: more than any camera takes; 1.5 GB of memory in 8 bits."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_EIGHT_BIT_MODES = ("1", "L", "P", "RGB", "RGBX", "RGBA", "LA", "PA", "CMYK", "YCbCr", "HSV")
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LARGE = 1_000_000_000  # bytes of pixels that any file may decode to
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = 33  # bytes of the signature and of the chunk of the size
_PNG_PIXELS = (b"tRNS", b"acTL", b"fcTL", b"fdAT")
"""Chunks that pixels and frames depend on, beside the critical chunks, whose names begin with a capital letter."""
_PNG_TEXTS = (b"zTXt", b"tEXt", b"iTXt")
_ORIENTED_TEXTS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
_ORIENTATION = 0x0112
_TIFF_PIXELS = frozenset((*range(254, 267), *range(273, 285), *range(292, 294), 317, *range(320, 326), 332, 338, 339))
_TIFF_PIXELS |= {347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532, _ORIENTATION}
_EXIF_SEGMENT = 0xE1
_LEAST = {0xE0: 14, 0xEE: 12}
"""The least bytes of a JFIF and of an Adobe segment of a JPEG. Both segments say how colours are stored."""


class _RefusedError(Exception):
    """The file is sound, but too large or of a kind that is not read."""

    def __init__(self, reason: str, remedy: str = "convert it to an 8- or 16-bit RGB PNG") -> None:
        super().__init__(f"{reason}; {remedy}")


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
    return decode_image(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """Read a file whole.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def decode_image(data: bytes, path: Path) -> Pixels:
    """Decode the bytes of an image file, as `read_image` does; `path` is for messages."""
    if not data:
        raise UserError(f"{path}: the file is empty")
    try:
        with _silent_decoders():
            return _decode(data)
    except _RefusedError as reason:
        raise UserError(f"{path}: {reason}") from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: not a readable PNG, JPEG, BMP, TIFF or WebP image") from None
    except Exception as error:  # Decoders may raise any exception on damaged bytes.
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: damaged or incomplete image ({detail})") from error


def to_tensor(pixels: Pixels) -> Tensor:
    """Convert (H, W, 3) uint8 or uint16 to float32 (3, H, W) in [0, 1]."""
    largest = np.float32(np.iinfo(pixels.dtype).max)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / largest)


def required_folder(folder: str | Path | None, argument: str) -> Path:
    """Return the path of a folder; `~` stands for the home folder.

    Raises:
        InputError: the folder is None; the error names `argument`.
    """
    if folder is None:
        raise InputError(argument, f"no folder given; add `{argument}`=path/to/images")
    return Path(folder).expanduser()


def list_images(folder: str | Path | None, argument: str) -> list[Path]:
    """List the images directly in `folder`, sorted by name. Hidden files and other extensions are left out.

    Args:
        folder: as `required_folder`.
        argument: the caller's argument that names the folder, for messages.

    Raises:
        InputError: no folder is given, there is no such folder, or the folder holds no image.
    """
    folder = required_folder(folder, argument)
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else f"no such folder; {_nearest_folder(folder)}"
        raise InputError(argument, f"{folder}: {kind}")
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise InputError(argument, f"{folder}: cannot be read ({error.strerror})") from error
    images = [path for path in entries if _is_image(path)]
    if not images:
        inner = next((path for path in entries if path.is_dir() and any(map(_is_image, path.iterdir()))), None)
        hint = f"; nearest: {inner}" if inner else ""
        raise InputError(argument, f"{folder}: no image in this folder ({' '.join(EXTENSIONS)}){hint}")
    return images


def write_png(path: Path, image: Tensor) -> None:
    """Write (3, H, W) in [0, 1] as an 8-bit PNG, atomically. Values outside [0, 1] are clipped.

    Raises:
        ValueError: `image` has another shape.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"expected (3, H, W), not {tuple(image.shape)}")
    levels = (image.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8)
    with atomic_write(path) as temporary:
        Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy()).save(temporary, format="PNG")


@contextmanager
def _silent_decoders() -> Iterator[None]:
    """Drop the warnings and log lines of decoders: odd metadata is harmless, and damage raises an error."""
    loggers = [logging.getLogger(name) for name in ("tifffile", "PIL.TiffImagePlugin")]
    before, limit = [logger.disabled for logger in loggers], Image.MAX_IMAGE_PIXELS
    try:
        for logger in loggers:
            logger.disabled = True
        Image.MAX_IMAGE_PIXELS = None  # PIXEL_LIMIT takes its place
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def declared_size(data: bytes) -> tuple[int, int]:
    """Read width and height from the header of an image file. Damaged bytes may raise any exception."""
    with _silent_decoders(), Image.open(io.BytesIO(_without_metadata(data)), formats=_FORMATS) as image:
        return image.size


def _decode(data: bytes) -> Pixels:
    """Decode an image file to RGB pixels and apply its orientation: 16 bits with tifffile or imagecodecs."""
    if data.startswith(_TIFF_MAGIC):
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            _check_frames(len(tiff.pages))
            page = tiff.pages[0]
            assert isinstance(page, tifffile.TiffPage)
            _check_size(page.imagewidth, page.imagelength)
            bits, dtype = page.bitspersample, page.dtype
            if dtype is None or dtype.kind not in "ub" or bits not in (1, 2, 4, 8, 16):
                raise _RefusedError(f"{bits}-bit pixels of type {dtype} are not supported")
            if bits == 16:
                _check_size(page.tilewidth, page.tilelength)
                _check_size(page.size // 4)  # a photograph has at most four channels
                _check_declared(6 * page.imagewidth * page.imagelength, data)
                tag = page.tags.get(_ORIENTATION)
                return _oriented(_tiff_16(page), tag.value if tag else None)
    pixels_only = _without_metadata(data)
    with Image.open(io.BytesIO(pixels_only), formats=_FORMATS) as image:
        _check_size(*image.size)
        # An MPO is a phone's JPEG with a preview or a second view after the photograph itself.
        _check_frames(1 if image.format == "MPO" else getattr(image, "n_frames", 1))
        is_16_bit_png = image.format == "PNG" and pixels_only[24] == 16
        _check_declared((6 if is_16_bit_png else 3) * image.width * image.height, data)
        tagged = image.format == "TIFF" and _ORIENTATION in image.getexif()
        pixels = _png_16(pixels_only) if is_16_bit_png else _eight_bits(image)
        # If Pillow has applied the orientation of a TIFF itself, it has removed the tag.
        return _oriented(pixels, image.getexif().get(_ORIENTATION) if tagged else _orientation(data))


def _eight_bits(image: Image.Image) -> Pixels:
    """Convert any of Pillow's 8-bit modes to RGB."""
    if image.mode not in _EIGHT_BIT_MODES:
        raise _RefusedError(f"pixels of mode {image.mode} are not supported")
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return _on_white(rgba[..., :3], rgba[..., 3:])
    return np.asarray(image.convert("RGB"))


def _check_size(*sides: int) -> None:
    """Refuse an image that is declared to be too large, before it is decoded."""
    if math.prod(sides) > PIXEL_LIMIT:
        declared = f"{'×'.join(map(str, sides))} pixels are declared"
        raise _RefusedError(
            f"{declared}, more than {PIXEL_LIMIT // 1_000_000} megapixels", "cut it into smaller images"
        )


def _check_frames(frames: int) -> None:
    if frames > 1:
        raise _RefusedError(f"it has {frames} frames and a photograph has one")


def _check_declared(size: int, data: bytes) -> None:
    """Refuse a small file that declares a huge image, before it is decoded."""
    if size > max(_LARGE, RATIO * len(data)):
        raise _RefusedError(f"its {len(data):,} bytes would be {size:,} of pixels; it was not decoded")


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in EXTENSIONS and path.is_file()


def _nearest_folder(path: Path) -> str:
    """Name the existing folder whose name is nearest to that of a missing folder."""
    while not path.parent.is_dir():
        path = path.parent
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_dir())
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"nearest: {path.parent / close[0]}" if close else f"nothing in {path.parent} is named like {path.name}"


def _png_16(data: bytes) -> Pixels:
    """Decode a 16-bit PNG. imagecodecs turns a transparent colour into alpha."""
    samples = np.atleast_3d(imagecodecs.png_decode(data))
    colour = samples[..., :3] if samples.shape[2] >= 3 else samples[..., :1].repeat(3, axis=2)
    return _on_white(colour, samples[..., -1:]) if samples.shape[2] in (2, 4) else colour


def _tiff_16(page: tifffile.TiffPage) -> Pixels:
    """Decode a 16-bit grey or RGB TIFF page, with or without alpha."""
    kind = tifffile.PHOTOMETRIC
    colour_channels = {kind.MINISBLACK: 1, kind.MINISWHITE: 1, kind.RGB: 3}
    channels = colour_channels.get(kind(page.photometric))
    if channels is None:
        raise _RefusedError(f"16-bit pixels of kind {kind(page.photometric).name} are not supported")
    samples = page.asarray()
    samples = np.moveaxis(samples, 0, 2) if page.axes == "SYX" else np.atleast_3d(samples)
    if samples.ndim != 3 or samples.shape[2] < channels:
        raise _RefusedError(f"an array of axes {page.axes} is not a photograph")
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


def _oriented(pixels: Pixels, orientation: object) -> Pixels:
    """Apply the EXIF orientation 1 … 8. Other values have no meaning and are ignored."""
    if not isinstance(orientation, int):
        return np.ascontiguousarray(pixels)
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _without_metadata(data: bytes) -> bytes:
    """Remove text, profiles and EXIF from a PNG, JPEG or TIFF. Other files are returned as they are.

    A damaged file keeps as many bytes as a decoder needs to report the damage.
    """
    if data.startswith(_PNG):
        return _PNG + b"".join(raw for name, raw in _chunks(data) if not name[:1].islower() or name in _PNG_PIXELS)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data, exif=False)
    return _tiff(data) if data[:4] in (b"II*\0", b"MM\0*") else data


def _orientation(data: bytes) -> object:
    """Read the EXIF orientation of an image file; None if its metadata has none or is broken."""
    candidates = [data]
    if data.startswith(_PNG):
        chunks = list(_chunks(data))
        texts = [raw for name, raw in chunks if name in _PNG_TEXTS and raw[8:].startswith(_ORIENTED_TEXTS)]
        exif = [raw for name, raw in chunks if name == b"eXIf"]
        # With one pixel: Pillow decodes all pixels before it reads the metadata behind them. EXIF alone is tried as
        # well, since Pillow stops at a broken text.
        pixel = bytes(imagecodecs.png_encode(np.zeros((1, 1), np.uint8)))
        candidates = [pixel[:_PNG_HEADER] + b"".join(kept) + pixel[_PNG_HEADER:] for kept in (exif + texts, exif)]
    elif data.startswith(b"\xff\xd8\xff"):
        candidates = [_jpeg(data, exif=True)]
    for candidate in candidates:
        try:
            with Image.open(io.BytesIO(candidate)) as image:
                return image.getexif().get(_ORIENTATION)
        except Exception:
            continue
    return None


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of a PNG with their names. Bytes that are no whole chunk come last, with an empty name."""
    at = len(_PNG)
    while at < len(data):
        name = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if not name.isalpha() or end > len(data):
            yield b"", data[at:]
            return
        yield name, data[at:end]
        at = end


def _jpeg(data: bytes, exif: bool) -> bytes:
    """Remove comments and application segments from a JPEG, except those that say how colours are stored."""
    parts, at = [data[:2]], 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if not 0xC0 <= marker <= 0xFE or 0xD0 <= marker <= 0xD9 or length < 2 or end > len(data) or marker == 0xDA:
            break  # the pixels begin here, or the bytes have no meaning
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_metadata or length - 2 >= _LEAST.get(marker, length) or (exif and marker == _EXIF_SEGMENT):
            parts.append(data[at:end])
        at = end
    return b"".join([*parts, data[at:]])


def _tiff(data: bytes) -> bytes:
    """Remove all tags from the first image of a TIFF, except those of its pixels."""
    order = "<" if data.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        entries = [data[at : at + 12] for at in range(start + 2, start + 2 + 12 * count, 12)]
        kept = [entry for entry in entries if struct.unpack_from(f"{order}H", entry)[0] in _TIFF_PIXELS]
        following = data[start + 2 + 12 * count : start + 6 + 12 * count]
    except struct.error:
        return data
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + following
    return data[:start] + directory + data[start + len(directory) :]
