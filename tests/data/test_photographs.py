"""Embedded photographs: real files, checked, each scene on one side. Prepared ones: decoded once, the same pixels."""

import importlib.machinery
import importlib.util
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

from faig_lab.data import (
    Degradation,
    FolderPhotographs,
    PatchDataset,
    Photograph,
    StepSampler,
    patch_loader,
    photographs,
)
from faig_lab.data import photographs as photographs_module
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


def test_every_file_has_a_side_and_every_scene_a_file() -> None:
    assert {file.scene for file in FILES} == set(SIDES)
    assert set(SIDES.values()) == set(ALL_SIDES)
    assert len({file.sha256 for file in FILES}) == len({file.name for file in FILES}) == len(FILES)


def test_sides_are_disjoint_by_scene_and_by_content() -> None:
    sides = {side: embedded_photographs(side) for side in ALL_SIDES}
    scenes = Counter(scene for side in sides.values() for scene in {photo.scene for photo in side})
    hashes = Counter(photo.sha256 for side in sides.values() for photo in side)
    assert set(scenes.values()) == {1}
    assert set(hashes.values()) == {1}
    assert sum(hashes.values()) == len(FILES)


def test_both_views_of_the_motorcycle_are_one_scene() -> None:
    assert [file.scene for file in FILES if file.name.startswith("motorcycle")] == ["motorcycle"] * 2


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
    with pytest.raises(UserError, match=rf"camera.png of scikit-image .*sha256 differs\); {remedy}$"):
        embedded_photographs("held_out")


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"^scikit-image: not installed"):
        embedded_photographs("train")


def test_the_version_of_an_unknown_package() -> None:
    assert photographs._version("no-such-package") == "(version unknown)"


def test_read_photograph_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.png: cannot be read"):
        read_photograph(tmp_path / "a.png", "a")


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
    decode = photographs_module.decode_image

    def counting(data: bytes, path: Path) -> Any:
        seen.append(path)
        return decode(data, path)

    monkeypatch.setattr(photographs_module, "decode_image", counting)
    return seen


def test_the_pixels_are_those_of_the_images(images: list[Path], tmp_path: Path) -> None:
    for photo, path in zip(prepared(images, tmp_path / "p"), images, strict=True):
        expected = read_photograph(path, path.stem)
        assert (photo.name, photo.scene, photo.sha256) == (expected.name, expected.scene, expected.sha256)
        assert isinstance(photo.pixels, np.memmap)
        assert photo.pixels.dtype == expected.pixels.dtype
        assert not photo.pixels.flags.writeable
        np.testing.assert_array_equal(photo.pixels, expected.pixels)


def test_each_image_is_decoded_once(images: list[Path], tmp_path: Path, decoded: list[Path]) -> None:
    first = prepared(images, tmp_path / "p")
    before = arrays(tmp_path / "p")
    assert decoded == images
    second = prepared(images, tmp_path / "p")
    assert decoded == images
    assert arrays(tmp_path / "p") == before
    for one, same in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.pixels, same.pixels)


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


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: b"x" * len(data)])
def test_a_damaged_prepared_file_is_named(images: list[Path], tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    prepared(images, tmp_path / "p")
    file = next((tmp_path / "p").glob("a-*.npy"))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=rf"^{file}: a damaged prepared image .*; delete it to have it decoded again"):
        prepared(images, tmp_path / "p")
    file.unlink()
    assert len(prepared(images, tmp_path / "p")) == 3


