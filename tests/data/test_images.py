"""Images: every format, mode and depth comes back as the pixels that were written, whatever the metadata holds."""

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
import torch
from numpy.typing import NDArray
from PIL import Image

from faig_lab.data import images
from faig_lab.data.images import Pixels, decode_image, list_images, read_image, to_tensor, write_png
from faig_lab.data.photographs import encoded_file, prepare
from faig_lab.errors import UserError

PATH = Path("a.png")
FOUR = np.random.default_rng(1).integers(0, 65536, (8, 12, 4), dtype=np.uint16)
SIXTEEN, ALPHA = FOUR[..., :3], FOUR[..., 3:]
EIGHT = (SIXTEEN >> 8).astype(np.uint8)
GREY = EIGHT[..., 0]
DEPTHS = pytest.mark.parametrize("pixels", [EIGHT, SIXTEEN], ids=["8 bits", "16 bits"])


def assert_decoded(data: bytes, expected: Pixels) -> None:
    pixels = decode_image(data, PATH)
    assert pixels.dtype == expected.dtype
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, expected)


def refused(data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=rf"^a\.png: {message}") as caught:
        decode_image(data, PATH)
    assert "\n" not in str(caught.value)


def encoded(image: Pixels | Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """By Pillow, or a PNG of 16 bits by imagecodecs."""
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint16:
            return bytes(imagecodecs.png_encode(np.ascontiguousarray(image)))
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def tiff_of(pixels: NDArray[Any], photometric: Any = "rgb", **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric=photometric, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(pixels: Pixels, extra: bytes, behind: bool = False) -> bytes:
    """A PNG with chunks before or behind the pixels."""
    data = encoded(pixels)
    at = len(data) - 12 if behind else 33
    return data[:at] + extra + data[at:]


def on_white(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Alpha compositing as its definition says, in float64."""
    largest = np.iinfo(colour.dtype).max
    opacity = alpha / largest
    return np.round(colour * opacity + largest * (1 - opacity)).astype(colour.dtype)


# Formats, modes and depths


@pytest.mark.parametrize(
    ("format", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})],
)
def test_colour_round_trip(format: str, options: dict[str, Any]) -> None:
    assert_decoded(encoded(EIGHT, format, **options), EIGHT)
    if format in ("PNG", "TIFF", "WEBP"):
        alpha = {"exact": True} if format == "WEBP" else {}
        assert_decoded(encoded(np.dstack([EIGHT, GREY]), format, **options, **alpha), on_white(EIGHT, GREY[..., None]))
    if format != "WEBP":
        for image in (Image.fromarray(GREY), Image.fromarray(GREY > 127), Image.fromarray(EIGHT).quantize(8)):
            assert_decoded(encoded(image, format), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg(mode: str) -> None:
    pixels = decode_image(encoded(Image.new("RGB", (24, 16), (90,) * 3).convert(mode), "JPEG", quality=100), PATH)
    assert pixels.shape == (16, 24, 3)
    assert np.abs(pixels.astype(int) - 90).max() <= 2


def test_grey_alpha_and_transparent_palette() -> None:
    alpha = EIGHT[..., 1:2]
    assert_decoded(encoded(np.dstack([GREY, alpha])), on_white(np.repeat(GREY[..., None], 3, axis=2), alpha))
    palette = Image.fromarray((GREY > 127).astype(np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    expected = np.where((GREY > 127)[..., None], np.uint8([40, 50, 60]), np.uint8(255))
    assert_decoded(encoded(palette, transparency=0), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png(channels: int) -> None:
    samples = FOUR[..., :channels]
    colour = samples[..., :3] if channels > 2 else np.repeat(samples[..., :1], 3, axis=2)
    if channels in (2, 4):
        assert_decoded(encoded(samples), on_white(colour, samples[..., -1:]))
    else:
        assert_decoded(encoded(samples.squeeze()), colour)
        transparent = chunk(b"tRNS", samples[2, 3].astype(">u2").tobytes())
        opaque = (samples != samples[2, 3]).any(axis=-1, keepdims=True)
        assert_decoded(png(samples.squeeze(), transparent), np.where(opaque, colour, np.uint16(65535)))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_16_bit_tiff(compression: str | None, byteorder: str) -> None:
    assert_decoded(tiff_of(SIXTEEN, compression=compression, byteorder=byteorder), SIXTEEN)


def test_16_bit_tiff_in_planes_grey_or_with_alpha() -> None:
    grey, under = np.repeat(FOUR[..., :1], 3, axis=2), np.minimum(SIXTEEN, ALPHA)
    assert_decoded(tiff_of(SIXTEEN.transpose(2, 0, 1), planarconfig="separate"), SIXTEEN)
    assert_decoded(tiff_of(FOUR[..., 0], "minisblack"), grey)
    assert_decoded(tiff_of(FOUR[..., 0], "miniswhite"), 65535 - grey)
    assert_decoded(tiff_of(FOUR, extrasamples=["unassalpha"]), on_white(SIXTEEN, ALPHA))
    assert_decoded(tiff_of(np.dstack([under, ALPHA]), extrasamples=["assocalpha"]), under + (65535 - ALPHA))
    assert_decoded(tiff_of(FOUR, extrasamples=["unspecified"]), SIXTEEN)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_exif_orientation(orientation: int, upright: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for format, options in {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}.items():
        assert_decoded(encoded(EIGHT, format, exif=exif, **options), upright(EIGHT))
    jpeg = encoded(EIGHT, "JPEG", exif=exif)
    assert_decoded(jpeg, upright(np.asarray(Image.open(io.BytesIO(jpeg)))))
    assert_decoded(tiff_of(SIXTEEN, extratags=[(0x0112, "H", 1, orientation, True)]), upright(SIXTEEN))
    assert_decoded(png(SIXTEEN, chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))), upright(SIXTEEN))


def test_content_decides_not_the_extension(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(EIGHT))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), EIGHT)
    with pytest.raises(UserError, match=r"b\.png: cannot be read \(No such file"):
        read_image(tmp_path / "b.png")


# What is refused


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "BMP", "WEBP", "PNG of 16 bits", "TIFF of 16 bits"])
def test_truncated_files(rng: np.random.Generator, kind: str) -> None:
    format, deep, _ = kind.partition(" of 16 bits")
    pixels = rng.integers(0, 65536 if deep else 256, (64, 64, 3), dtype=np.uint16 if deep else np.uint8)
    data = tiff_of(pixels) if deep and format == "TIFF" else encoded(pixels, format)
    for share in (0.1, 0.5, 0.9):
        refused(data[: int(share * len(data))], "(damaged|not a readable)")


@pytest.mark.parametrize("data", [b"no image at all", b"GIF89a" + bytes(40), b"\x89PNG\r\n\x1a\n", b"II*\0"])
def test_other_content(data: bytes) -> None:
    refused(data, "(not a readable PNG, JPEG|damaged)")


def test_empty_and_damaged_files(caplog: pytest.LogCaptureFixture) -> None:
    refused(b"", "the file is empty")
    data = bytearray(encoded(EIGHT, "TIFF"))
    data[24] = 35  # The type of the second tag, the height: one that does not exist.
    refused(bytes(data), "")
    assert caplog.records == []  # damage is told once


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint32", "int16", "int32", "float64"])
@pytest.mark.parametrize(("shape", "photometric"), [((7, 11), "minisblack"), ((7, 11, 3), "rgb")])
def test_kinds_of_pixels_that_are_refused(dtype: str, shape: tuple[int, ...], photometric: str) -> None:
    refused(tiff_of(np.zeros(shape, dtype), photometric), f".*{dtype} are not supported; convert it to")


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_several_frames_and_16_bit_cmyk_are_refused(format: str) -> None:
    frames = {"save_all": True, "append_images": [Image.fromarray(255 - EIGHT)]}
    refused(encoded(EIGHT, format, **frames), "it has 2 frames")
    refused(tiff_of(np.stack([SIXTEEN] * 3)), "it has 3 frames")
    refused(tiff_of(FOUR, "separated"), ".*of kind SEPARATED are not supported")


# Metadata

LONG = b"x" * (2 * 2**20)
UPRIGHT_6 = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
"""EXIF that says orientation 6."""

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
        assert_decoded(png(pixels, extra), np.rot90(pixels, -1))


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
    data = encoded(Image.fromarray(EIGHT).convert(mode), "JPEG", **options)
    assert_decoded(data, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize(
    "options",
    [{"exif": b"Exif\0\0nonsense"}, {"exif": b"II*\0\xff\xff\xff\0"}, {"icc_profile": b"bad"}, {"xmp": b"<bad"}],
)
def test_metadata_of_a_webp_does_not_count(options: dict[str, bytes]) -> None:
    assert_decoded(encoded(EIGHT, format="WEBP", lossless=True, **options), EIGHT)


def tiff(pixels: Pixels, changes: Mapping[int, tuple[int, bytes]] = MappingProxyType({})) -> bytes:
    """A TIFF with orientation 6 and text, profile and XMP; `changes` of entries: tag → (offset, new bytes)."""
    extra = [(34675, 7, 8, b"badbadba", True), (700, 1, 8, b"<broken!", True), (274, 3, 1, 6, True)]
    data = bytearray(tiff_of(pixels, description="some text", metadata=None, extratags=extra))
    (start,) = struct.unpack_from("<I", data, 4)
    for place in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12):
        offset, content = changes.get(struct.unpack_from("<H", data, place)[0], (0, b""))
        data[place + offset : place + offset + len(content)] = content
    return bytes(data)


def test_orientation_of_a_tiff_may_be_xmp() -> None:
    """A tag counts before XMP, as in Pillow. tifffile, which reads 16 bits, reads no XMP."""
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    extra = [(700, 1, len(xmp), xmp, True)]
    assert_decoded(tiff_of(EIGHT, extratags=extra), np.rot90(EIGHT, -1))
    for tag, expected in ((1, EIGHT), (3, EIGHT[::-1, ::-1])):
        assert_decoded(tiff_of(EIGHT, extratags=[*extra, (274, 3, 1, tag, True)]), expected)


@DEPTHS
@pytest.mark.parametrize("tag", [270, 282, 305, 700, 34675])
def test_broken_tags_of_a_tiff_do_not_count(tag: int, pixels: Pixels) -> None:
    assert_decoded(tiff(pixels), np.rot90(pixels, -1))
    for at, content in ((2, b"\0\0"), (2, b"\2\0"), (2, b"\x0c\0"), (8, b"\xf0\xff\xff\x7f"), (4, b"\xff\xff\xff\x0f")):
        assert_decoded(tiff(pixels, {tag: (at, content)}), np.rot90(pixels, -1))
    assert_decoded(tiff(pixels, {274: (2, b"\2")}), pixels)  # an orientation that is text has no meaning


@DEPTHS
def test_damaged_pixels_are_still_refused_whatever_the_metadata(pixels: Pixels) -> None:
    data = png(pixels, PNG_METADATA["compressed text"])
    for cut in (20, 60, len(data) // 2, len(data) - 30):
        refused(data[:cut], "")
    broken = bytearray(data)
    broken[data.index(b"IDAT") + 20] ^= 1
    refused(bytes(broken), "damaged or incomplete image")


def declared(name: str, width: int, height: int) -> bytes:
    """A small file that declares many pixels."""
    if name.startswith("png"):
        header = struct.pack(">IIBBBBB", width, height, 16 if "16" in name else 8, 2, 0, 0, 0)
        pixels = chunk(b"IDAT", zlib.compress(b"\0"))
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")
    data = bytearray(encoded(EIGHT, name.upper().removesuffix(" 16")))
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
    message = "40000×50000 pixels are declared, more than 500 megapixels; cut it into smaller images$"
    refused(declared(name, 40_000, 50_000), message)


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
        refused(data, "12×8 pixels are declared, more than")
    monkeypatch.setattr(images, "PIXEL_LIMIT", 96)
    assert_decoded(encoded(EIGHT), EIGHT)


# Tensors, writing and folders


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_to_tensor(dtype: type[np.uint8 | np.uint16]) -> None:
    largest = np.iinfo(dtype).max
    pixels = np.zeros((2, 3, 3), dtype)
    pixels[1, 2] = (0, 1, largest)
    tensor = to_tensor(pixels)
    assert tensor.shape == (3, 2, 3)
    assert tensor.dtype == torch.float32
    torch.testing.assert_close(tensor[:, 1, 2], torch.tensor([0.0, 1 / largest, 1.0]), rtol=0, atol=1e-9)


def test_write_png_rounds_and_clips(tmp_path: Path) -> None:
    image = torch.zeros(3, 2, 2)
    image[:, 0, 0] = torch.tensor([-0.5, 0.5, 1.5])
    image[:, 1, 1] = torch.tensor([0.0, 254.4 / 255, 254.6 / 255])
    write_png(tmp_path / "new" / "a.png", image)
    pixels = read_image(tmp_path / "new" / "a.png")
    assert pixels[0, 0].tolist() == [0, 128, 255]
    assert pixels[1, 1].tolist() == [0, 254, 255]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
    with pytest.raises(ValueError, match=r"expected \(3, H, W\)"):
        write_png(tmp_path / "b.png", torch.zeros(1, 2, 2))


def test_list_images(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", ".hidden.png", "notes.txt", "c.Tif", "d.webp", "e.bmp"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    names = [path.name for path in list_images(tmp_path, "train_dir")]
    assert names == ["a.jpeg", "b.PNG", "c.Tif", "d.webp", "e.bmp"]


def test_list_images_names_what_is_wrong(tmp_path: Path) -> None:
    def refused(place: str | None, message: str) -> None:
        with pytest.raises(UserError, match=rf"^train_dir: {message}"):
            list_images(None if place is None else tmp_path / place, "train_dir")

    (tmp_path / "training").mkdir()
    refused(None, "no folder given; add `train_dir`=")
    refused("trainin", r".*trainin: no such folder; nearest: .*training$")
    refused("traning/hr", r".*no such folder; nearest: .*training$")
    refused("zzz", r".*nothing in .* is named like zzz")
    refused("training", r".*training: no image in this folder \(\.png")
    (tmp_path / "training" / "hr").mkdir()
    (tmp_path / "training" / "hr" / "a.png").touch()
    refused("training", r".*no image in this folder .*; nearest: .*hr$")
    refused("training/hr/a.png", ".*is a file, not a folder")
