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

from faig_lab.data.images import list_images, read_image, required_folder, to_tensor, write_png
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
def test_grey_and_black_and_white(tmp_path: Path, colour: NDArray[np.uint8], extension: str) -> None:
    grey = colour[..., 0]
    Image.fromarray(grey).save(tmp_path / f"grey.{extension}")
    assert_same(tmp_path / f"grey.{extension}", np.stack([grey] * 3, axis=-1))
    Image.fromarray(grey > 127).save(tmp_path / f"bits.{extension}")
    bits = ((grey > 127) * 255).astype(np.uint8)
    assert_same(tmp_path / f"bits.{extension}", np.stack([bits] * 3, axis=-1))


@pytest.mark.parametrize("extension", ["png", "bmp", "tiff"])
def test_palette(tmp_path: Path, colour: NDArray[np.uint8], extension: str) -> None:
    image = Image.fromarray(colour).quantize(8)
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
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(samples.squeeze()))
    colour = samples[..., :3] if channels > 2 else np.repeat(samples[..., :1], 3, axis=2)
    assert_same(tmp_path / "a.png", on_white(colour, samples[..., -1]) if channels in (2, 4) else colour)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_png_with_a_transparent_colour(tmp_path: Path, deep: NDArray[np.uint16], channels: int) -> None:
    samples = np.ascontiguousarray(deep[..., :channels])
    data = imagecodecs.png_encode(samples.squeeze())
    body = b"tRNS" + samples[2, 3].astype(">u2").tobytes()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    header = 8 + 25  # signature and IHDR
    (tmp_path / "a.png").write_bytes(data[:header] + chunk + data[header:])
    expected = np.repeat(samples, 3 // channels, axis=2)
    expected[(samples == samples[2, 3]).all(axis=-1)] = 65535
    assert_same(tmp_path / "a.png", expected)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_16_bit_tiff(tmp_path: Path, deep: NDArray[np.uint16], compression: str | None, byteorder: Any) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, deep, compression=compression, byteorder=byteorder, photometric="rgb")
    assert_same(path, deep)


def test_16_bit_tiff_in_planes_and_grey(tmp_path: Path, deep: NDArray[np.uint16]) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, deep.transpose(2, 0, 1), planarconfig="separate", photometric="rgb")
    assert_same(path, deep)
    grey = np.repeat(deep[..., :1], 3, axis=2)
    tifffile.imwrite(path, deep[..., 0], photometric="minisblack")
    assert_same(path, grey)
    tifffile.imwrite(path, deep[..., 0], photometric="miniswhite")
    assert_same(path, 65535 - grey)