class Sentinel:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_in_a_prepared_file_is_executed(images: list[Path], tmp_path: Path) -> None:
    prepared(images, tmp_path / "p")
    file = next((tmp_path / "p").glob("a-*.npy"))
    np.save(file, np.array([Sentinel(tmp_path / "executed")], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="a damaged prepared image"):
        prepared(images, tmp_path / "p")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_an_array_that_is_no_photograph_is_named(images: list[Path], tmp_path: Path, array: Any) -> None:
    prepared(images, tmp_path / "p")
    file = next((tmp_path / "p").glob("a-*.npy"))
    np.save(file, array)
    with pytest.raises(UserError, match=rf"^{file}: not a prepared image"):
        prepared(images, tmp_path / "p")


def test_the_room_on_the_disk_is_looked_at_first(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(photographs_module, "require_space", lambda *arguments: asked.append(arguments))
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


# On the way to another process


def test_a_mapped_photograph_travels_by_name(images: list[Path], tmp_path: Path) -> None:
    photo = prepared(images, tmp_path / "p")[0]
    data = pickle.dumps(photo)
    assert len(data) < 1000 < photo.pixels.nbytes
    same = pickle.loads(data)
    assert isinstance(same.pixels, np.memmap)
    assert (same.name, same.sha256) == (photo.name, photo.sha256)
    np.testing.assert_array_equal(same.pixels, photo.pixels)


def test_other_photographs_travel_with_their_pixels(images: list[Path], tmp_path: Path) -> None:
    photo = prepared(images, tmp_path / "p")[0]
    for pixels in (photo.pixels[3:9, 5:7], np.asarray(photo.pixels), photo.pixels.copy()):
        same = pickle.loads(pickle.dumps(Photograph("a", "a", pixels, "")))
        np.testing.assert_array_equal(same.pixels, pixels)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine of one core
def test_zero_one_and_two_workers_give_the_same_samples(images: list[Path], tmp_path: Path) -> None:
    in_memory = [read_photograph(path, path.stem) for path in images]
    mapped = prepared(images, tmp_path / "p")
    sampler = StepSampler(steps=6, batch_size=4)

    def batches(photographs: list[Photograph], workers: int) -> list[tuple[tuple[int, ...], torch.Tensor]]:
        data = PatchDataset(photographs, patch_size=16, margin=5, seed=1, stream="target")
        return [(batch.numbers, batch.patches) for batch in patch_loader(data, sampler, workers)]

    expected = batches(in_memory, 0)
    for workers in (0, 1, 2):
        for (numbers, patches), (same_numbers, same) in zip(expected, batches(mapped, workers), strict=True):
            assert numbers == same_numbers
            assert patches.dtype == same.dtype
            assert torch.equal(patches.int(), same.int())


# data=folder


@pytest.fixture
def folders(tmp_path: Path, save_image: SaveImage) -> dict[str, Path]:
    for side in ("train", "probe", "test"):
        for name in ("a.png", "b.png", "b.bmp"):
            save_image(tmp_path / side / name, 40, 48)
    return {f"{side}_dir": tmp_path / side for side in ("train", "probe", "test")}


def test_a_prepared_folder_is_the_same_study(
    folders: dict[str, Path], degradation: Degradation, tmp_path: Path
) -> None:
    plain = FolderPhotographs(**folders).load(degradation, seed=0)
    mapped = FolderPhotographs(**folders, prepared=tmp_path / "p").load(degradation, seed=0)
    assert [(p.name, p.sha256) for p in mapped.train] == [(p.name, p.sha256) for p in plain.train]
    assert all(isinstance(photo.pixels, np.memmap) for photo in mapped.train)
    for some, other in ((plain.probe, mapped.probe), (plain.held_out, mapped.held_out)):
        for image, same in zip(some, other, strict=True):
            assert image.name == same.name
            assert torch.equal(image.hr, same.hr)
            assert all(torch.equal(lr, same.lr[name]) for name, lr in image.lr.items())


def test_a_prepared_folder_still_notices_one_image_on_two_sides(
    folders: dict[str, Path], degradation: Degradation, tmp_path: Path
) -> None:
    copy = folders["probe_dir"] / "copy.png"
    copy.write_bytes((folders["train_dir"] / "a.png").read_bytes())
    with pytest.raises(UserError, match=rf"^{copy}: the same image as .*a\.png"):
        FolderPhotographs(**folders, prepared=tmp_path / "p").load(degradation, seed=0)
