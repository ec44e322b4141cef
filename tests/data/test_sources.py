"""The sources: what they hand over, and what they refuse before any work is done."""

import importlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from faig_lab.data import (
    Degradation,
    Downsample,
    EmbeddedPhotographs,
    FolderPhotographs,
    GaussianBlur,
    GaussianNoise,
    PairedFolders,
    PairedImage,
    StudyData,
)
from faig_lab.data.photographs import FILES, SIDES, Side
from faig_lab.errors import InputError, UserError

SaveImage = Callable[..., Path]


def assert_identical(some: StudyData, other: StudyData) -> None:
    def tensors(data: StudyData) -> list[torch.Tensor]:
        images: tuple[PairedImage, ...] = (*data.probe, *data.held_out)
        return [tensor for image in images for tensor in (image.hr, *image.lr.values())]

    assert all(torch.equal(a, b) for a, b in zip(tensors(some), tensors(other), strict=True))


def test_embedded() -> None:
    parts = {"blur": GaussianBlur(), "noise": GaussianNoise()}
    degradation = Degradation(parts, Downsample(), scale=3)
    source = EmbeddedPhotographs(probe_crop=32, probe_crops=1, test_crop=49, test_crops=2)
    data = source.load(degradation, seed=0)
    assert (data.degradations, data.notes) == (("blur", "noise"), ())
    assert {image.hr.shape for image in data.probe} == {(3, 30, 30)}
    assert {image.hr.shape for image in data.held_out} == {(3, 48, 48)}
    assert len(data.probe) >= 2
    assert len(data.held_out) >= 6
    assert len(data.train) >= 6
    for image in data.held_out:  # Blur must matter on what it is judged on.
        assert (image.lr["blur"] - image.lr["clean"]).abs().mean() > 0.01
    assert_identical(data, source.load(degradation, seed=1))
    default = EmbeddedPhotographs().load(replace(degradation, scale=2, parts={"blur": GaussianBlur()}), seed=0)
    assert len(default.held_out) == 2 * len({image.scene for image in default.held_out})
    assert {image.hr.shape for image in default.held_out} == {(3, 192, 192)}  # the default crops all fit


def test_held_out_photographs_of_a_folder_replace_the_embedded_ones(
    tmp_path: Path, degradation: Degradation, save_image: SaveImage
) -> None:
    for name in ("one", "two"):
        save_image(tmp_path / "held" / f"{name}.png", 64, 64)
    crops = {"probe_crop": 32, "test_crop": 48, "test_crops": 1}
    data = EmbeddedPhotographs(test_dir=tmp_path / "held", **crops).load(degradation, seed=0)
    own = EmbeddedPhotographs(**crops).load(degradation, seed=0)
    assert {image.scene for image in data.held_out} == {"one", "two"}
    assert [photo.sha256 for photo in data.train] == [photo.sha256 for photo in own.train]
    assert all(torch.equal(a.hr, b.hr) for a, b in zip(data.probe, own.probe, strict=True))


@pytest.mark.parametrize("side", ["train", "probe"])
def test_a_photograph_that_is_trained_or_attributed_on_is_not_held_out(
    tmp_path: Path, degradation: Degradation, side: Side
) -> None:
    with pytest.raises(UserError, match=r"^test_dir: .*: no image in this folder"):
        EmbeddedPhotographs(test_dir=tmp_path).load(degradation, seed=0)
    file = next(file for file in FILES if SIDES[file.scene] == side)
    shutil.copy(Path(importlib.import_module(file.module).__file__ or "").parent / file.path, tmp_path)
    with pytest.raises(UserError, match="the same image as"):
        EmbeddedPhotographs(test_dir=tmp_path).load(degradation, seed=0)


@pytest.mark.parametrize("source", [EmbeddedPhotographs, FolderPhotographs])
def test_crops_out_of_range(source: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"^probe_crop: 8 HR pixels is too small; at least 16, or `None`$"):
        source(probe_crop=8)
    with pytest.raises(InputError, match=r"^test_crops: 0 crops per image; at least 1$"):
        source(test_crops=0)


@pytest.fixture
def folders(tmp_path: Path, save_image: SaveImage) -> dict[str, Path]:
    for folder in ("train", "probe", "test"):
        for name in ("a.png", "b.png"):
            save_image(tmp_path / folder / name)
    return {f"{name}_dir": tmp_path / name for name in ("train", "probe", "test")}


def shapes(images: tuple[PairedImage, ...]) -> list[tuple[str, tuple[int, ...]]]:
    return [(image.name, tuple(image.hr.shape)) for image in images]


