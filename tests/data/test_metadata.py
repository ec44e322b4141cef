"""Pixels decide: whatever a file's metadata holds, its pixels are read; a file of too many pixels is refused."""

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from faig_lab.data import images
from faig_lab.data.images import Pixels, decode_image
from faig_lab.data.photographs import encoded_file, prepare
from faig_lab.errors import UserError

PATH = Path("a.png")
LONG = b"x" * (2 * 2**20)
UPRIGHT_6 = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
"""EXIF that says orientation 6."""
EIGHT = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
SIXTEEN = np.random.default_rng(1).integers(0, 65536, (8, 12, 3), dtype=np.uint16)
DEPTHS = pytest.mark.parametrize("pixels", [EIGHT, SIXTEEN], ids=["8 bits", "16 bits"])


def assert_decoded(data: bytes, pixels: Pixels) -> None:
    np.testing.assert_array_equal(decode_image(data, PATH), pixels)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def encoded(pixels: Pixels, **options: object) -> bytes:
    if pixels.dtype == np.uint16:
        return bytes(imagecodecs.png_encode(pixels))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, **{"format": "PNG", **options})  # type: ignore[arg-type]
    return file.getvalue()


def png(pixels: Pixels, extra: bytes, behind: bool) -> bytes:
    data = encoded(pixels)
    at = len(data) - 12 if behind else 33
    return data[:at] + extra + data[at:]


PNG_METADATA = {
    "text": chunk(b"tEXt", b"k\0" + LONG),
    "compressed text": chunk(b"zTXt", b"k\0\0" + zlib.compress(LONG)),
    "international text": chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(LONG)),
    "much text": 40 * chunk(b"zTXt", b"k\0\0" + zlib.compress(LONG)),
    "profile": chunk(b"iCCP", b"k\0\0" + zlib.compress(LONG)),
    "broken profile": chunk(b"iCCP", b"k\0\0nonsense"),
    "broken text": chunk(b"zTXt", b"k\0\7nonsense"),
    "broken EXIF": chunk(b"eXIf", b"nonsense"),
    "EXIF with an offset beyond its end": chunk(b"eXIf", b"II*\0\xff\xff\xff\0"),
    "EXIF cut short": chunk(b"eXIf", UPRIGHT_6[:12]),
    "empty EXIF": chunk(b"eXIf", b""),
    "EXIF as broken text": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 10\nzz")),
    "broken XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<broken"),
    "short numbers": chunk(b"pHYs", b"a") + chunk(b"gAMA", b"") + chunk(b"cHRM", b"a") + chunk(b"sRGB", b""),
    "wrong checksum": chunk(b"tEXt", b"k\0abc")[:-1] + b"!",
}


@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind the pixels"])
@DEPTHS
@pytest.mark.parametrize("kind", PNG_METADATA)
def test_metadata_of_a_png_does_not_count(kind: str, pixels: Pixels, behind: bool) -> None:
    assert_decoded(png(pixels, PNG_METADATA[kind], behind), pixels)
    oriented = png(pixels, PNG_METADATA[kind] + chunk(b"eXIf", UPRIGHT_6), behind)
    if "EXIF" not in kind:  # a sound orientation beside other metadata counts
        assert_decoded(oriented, np.rot90(pixels, -1))


@DEPTHS
def test_orientation_of_a_png_may_be_text_or_xmp(pixels: Pixels) -> None:
    exif = (b"Exif\0\0" + UPRIGHT_6).hex().encode()
    text = chunk(
        b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n" + b"%8d\n" % (len(exif) // 2) + exif)
    )
    xmp = chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<rdf:Description tiff:Orientation="6"/>')
    for extra in (text, xmp):
        assert_decoded(png(pixels, extra, False), np.rot90(pixels, -1))


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


JPEG_METADATA = {
    "broken EXIF": segment(0xE1, b"Exif\0\0nonsense"),
    "EXIF with an offset beyond its end": segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\0"),
    "broken profile": segment(0xE2, b"ICC_PROFILE\0"),
    "broken preview": segment(0xE2, b"MPF\0nonsense"),
    "broken JFIF": segment(0xE0, b"JFIF\0"),
    "broken Adobe": segment(0xEE, b"Adobe\0"),
    "broken Photoshop": segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed\0\0\0\0\0\x10"),
    "much": 40 * segment(0xFE, b"x" * 65000),
}


@pytest.mark.parametrize("kind", JPEG_METADATA)
def test_metadata_of_a_jpeg_does_not_count(kind: str) -> None:
    data = encoded(EIGHT, format="JPEG")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert_decoded(data[:2] + JPEG_METADATA[kind] + data[2:], expected)
    if "EXIF" not in kind:
        exif = segment(0xE1, b"Exif\0\0" + UPRIGHT_6)
        assert_decoded(data[:2] + exif + JPEG_METADATA[kind] + data[2:], np.rot90(expected, -1))


