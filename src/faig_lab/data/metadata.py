"""Image files without their metadata, so that decoders see nothing but pixels.

Of a damaged file as much is kept as is needed for a decoder to say that it is damaged.
"""

import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = (b"tRNS", b"acTL", b"fcTL", b"fdAT")
"""What counts for pixels and frames beside the critical chunks, whose names begin with a capital letter."""
_PNG_EXIF = (b"eXIf",)
_PNG_ORIENTED = (*_PNG_EXIF, b"zTXt", b"tEXt", b"iTXt")
_PNG_TEXTS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
ORIENTATION = 0x0112
_TIFF_PIXELS = frozenset((*range(254, 267), *range(273, 285), *range(292, 294), 317, *range(320, 326), 332, 338, 339))
_TIFF_PIXELS |= {347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532, ORIENTATION}
_EXIF_SEGMENT = 0xE1
_LEAST = {0xE0: 14, 0xEE: 12}
"""Bytes of a whole JFIF and a whole Adobe segment of a JPEG. They say how colours are stored."""


def without_metadata(data: bytes) -> bytes:
    """A PNG, JPEG or TIFF without text, profiles and EXIF; other files as they are."""
    if data.startswith(_PNG):
        return _PNG + b"".join(raw for name, raw in _chunks(data) if not name[:1].islower() or name in _PNG_PIXELS)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data, exif=False)
    return _tiff(data) if data[:4] in (b"II*\0", b"MM\0*") else data


def orientation(data: bytes) -> int:
    """The EXIF orientation of an image file; 1 where its metadata says nothing or is broken."""
    for reduced in _with_orientation(data):
        try:
            with Image.open(io.BytesIO(reduced)) as image:
                return whole(image.getexif().get(ORIENTATION, 1))
        except Exception:
            continue
    return 1


def whole(value: object) -> int:
    """An orientation that is a number; 1, upright, for anything else."""
    return value if isinstance(value, int) else 1


def _with_orientation(data: bytes) -> Iterator[bytes]:
    """The metadata that may hold an orientation: all of it, then EXIF alone, which the rest may have spoilt."""
    if data.startswith(_PNG):
        for wanted in (_PNG_ORIENTED, _PNG_EXIF):
            kept = [raw for name, raw in _chunks(data) if name in wanted and _may_orient(name, raw)]
            if kept:
                # Around one pixel: Pillow decodes all pixels before it looks for metadata behind them.
                pixel = [_chunk(b"IDAT", zlib.compress(b"\0\0")), _chunk(b"IEND", b"")]
                yield _PNG + b"".join([_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)), *kept, *pixel])
    elif data.startswith(b"\xff\xd8\xff"):
        yield _jpeg(data, exif=True)
    else:
        yield data


def _may_orient(name: bytes, raw: bytes) -> bool:
    return name in _PNG_EXIF or raw[8:].startswith(_PNG_TEXTS)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG with their names; what is no whole chunk comes last, without a name."""
    at = len(_PNG)
    while at < len(data):
        name = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if not name.isalpha() or end > len(data):
            yield b"", data[at:]
            return
        yield name, data[at:end]
        at = end


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _jpeg(data: bytes, exif: bool) -> bytes:
    """A JPEG without comments and application segments but those that say how colours are stored."""
    parts, at = [data[:2]], 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if not 0xC0 <= marker <= 0xFE or 0xD0 <= marker <= 0xD9 or length < 2 or end > len(data) or marker == 0xDA:
            break  # the pixels, or nothing that can be understood
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_metadata or length - 2 >= _LEAST.get(marker, length) or (exif and marker == _EXIF_SEGMENT):
            parts.append(data[at:end])
        at = end
    return b"".join([*parts, data[at:]])


def _tiff(data: bytes) -> bytes:
    """A TIFF of which the first image has no tags but those of its pixels."""
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
