"""Embedded photographs: real files, checked, each scene on one side. Prepared ones: decoded once, the same pixels."""

import importlib.machinery
import importlib.metadata
import importlib.util
import io
import os
import pickle
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from faig_lab.data import Batch, PatchDataset, Photograph, StepSampler, patch_loader, photographs
from faig_lab.data.photographs import (
    FILES,
    SIDES,
    Side,
    embedded_photographs,
    encoded_file,
    open_prepared,
    prepare,
    read_photograph,
)
from faig_lab.errors import UserError

ALL_SIDES: tuple[Side, ...] = ("train", "probe", "held_out")


def test_sides_are_disjoint_by_scene_and_by_content() -> None:
    assert {file.scene for file in FILES} == set(SIDES)
    assert len({file.name for file in FILES}) == len(FILES)
    assert [file.scene for file in FILES if file.name.startswith("motorcycle")] == ["motorcycle"] * 2
    sides = {side: embedded_photographs(side) for side in ALL_SIDES}
    scenes = Counter(scene for side in sides.values() for scene in {photo.scene for photo in side})
    hashes = Counter(photo.sha256 for side in sides.values() for photo in side)
    assert set(scenes.values()) == set(hashes.values()) == {1}
    assert set(hashes) == {file.sha256 for file in FILES}


def test_held_out_is_mostly_colour_and_has_three_scenes() -> None:
    held_out = embedded_photographs("held_out")
    coloured = [photo for photo in held_out if (photo.pixels[..., :1] != photo.pixels).any()]
    assert len(held_out) >= 3
    assert len(coloured) > len(held_out) / 2
    assert all(photo.pixels.shape[2] == 3 and photo.pixels.std() > 20 for photo in held_out)


def test_a_missing_or_changed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(module: str) -> importlib.machinery.ModuleSpec:
        spec = importlib.machinery.ModuleSpec(module, None, is_package=True)
        spec.submodule_search_locations = [str(tmp_path)]
        return spec

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    remedy = r"reinstall it \(pip install --force-reinstall scikit-\w+\) or use `FolderPhotographs`"
    with pytest.raises(UserError, match=rf"^data/camera.png of scikit-image [\d.]+: the file is missing; {remedy}$"):
        embedded_photographs("held_out")
    (tmp_path / "data").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "data" / "camera.png")
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda package: version(f"no-such-{package}"))
    unknown = r"camera.png of scikit-image \(version unknown\): .*sha256 differs\)"
    with pytest.raises(UserError, match=rf"{unknown}; {remedy}$"):
        embedded_photographs("held_out")


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"^scikit-image: not installed"):
        embedded_photographs("train")


SaveImage = Callable[..., Path]


@pytest.fixture
def images(tmp_path: Path, save_image: SaveImage, rng: np.random.Generator) -> list[Path]:
    """Colour, grey 16-bit, and a name that is no file name everywhere."""
    deep = tmp_path / "images" / "deep.png"
    paths = [save_image(tmp_path / "images" / name, 40, 56) for name in ("a.png", "schön & gut: θ.bmp")]
    Image.fromarray(rng.integers(0, 65536, (40, 40), dtype=np.uint16)).save(deep)
    return [*paths, deep]


def prepared(paths: list[Path], folder: Path) -> list[Photograph]:
    encoded = [encoded_file(path, path.stem) for path in paths]
    return [open_prepared(f, e.name) for e, f in zip(encoded, prepare(encoded, folder, "prepared"), strict=True)]


