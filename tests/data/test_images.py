"""Reading: every format, mode and depth comes back as the pixels that were written."""

import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from faig_lab.data.images import list_images, read_image, to_tensor, write_png
from faig_lab.errors import UserError

LOSSLESS = {"png": {}, "bmp": {}, "tiff": {}, "TIF": {"compression": "tiff_lzw"}, "webp": {"lossless": True}}
ORIENTED = {  # EXIF orientation → what makes the stored pixels upright
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.fixture
def colour(rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (7, 11, 3), dtype=np.uint8)


@pytest.fixture
def deep(rng: np.random.Generator) -> NDArray[np.uint16]:
    return rng.integers(0, 65536, (7, 11, 3), dtype=np.uint16)


def on_white(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Alpha compositing as its definition says, in float64."""
    largest = np.iinfo(colour.dtype).max
    opacity = alpha[..., None] / largest
    return np.round(colour * opacity + largest * (1 - opacity)).astype(colour.dtype)


def with_chunk(data: bytes, name: bytes, content: bytes) -> bytes:
    """Add a chunk to a PNG behind its signature and header."""
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return data[:33] + struct.pack(">I", len(content)) + name + content + checksum + data[33:]


def assert_same(path: Path, expected: NDArray[Any]) -> None:
    pixels = read_image(path)
    assert pixels.dtype == expected.dtype
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("extension", LOSSLESS)
def test_colour_round_trip(tmp_path: Path, colour: NDArray[np.uint8], extension: str) -> None:
    path = tmp_path / f"a.{extension}"
    Image.fromarray(colour).save(path, **LOSSLESS[extension])
    assert_same(path, colour)


@pytest.mark.parametrize("extension", ["png", "bmp", "tiff"])
def test_grey_black_and_white_and_palettes(tmp_path: Path, colour: NDArray[np.uint8], extension: str) -> None:
    grey = colour[..., 0]
    for image in (Image.fromarray(grey), Image.fromarray(grey > 127), Image.fromarray(colour).quantize(8)):
        image.save(tmp_path / f"a.{extension}")
        assert_same(tmp_path / f"a.{extension}", np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("extension", ["jpg", "JPEG"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg(tmp_path: Path, extension: str, mode: str) -> None:
    flat = np.full((16, 24, 3), 90, dtype=np.uint8)
    Image.fromarray(flat).convert(mode).save(tmp_path / f"a.{extension}", quality=100)
    pixels = read_image(tmp_path / f"a.{extension}")
    assert pixels.shape == flat.shape
    assert np.abs(pixels.astype(int) - 90).max() <= 2


@pytest.mark.parametrize("extension", ["png", "tiff", "webp"])
def test_alpha_is_composited_on_white(
    tmp_path: Path, colour: NDArray[np.uint8], rng: np.random.Generator, extension: str
) -> None:
    alpha = rng.integers(0, 256, colour.shape[:2], dtype=np.uint8)
    options = {"lossless": True, "exact": True} if extension == "webp" else {}
    Image.fromarray(np.dstack([colour, alpha])).save(tmp_path / f"a.{extension}", **options)
    assert_same(tmp_path / f"a.{extension}", on_white(colour, alpha))


def test_grey_alpha_and_transparent_palette(tmp_path: Path, colour: NDArray[np.uint8]) -> None:
    grey, alpha = colour[..., 0], colour[..., 1]
    Image.fromarray(np.dstack([grey, alpha])).save(tmp_path / "la.png")
    assert_same(tmp_path / "la.png", on_white(np.stack([grey] * 3, axis=-1), alpha))
    palette = Image.fromarray((grey > 127).astype(np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "p.png", transparency=0)
    expected = np.where((grey > 127)[..., None], np.uint8([40, 50, 60]), np.uint8(255))
    assert_same(tmp_path / "p.png", expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png(tmp_path: Path, rng: np.random.Generator, channels: int) -> None:
    samples = rng.integers(0, 65536, (7, 11, channels), dtype=np.uint16)
    data = imagecodecs.png_encode(samples.squeeze())
    (tmp_path / "a.png").write_bytes(data)
    colour = samples[..., :3] if channels > 2 else np.repeat(samples[..., :1], 3, axis=2)
    assert_same(tmp_path / "a.png", on_white(colour, samples[..., -1]) if channels in (2, 4) else colour)
    if channels in (1, 3):
        (tmp_path / "a.png").write_bytes(with_chunk(data, b"tRNS", samples[2, 3].astype(">u2").tobytes()))
        colour[(samples == samples[2, 3]).all(axis=-1)] = 65535
        assert_same(tmp_path / "a.png", colour)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_16_bit_tiff(tmp_path: Path, deep: NDArray[np.uint16], compression: str | None, byteorder: Any) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, deep, compression=compression, byteorder=byteorder, photometric="rgb")
    assert_same(path, deep)


def test_16_bit_tiff_in_planes_grey_or_with_alpha(tmp_path: Path, rng: np.random.Generator) -> None:
    samples = rng.integers(0, 65536, (7, 11, 4), dtype=np.uint16)
    deep, alpha, grey = samples[..., :3], samples[..., 3], np.repeat(samples[..., :1], 3, axis=2)
    under = np.dstack([np.minimum(deep, alpha[..., None]), alpha])
    for pixels, options, expected in (
        (deep.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}, deep),
        (samples[..., 0], {"photometric": "minisblack"}, grey),
        (samples[..., 0], {"photometric": "miniswhite"}, 65535 - grey),
        (samples, {"photometric": "rgb", "extrasamples": ["unassalpha"]}, on_white(deep, alpha)),
        (under, {"photometric": "rgb", "extrasamples": ["assocalpha"]}, under[..., :3] + (65535 - alpha)[..., None]),
        (samples, {"photometric": "rgb", "extrasamples": ["unspecified"]}, deep),
    ):
        tifffile.imwrite(tmp_path / "a.tif", pixels, **options)  # type: ignore[arg-type]
        assert_same(tmp_path / "a.tif", expected)


@pytest.mark.parametrize("orientation", ORIENTED)
def test_exif_orientation(tmp_path: Path, deep: NDArray[np.uint16], orientation: int) -> None:
    exif, upright, colour = Image.Exif(), ORIENTED[orientation], (deep >> 8).astype(np.uint8)
    exif[0x0112] = orientation
    for extension, options in {"png": {}, "tiff": {}, "webp": {"lossless": True}}.items():
        Image.fromarray(colour).save(tmp_path / f"a.{extension}", exif=exif, **options)
        assert_same(tmp_path / f"a.{extension}", upright(colour))
    Image.fromarray(colour).save(tmp_path / "a.jpg", exif=exif)
    assert_same(tmp_path / "a.jpg", upright(np.asarray(Image.open(tmp_path / "a.jpg"))))
    tag = (0x0112, "H", 1, orientation, True)
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb", extratags=[tag])
    assert_same(tmp_path / "a.tif", upright(deep))
    data = imagecodecs.png_encode(deep)
    (tmp_path / "a.png").write_bytes(with_chunk(data, b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    assert_same(tmp_path / "a.png", upright(deep))


def test_content_decides_not_the_extension(tmp_path: Path, colour: NDArray[np.uint8]) -> None:
    Image.fromarray(colour).save(tmp_path / "a.jpg", format="PNG")
    assert_same(tmp_path / "a.jpg", colour)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extension", ["png", "tif", "jpg", "bmp", "webp"])
def test_truncated_files(tmp_path: Path, rng: np.random.Generator, extension: str, bits: int) -> None:
    path = tmp_path / f"a.{extension}"
    pixels = rng.integers(0, 2**bits, (64, 64, 3), dtype=np.uint16)
    if bits == 8:
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    elif extension == "png":
        path.write_bytes(imagecodecs.png_encode(pixels))
    elif extension == "tif":
        tifffile.imwrite(path, pixels, photometric="rgb")
    else:
        return  # a format of 8 bits
    data = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(UserError, match=r"damaged|not a readable") as error:
            read_image(path)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"no image at all", b"GIF89a" + bytes(40), b"\x89PNG\r\n\x1a\n", b"II*\0"])
def test_other_content(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.png: (not a readable PNG, JPEG|damaged)"):
        read_image(path)


def test_empty_missing_and_damaged_files(
    tmp_path: Path, colour: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match=r"a\.png: the file is empty"):
        read_image(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"b\.png: cannot be read \(No such file"):
        read_image(tmp_path / "b.png")
    Image.fromarray(colour).save(tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[24] = 35  # The type of the second tag, the height: one that does not exist.
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UserError):
        read_image(tmp_path / "a.tif")
    assert caplog.records == []  # damage is told once


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint32", "int16", "int32", "float64"])
@pytest.mark.parametrize("shape", [(7, 11), (7, 11, 3)])
def test_kinds_of_pixels_that_are_refused(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros(shape, dtype), photometric="rgb" if len(shape) == 3 else "minisblack")
    with pytest.raises(UserError, match=f"a.tif: .*{dtype} are not supported; convert it to"):
        read_image(path)


@pytest.mark.parametrize("extension", ["png", "tif", "webp"])
def test_several_frames_are_refused(tmp_path: Path, colour: NDArray[np.uint8], extension: str) -> None:
    path = tmp_path / f"a.{extension}"
    frames = [Image.fromarray(colour), Image.fromarray(255 - colour)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match="it has 2 frames"):
        read_image(path)


def test_16_bit_tiffs_of_several_pages_or_cmyk_are_refused(tmp_path: Path) -> None:
    for shape, photometric, message in (
        ((3, 7, 11, 3), "rgb", "it has 3 frames"),
        ((7, 11, 4), "separated", "of kind SEPARATED are not supported"),
    ):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint16), photometric=photometric)  # type: ignore[arg-type]
        with pytest.raises(UserError, match=message):
            read_image(tmp_path / "a.tif")


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