def test_folder(
    folders: dict[str, Path], degradation: Degradation, rng: np.random.Generator, save_image: SaveImage
) -> None:
    Image.fromarray(rng.integers(0, 65536, (40, 40), dtype=np.uint16)).save(folders["train_dir"] / "c.png")
    save_image(folders["test_dir"] / "a.bmp")
    source = FolderPhotographs(**folders, probe_crop=16, probe_crops=1, test_crop=None)
    data = source.load(degradation, seed=3)
    kinds = {photo.name: photo.pixels.dtype for photo in data.train}
    assert kinds == {"a": np.uint8, "b": np.uint8, "c": np.uint16}
    assert [image.hr.shape for image in data.probe] == [(3, 16, 16)] * 2
    assert shapes(data.held_out) == [(name, (3, 24, 32)) for name in ("a.bmp", "a.png", "b")]  # unique names
    assert_identical(data, source.load(degradation, seed=4))
    mapped = replace(source, prepared=folders["train_dir"].with_name("prepared")).load(degradation, seed=0)
    assert_identical(data, mapped)
    assert [(p.name, p.sha256) for p in mapped.train] == [(p.name, p.sha256) for p in data.train]
    assert all(isinstance(photo.pixels, np.memmap) for photo in mapped.train)
    assert replace(source, train_dir=None).load(degradation, seed=0).train == ()


@pytest.mark.parametrize("prepared", [False, True])
def test_file_names_that_are_no_utf_8(
    prepared: bool, folders: dict[str, Path], degradation: Degradation, tmp_path: Path
) -> None:
    """Such a name is the same text in every locale, since the degradations' random numbers depend on it."""
    for folder in folders.values():
        (folder / "a.png").rename(folder / os.fsdecode(b"a\xe4.png"))
        (folder / "b.png").rename(folder / "ä.png")
    kept = tmp_path / "prepared" if prepared else None
    data = FolderPhotographs(**folders, prepared=kept, probe_crop=16, test_crop=None).load(degradation, seed=0)
    for images in (data.train, data.held_out):
        assert {image.name for image in images} == {r"a\xe4", "ä"}
    assert all(image.name.encode() for image in data.probe)


def test_folder_refuses_what_is_missing_or_unreadable(folders: dict[str, Path], degradation: Degradation) -> None:
    def refused(message: str, **changes: Path | None) -> None:
        with pytest.raises(UserError, match=f"^{message}"):
            FolderPhotographs(**folders | changes).load(degradation, seed=0)

    refused("probe_dir: no folder given; add `probe_dir`=", probe_dir=None)
    missing = folders["probe_dir"].with_name("prob")
    refused(f"probe_dir: {missing}: no such folder; nearest: .*probe$", probe_dir=missing)
    path = folders["train_dir"] / "b.png"
    path.write_bytes(path.read_bytes()[:200])
    refused(f"{path}: damaged or incomplete image")


@pytest.mark.parametrize(
    ("first", "second"), [("train_dir", "probe_dir"), ("train_dir", "test_dir"), ("probe_dir", "test_dir")]
)
def test_folder_refuses_one_image_on_two_sides(
    folders: dict[str, Path], degradation: Degradation, first: str, second: str
) -> None:
    original, copy = folders[first] / "a.png", folders[second] / "other.png"
    copy.write_bytes(original.read_bytes())
    with pytest.raises(UserError, match=rf"^{copy}: the same image as {original}; keep it in one"):
        FolderPhotographs(**folders).load(degradation, seed=0)


@pytest.fixture
def pairs(tmp_path: Path, save_image: SaveImage) -> dict[str, Any]:
    """Arguments of PairedFolders at ×2: HR one pixel larger than it must be, both naming conventions."""
    for name in ("baby", "bird"):
        save_image(tmp_path / "hr" / f"{name}.png", 25, 32)
        save_image(tmp_path / "blur" / f"{name}.bmp", 12, 16)
        save_image(tmp_path / "noise" / f"{name}x2.png", 12, 16)
    return {"hr_dir": str(tmp_path / "hr"), "lr_dirs": {name: str(tmp_path / name) for name in ("blur", "noise")}}


def test_paired(pairs: dict[str, Any], degradation: Degradation, save_image: SaveImage) -> None:
    pixels = np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3)
    save_image(Path(pairs["lr_dirs"]["noise"]) / "babyx2.png", pixels=pixels)
    data = PairedFolders(**pairs).load(degradation, seed=0)
    assert (data.train, data.degradations) == ((), ("blur", "noise"))
    assert shapes(data.probe) == [("baby", (3, 24, 32)), ("bird", (3, 24, 32))]
    assert list(data.probe[0].lr) == ["clean", "blur", "noise"]
    np.testing.assert_array_equal((data.probe[0].lr["noise"] * 255).byte().permute(1, 2, 0).numpy(), pixels)
    assert data.held_out is data.probe
    clean, no_test = data.notes
    assert "clean" in clean
    assert "evaluated on the probe images themselves" in no_test


def test_paired_names_that_are_no_utf_8(pairs: dict[str, Any], degradation: Degradation) -> None:
    for path in [path for folder in (pairs["hr_dir"], *pairs["lr_dirs"].values()) for path in Path(folder).iterdir()]:
        path.rename(path.with_name(path.name.replace("baby", os.fsdecode(b"\xe4"))))
    data = PairedFolders(**pairs).load(degradation, seed=0)
    assert {image.name for image in data.probe} == {r"\xe4", "bird"}