@pytest.mark.parametrize("options", [{}, {"keep_rgb": True}])
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_colours_of_a_jpeg_stay_as_its_adobe_segment_says(mode: str, options: dict[str, Any]) -> None:
    file = io.BytesIO()
    Image.fromarray(EIGHT).convert(mode).save(file, "JPEG", **options)
    assert_decoded(file.getvalue(), np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB")))


@pytest.mark.parametrize(
    "options",
    [{"exif": b"Exif\0\0nonsense"}, {"exif": b"II*\0\xff\xff\xff\0"}, {"icc_profile": b"bad"}, {"xmp": b"<bad"}],
)
def test_metadata_of_a_webp_does_not_count(options: dict[str, bytes]) -> None:
    assert_decoded(encoded(EIGHT, format="WEBP", lossless=True, **options), EIGHT)


def tiff(pixels: Pixels, changes: Mapping[int, tuple[int, bytes]] = MappingProxyType({})) -> bytes:
    """A TIFF with orientation 6 and text, profile and XMP; `changes` of entries: tag → (offset, new bytes)."""
    file = io.BytesIO()
    extra = [(34675, 7, 8, b"badbadba", True), (700, 1, 8, b"<broken!", True), (274, 3, 1, 6, True)]
    tifffile.imwrite(file, pixels, photometric="rgb", description="some text", metadata=None, extratags=extra)
    data = bytearray(file.getvalue())
    (start,) = struct.unpack_from("<I", data, 4)
    for place in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12):
        offset, content = changes.get(struct.unpack_from("<H", data, place)[0], (0, b""))
        data[place + offset : place + offset + len(content)] = content
    return bytes(data)


@DEPTHS
@pytest.mark.parametrize("tag", [270, 282, 305, 700, 34675])
def test_broken_tags_of_a_tiff_do_not_count(tag: int, pixels: Pixels) -> None:
    assert_decoded(tiff(pixels), np.rot90(pixels, -1))
    for at, content in ((2, b"\0\0"), (2, b"\2\0"), (2, b"\x0c\0"), (8, b"\xf0\xff\xff\x7f"), (4, b"\xff\xff\xff\x0f")):
        assert_decoded(tiff(pixels, {tag: (at, content)}), np.rot90(pixels, -1))
    assert_decoded(tiff(pixels, {274: (2, b"\2")}), pixels)  # an orientation that is text has no meaning


@DEPTHS
def test_damaged_pixels_are_still_refused_whatever_the_metadata(pixels: Pixels) -> None:
    data = png(pixels, PNG_METADATA["compressed text"], False)
    for cut in (20, 60, len(data) // 2, len(data) - 30):
        with pytest.raises(UserError):
            decode_image(data[:cut], PATH)
    broken = bytearray(data)
    broken[data.index(b"IDAT") + 20] ^= 1
    with pytest.raises(UserError, match="damaged or incomplete image"):
        decode_image(bytes(broken), PATH)


def declared(name: str, width: int, height: int) -> bytes:
    """A small file that declares many pixels."""
    if name.startswith("png"):
        header = struct.pack(">IIBBBBB", width, height, 16 if "16" in name else 8, 2, 0, 0, 0)
        pixels = chunk(b"IDAT", zlib.compress(b"\0"))
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")
    data = bytearray(encoded(EIGHT, format=name.upper().removesuffix(" 16")))
    if name == "bmp":
        struct.pack_into("<ii", data, 18, width, height)
        return bytes(data)
    if name == "jpeg":
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
        return bytes(data)
    sides = {tag: (2, struct.pack("<HII", 4, 1, side)) for tag, side in ((256, width), (257, height))}
    return tiff(SIXTEEN if "16" in name else EIGHT, sides)


@pytest.mark.parametrize("name", ["png", "png 16", "bmp", "jpeg", "tiff", "tiff 16"])
def test_more_pixels_than_the_limit_are_refused_by_the_header(name: str) -> None:
    with pytest.raises(UserError) as caught:
        decode_image(declared(name, 40_000, 50_000), PATH)
    assert str(caught.value) == (
        "a.png: 40000×50000 pixels are declared, more than 500 megapixels; cut it into smaller images"
    )


@pytest.mark.filterwarnings("error")
def test_pillows_own_limit_does_not_count_and_stays_for_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow refuses twice as many
    for data, pixels in ((encoded(EIGHT), EIGHT), (encoded(SIXTEEN), SIXTEEN), (encoded(EIGHT, format="BMP"), EIGHT)):
        assert_decoded(data, pixels)
    (tmp_path / "a.png").write_bytes(encoded(EIGHT))
    (path,) = prepare([encoded_file(tmp_path / "a.png", "a")], tmp_path / "prepared", "prepared")
    np.testing.assert_array_equal(np.load(path), EIGHT)
    assert Image.MAX_IMAGE_PIXELS == 10
    monkeypatch.setattr(images, "PIXEL_LIMIT", 95)
    for data in (encoded(EIGHT), encoded(SIXTEEN), tiff(SIXTEEN), encoded(EIGHT, format="WEBP")):
        with pytest.raises(UserError, match=r"a\.png: 12×8 pixels are declared, more than"):
            decode_image(data, PATH)
    monkeypatch.setattr(images, "PIXEL_LIMIT", 96)
    assert_decoded(encoded(EIGHT), EIGHT)