def arrays(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npy")}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What has been decoded so far."""
    seen: list[Path] = []
    decode = photographs.decode_image

    def counting(data: bytes, path: Path) -> Any:
        seen.append(path)
        return decode(data, path)

    monkeypatch.setattr(photographs, "decode_image", counting)
    return seen


def test_each_image_is_decoded_once_to_its_pixels(images: list[Path], tmp_path: Path, decoded: list[Path]) -> None:
    first = prepared(images, tmp_path / "p")
    before = arrays(tmp_path / "p")
    again = prepared(images, tmp_path / "p")
    assert decoded == images
    assert arrays(tmp_path / "p") == before
    for path, *both in zip(images, first, again, strict=True):
        expected = read_photograph(path, path.stem)
        for photo in both:
            assert (photo.name, photo.scene, photo.sha256) == (expected.name, expected.scene, expected.sha256)
            assert isinstance(photo.pixels, np.memmap)
            assert photo.pixels.dtype == expected.pixels.dtype
            assert not photo.pixels.flags.writeable
            np.testing.assert_array_equal(photo.pixels, expected.pixels)


@pytest.mark.parametrize("same_time", [True, False])
def test_a_changed_image_is_decoded_anew(
    images: list[Path], tmp_path: Path, save_image: SaveImage, decoded: list[Path], same_time: bool
) -> None:
    prepared(images, tmp_path / "p")
    time = images[0].stat().st_mtime_ns
    save_image(images[0], 41, 56)
    if same_time:
        os.utime(images[0], ns=(time, time))
    photo = prepared(images, tmp_path / "p")[0]
    assert decoded == [*images, images[0]]
    np.testing.assert_array_equal(photo.pixels, read_photograph(images[0], "a").pixels)


def test_images_of_one_name_in_two_folders_are_kept_apart(tmp_path: Path, save_image: SaveImage) -> None:
    paths = [save_image(tmp_path / folder / "a.bmp") for folder in ("one", "two")]
    for path in paths:
        os.utime(path, ns=(10**18, 10**18))
    one, two = prepared(paths, tmp_path / "p")
    assert one.sha256 != two.sha256
    assert not np.array_equal(one.pixels, two.pixels)


def test_a_preparation_that_broke_off_goes_on(
    images: list[Path], tmp_path: Path, decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    save = np.save

    def stopped(file: Any, pixels: Any, **options: Any) -> None:
        if len(decoded) == 3:
            raise KeyboardInterrupt
        save(file, pixels, **options)

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            prepared(images, tmp_path / "p")
    assert len(arrays(tmp_path / "p")) == 2
    assert [path.name for path in (tmp_path / "p").glob(".*")] == [".lock"]
    prepared(images, tmp_path / "p")
    assert decoded == [*images, images[2]]


def test_what_is_decoded_can_be_used_without_writing(images: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    encoded = [encoded_file(path, path.stem) for path in images]
    first = prepare(encoded[1:], folder, "prepared")
    (folder / ".lock").unlink(missing_ok=True)
    (folder / ".lock").mkdir()  # no lock can be taken, as where the folder is for reading only
    assert prepare(encoded[1:], folder, "prepared") == first
    with pytest.raises(OSError, match=r"\.lock"):
        prepare(encoded, folder, "prepared")


def test_a_damaged_image_is_named_and_the_others_are_kept(images: list[Path], tmp_path: Path) -> None:
    images[2].write_bytes(images[2].read_bytes()[:200])
    with pytest.raises(UserError, match=rf"^{images[2]}: damaged or incomplete image"):
        prepared(images, tmp_path / "p")
    assert len(arrays(tmp_path / "p")) == 2


class Sentinel:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("executed"),)


def array(content: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, content, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "a damaged prepared image"),
        (lambda data: b"", "a damaged prepared image"),
        (lambda data: b"x" * len(data), "a damaged prepared image"),
        (lambda data: array(np.array([Sentinel()], dtype=object)), "a damaged prepared image"),
        (lambda data: array(np.zeros((4, 4), np.uint8)), "not a prepared image"),
        (lambda data: array(np.zeros((4, 4, 3), np.float32)), "not a prepared image"),
    ],
)
def test_a_damaged_prepared_file_is_named_and_not_executed(
    images: list[Path], tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    prepared(images, tmp_path / "p")
    file = next((tmp_path / "p").glob("a-*.npy"))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=rf"^{file}: {message}.*; delete it to have it decoded again"):
        prepared(images, tmp_path / "p")
    assert not Path("executed").exists()
    file.unlink()
    assert len(prepared(images, tmp_path / "p")) == 3


def test_the_room_on_the_disk_is_looked_at_first(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(photographs, "require_space", lambda *arguments: asked.append(arguments))
    prepared(images, tmp_path / "p")
    assert asked == [(tmp_path / "p", 3 * (2 * 40 * 56 + 40 * 40), "prepared", "3 decoded images")]


def test_another_process_waits(images: list[Path], tmp_path: Path, decoded: list[Path]) -> None:
    (tmp_path / "p").mkdir()
    found: list[list[Photograph]] = []
    worker = threading.Thread(target=lambda: found.append(prepared(images, tmp_path / "p")))
    with FileLock(tmp_path / "p" / ".lock"):
        worker.start()
        worker.join(0.2)
        assert worker.is_alive()
        assert decoded == []
    worker.join()
    assert len(found[0]) == 3


def test_a_mapped_photograph_travels_by_name_and_another_one_whole(images: list[Path], tmp_path: Path) -> None:
    photo = prepared(images, tmp_path / "p")[0]
    data = pickle.dumps(photo)
    assert len(data) < 1000 < photo.pixels.nbytes
    same = pickle.loads(data)
    assert isinstance(same.pixels, np.memmap)
    assert (same.name, same.sha256) == (photo.name, photo.sha256)
    np.testing.assert_array_equal(same.pixels, photo.pixels)
    for pixels in (photo.pixels[3:9, 5:7], np.asarray(photo.pixels), photo.pixels.copy()):  # with the pixels
        same = pickle.loads(pickle.dumps(Photograph("a", "a", pixels, "")))
        np.testing.assert_array_equal(same.pixels, pixels)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine of one core
def test_zero_one_and_two_workers_give_the_same_samples(images: list[Path], tmp_path: Path) -> None:
    in_memory = [read_photograph(path, path.stem) for path in images]
    mapped = prepared(images, tmp_path / "p")

    def batches(photographs: list[Photograph], workers: int) -> list[Batch]:
        data = PatchDataset(photographs, patch_size=16, margin=5, seed=1, stream="target")
        return list(patch_loader(data, StepSampler(steps=6, batch_size=4), workers))

    expected = batches(in_memory, 0)
    assert [batch.numbers for batch in expected] == [tuple(range(4 * step, 4 * step + 4)) for step in range(6)]
    for photos, workers in ((mapped, 0), (mapped, 2), (in_memory, 1)):
        for batch, same in zip(expected, batches(photos, workers), strict=True):
            assert batch.numbers == same.numbers
            assert batch.patches.dtype == same.patches.dtype
            assert torch.equal(batch.patches.int(), same.patches.int())