def test_paired_makes_clean_by_downsampling(pairs: dict[str, Any], save_image: SaveImage) -> None:
    save_image(Path(pairs["hr_dir"]) / "baby.png", pixels=np.full((24, 32, 3), 51, np.uint8))
    quantised = Degradation({"noise": GaussianNoise()}, Downsample(), scale=2)
    clean = PairedFolders(**pairs).load(quantised, seed=0).probe[0].lr["clean"]
    torch.testing.assert_close(clean, torch.full((3, 12, 16), 0.2))


def refused(arguments: dict[str, Any], degradation: Degradation, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        PairedFolders(**arguments).load(degradation, seed=0)
    assert isinstance(caught.value, InputError) == message.startswith("^")  # it names an argument


def test_paired_with_clean_and_test_folders(
    pairs: dict[str, Any], degradation: Degradation, tmp_path: Path, save_image: SaveImage
) -> None:
    for folder, degraded in {"clean": "clean", "both": "blur+noise"}.items():
        for name in ("baby", "bird"):
            save_image(tmp_path / folder / f"{name}.png", 12, 16)
        pairs["lr_dirs"][degraded] = tmp_path / folder
    pairs["lr_dirs"]["jpeg"] = None
    pairs["test_hr_dir"] = save_image(tmp_path / "test" / "hr" / "man.png", 24, 24).parent
    pairs["test_lr_dirs"] = {
        name: save_image(tmp_path / "test" / name / "man.png", 12, 12).parent
        for name in ("clean", "blur", "noise", "blur+noise")
    }
    data = PairedFolders(**pairs).load(degradation, seed=0)
    assert (data.notes, data.degradations) == ((), ("blur", "noise"))
    assert set(data.probe[0].lr) == {"clean", "blur", "noise", "blur+noise"}
    assert [image.name for image in data.held_out] == ["man"]
    noise = pairs["test_lr_dirs"].pop("noise")
    refused(pairs, degradation, r"^test_lr_dirs\.noise: no folder given, but `lr_dirs\.noise` has")
    refused(pairs | {"test_lr_dirs": None}, degradation, r"^test_lr_dirs: no degradation given")
    refused(pairs | {"test_hr_dir": None}, degradation, r"^test_hr_dir: no folder given")
    pairs["test_lr_dirs"] |= {"noise": noise, "haze": noise}
    refused(pairs, degradation, r"^lr_dirs\.haze: no folder given, but `test_lr_dirs\.haze` has")


def test_paired_refuses_missing_partners_and_ambiguous_names(
    pairs: dict[str, Any], degradation: Degradation, save_image: SaveImage
) -> None:
    hr, noise = Path(pairs["hr_dir"]), Path(pairs["lr_dirs"]["noise"])
    extra = save_image(noise / "birdsx2.png", 12, 16)
    refused(pairs, degradation, rf"^hr_dir: no partner in {hr} for {extra}; nearest: bird\.png$")
    (noise / "birdx2.png").unlink()
    refused(
        pairs,
        degradation,
        rf"^lr_dirs\.noise: no partner in {noise} for {hr / 'bird.png'}; nearest: birdsx2\.png$",
    )
    save_image(noise / "baby.png", 12, 16)
    refused(pairs, degradation, r"^lr_dirs\.noise: two partners, baby\.png and babyx2\.png, for .*baby\.png")
    save_image(hr / "baby.bmp", 24, 32)
    refused(pairs, degradation, r"baby\.png: has the name of baby\.bmp")


@pytest.mark.parametrize("size", [(23, 32), (26, 32), (25, 34), (12, 16)])
def test_paired_refuses_wrong_sizes(
    pairs: dict[str, Any], degradation: Degradation, save_image: SaveImage, size: tuple[int, int]
) -> None:
    save_image(Path(pairs["hr_dir"]) / "baby.png", *size)
    message = rf"baby\.bmp: 16×12 pixels, but .*baby\.png has {size[1]}×{size[0]}; at scale 2"
    refused(pairs, degradation, message)


def test_paired_refuses_nothing_given_and_probe_images_as_held_out(
    pairs: dict[str, Any], degradation: Degradation
) -> None:
    nothing = pairs | {"lr_dirs": {"blur": None}}
    refused(nothing, degradation, r"^lr_dirs: no degradation given; add e\.g\. `lr_dirs\.blur`=")
    refused(pairs | {"hr_dir": None}, degradation, r"^hr_dir: no folder given")
    wrong = pairs["lr_dirs"] | {"blur": pairs["lr_dirs"]["blur"] + "red"}
    message = r"^lr_dirs\.blur: .*blurred: no such folder; nearest: .*blur$"
    refused(pairs | {"lr_dirs": wrong}, degradation, message)
    test = {"test_hr_dir": pairs["hr_dir"], "test_lr_dirs": pairs["lr_dirs"]}
    refused(pairs | test, degradation, r"baby\.png: the same image as .*baby\.png")