def test_16_bit_tiff_with_alpha(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.tif"
    samples = rng.integers(0, 65536, (7, 11, 4), dtype=np.uint16)
    colour, alpha = samples[..., :3], samples[..., 3]
    tifffile.imwrite(path, samples, photometric="rgb", extrasamples=["unassalpha"])
    assert_same(path, on_white(colour, alpha))
    colour = np.minimum(colour, samples[..., 3:])
    tifffile.imwrite(path, np.dstack([colour, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    assert_same(path, colour + (65535 - alpha)[..., None])
    tifffile.imwrite(path, samples, photometric="rgb", extrasamples=["unspecified"])
    assert_same(path, samples[..., :3])


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("extension", ["png", "tiff", "webp"])
def test_exif_orientation(tmp_path: Path, colour: NDArray[np.uint8], orientation: int, extension: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if extension == "webp" else {}
    Image.fromarray(colour).save(tmp_path / f"a.{extension}", exif=exif, **options)
    assert_same(tmp_path / f"a.{extension}", ORIENTED[orientation](colour))


@pytest.mark.parametrize("orientation", ORIENTED)
def test_exif_orientation_of_jpeg_and_16_bits(tmp_path: Path, deep: NDArray[np.uint16], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray((deep >> 8).astype(np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    plain = np.asarray(Image.open(tmp_path / "a.jpg"))
    assert_same(tmp_path / "a.jpg", ORIENTED[orientation](plain))
    tag = (0x0112, "H", 1, orientation, True)
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb", extratags=[tag])
    assert_same(tmp_path / "a.tif", ORIENTED[orientation](deep))
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    data = imagecodecs.png_encode(deep)
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    assert_same(tmp_path / "a.png", ORIENTED[orientation](deep))


def test_content_decides_not_the_extension(tmp_path: Path, colour: NDArray[np.uint8]) -> None:
    Image.fromarray(colour).save(tmp_path / "a.jpg", format="PNG")
    assert_same(tmp_path / "a.jpg", colour)


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "tif", "webp"])
def test_truncated_files(tmp_path: Path, rng: np.random.Generator, extension: str) -> None:
    path = tmp_path / f"a.{extension}"
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    assert_broken_when_cut(path)


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_truncated_16_bit_files(tmp_path: Path, rng: np.random.Generator, extension: str) -> None:
    path = tmp_path / f"a.{extension}"
    pixels = rng.integers(0, 65536, (64, 64, 3), dtype=np.uint16)
    if extension == "png":
        path.write_bytes(imagecodecs.png_encode(pixels))
    else:
        tifffile.imwrite(path, pixels, photometric="rgb")
    assert_broken_when_cut(path)


def assert_broken_when_cut(path: Path) -> None:
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


def test_damage_is_told_once(tmp_path: Path, colour: NDArray[np.uint8], caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(colour).save(tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[24] = 35  # The type of the second tag, the height: one that does not exist.
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UserError):
        read_image(tmp_path / "a.tif")
    assert caplog.records == []


def test_empty_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match=r"a\.png: the file is empty"):
        read_image(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"b\.png: cannot be read \(No such file"):
        read_image(tmp_path / "b.png")


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint32", "int16", "int32", "float64"])
@pytest.mark.parametrize("shape", [(7, 11), (7, 11, 3)])
def test_kinds_of_pixels_that_are_refused(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros(shape, dtype), photometric="rgb" if len(shape) == 3 else "minisblack")
    with pytest.raises(UserError, match=f"a.tif: .*{dtype} are not supported; convert it to"):
        read_image(path)


def test_16_bit_cmyk_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((7, 11, 4), np.uint16), photometric="separated")
    with pytest.raises(UserError, match="of kind SEPARATED are not supported"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("extension", ["png", "tif", "webp"])
def test_several_frames_are_refused(tmp_path: Path, colour: NDArray[np.uint8], extension: str) -> None:
    path = tmp_path / f"a.{extension}"
    frames = [Image.fromarray(colour), Image.fromarray(255 - colour)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match="it has 2 frames"):
        read_image(path)


def test_16_bit_tiff_of_several_pages_is_refused(tmp_path: Path, deep: NDArray[np.uint16]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([deep] * 3), photometric="rgb")
    with pytest.raises(UserError, match="it has 3 frames"):
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
    assert [path.name for path in list_images(tmp_path, "train_dir")] == [
        "a.jpeg",
        "b.PNG",
        "c.Tif",
        "d.webp",
        "e.bmp",
    ]


def test_list_images_names_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    with pytest.raises(UserError, match=r"train_dir: .*trainin: no such folder; nearest: .*training$"):
        list_images(tmp_path / "trainin", "train_dir")
    with pytest.raises(UserError, match=r"no such folder; nearest: .*training$"):
        list_images(tmp_path / "traning" / "hr", "train_dir")
    with pytest.raises(UserError, match=r"nothing in .* is named like zzz"):
        list_images(tmp_path / "zzz", "train_dir")
    with pytest.raises(UserError, match=r"train_dir: .*training: no image in this folder \(\.png"):
        list_images(tmp_path / "training", "train_dir")
    (tmp_path / "training" / "hr").mkdir()
    (tmp_path / "training" / "hr" / "a.png").touch()
    with pytest.raises(UserError, match=r"no image in this folder .*; nearest: .*hr$"):
        list_images(tmp_path / "training", "train_dir")
    with pytest.raises(UserError, match="is a file, not a folder"):
        list_images(tmp_path / "training" / "hr" / "a.png", "train_dir")


def test_a_folder_that_is_not_given() -> None:
    with pytest.raises(UserError, match=r"^probe_dir: no folder given; add `probe_dir`="):
        required_folder(None, "probe_dir")
