"""The sources: what they hand over, and what they refuse before any work is done."""

import importlib
import os
import shutil
from collections.abc import Callable
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
    assert data.degradations == ("blur", "noise")
    assert data.notes == ()
    assert {image.hr.shape for image in data.probe} == {(3, 30, 30)}
    assert {image.hr.shape for image in data.held_out} == {(3, 48, 48)}
    assert len(data.probe) >= 2
    assert len(data.held_out) >= 6
    assert len(data.train) >= 6
    for image in data.held_out:  # Blur must matter on what it is judged on.
        assert (image.lr["blur"] - image.lr["clean"]).abs().mean() > 0.01
    assert_identical(data, source.load(degradation, seed=1))


def test_held_out_photographs_of_a_folder_replace_the_embedded_ones(
    tmp_path: Path, degradation: Degradation, save_image: SaveImage
) -> None:
    for name in ("one", "two"):
        save_image(tmp_path / "held" / f"{name}.png", 64, 64)
    source = EmbeddedPhotographs(test_dir=tmp_path / "held", probe_crop=32, test_crop=48, test_crops=1)
    data = source.load(degradation, seed=0)
    own = EmbeddedPhotographs(probe_crop=32, test_crop=48).load(degradation, seed=0)
    assert {image.scene for image in data.held_out} == {"one", "two"}
    assert [photo.sha256 for photo in data.train] == [photo.sha256 for photo in own.train]
    assert all(torch.equal(a.hr, b.hr) for a, b in zip(data.probe, own.probe, strict=True))


@pytest.mark.parametrize("side", ["train", "probe"])
def test_a_photograph_that_is_trained_or_attributed_on_is_not_held_out(
    tmp_path: Path, degradation: Degradation, side: Side
) -> None:
    file = next(file for file in FILES if SIDES[file.scene] == side)
    shutil.copy(Path(importlib.import_module(file.module).__file__ or "").parent / file.path, tmp_path)
    with pytest.raises(UserError, match="the same image as"):
        EmbeddedPhotographs(test_dir=tmp_path).load(degradation, seed=0)


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_held_out_photographs_is_refused(
    tmp_path: Path, degradation: Degradation, folder: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"test_dir"):
        EmbeddedPhotographs(test_dir=tmp_path / folder).load(degradation, seed=0)


def test_the_default_crops_of_the_embedded_photographs_all_fit() -> None:
    data = EmbeddedPhotographs().load(Degradation({"blur": GaussianBlur()}, Downsample(), scale=2), seed=0)
    assert len(data.held_out) == 2 * len({image.name.split("_")[0] for image in data.held_out})
    assert {image.hr.shape for image in data.held_out} == {(3, 192, 192)}


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


def test_folder(folders: dict[str, Path], degradation: Degradation, rng: np.random.Generator) -> None:
    Image.fromarray(rng.integers(0, 65536, (40, 40), dtype=np.uint16)).save(folders["train_dir"] / "c.png")
    source = FolderPhotographs(**folders, probe_crop=16, probe_crops=1, test_crop=None)
    data = source.load(degradation, seed=3)
    assert [(photo.name, photo.pixels.dtype) for photo in data.train] == [
        ("a", np.uint8),
        ("b", np.uint8),
        ("c", np.uint16),
    ]
    assert [image.hr.shape for image in data.probe] == [(3, 16, 16)] * 2
    assert [(image.name, image.hr.shape) for image in data.held_out] == [
        ("a", (3, 24, 32)),
        ("b", (3, 24, 32)),
    ]
    assert_identical(data, source.load(degradation, seed=4))


def test_folder_without_training_images(folders: dict[str, Path], degradation: Degradation) -> None:
    folders.pop("train_dir")
    assert FolderPhotographs(**folders).load(degradation, seed=0).train == ()


def test_folder_names_are_unique(folders: dict[str, Path], degradation: Degradation, save_image: SaveImage) -> None:
    save_image(folders["test_dir"] / "a.bmp")
    data = FolderPhotographs(**folders, test_crop=None).load(degradation, seed=0)
    assert [image.name for image in data.held_out] == ["a.bmp", "a.png", "b"]


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


def test_folder_refuses_what_is_missing(folders: dict[str, Path], degradation: Degradation) -> None:
    with pytest.raises(InputError, match=r"^probe_dir: no folder given; add `probe_dir`="):
        FolderPhotographs(**folders | {"probe_dir": None}).load(degradation, seed=0)
    missing = folders["probe_dir"].with_name("prob")
    with pytest.raises(InputError, match=rf"^probe_dir: {missing}: no such folder; nearest: .*probe$"):
        FolderPhotographs(**folders | {"probe_dir": missing}).load(degradation, seed=0)


def test_folder_refuses_unreadable_images(folders: dict[str, Path], degradation: Degradation) -> None:
    path = folders["train_dir"] / "b.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=rf"^{path}: damaged or incomplete image"):
        FolderPhotographs(**folders).load(degradation, seed=0)


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
    lr_dirs = {"blur": str(tmp_path / "blur"), "noise": str(tmp_path / "noise")}
    return {"hr_dir": str(tmp_path / "hr"), "lr_dirs": lr_dirs}


def test_paired(pairs: dict[str, Any], degradation: Degradation, save_image: SaveImage) -> None:
    pixels = np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3)
    save_image(Path(pairs["lr_dirs"]["noise"]) / "babyx2.png", pixels=pixels)
    data = PairedFolders(**pairs).load(degradation, seed=0)
    assert data.train == ()
    assert data.degradations == ("blur", "noise")
    assert [image.name for image in data.probe] == ["baby", "bird"]
    assert data.probe[0].hr.shape == (3, 24, 32)
    assert list(data.probe[0].lr) == ["clean", "blur", "noise"]
    np.testing.assert_array_equal((data.probe[0].lr["noise"] * 255).byte().permute(1, 2, 0).numpy(), pixels)
    assert data.held_out is data.probe
    assert len(data.notes) == 2
    assert "clean" in data.notes[0]
    assert "evaluated on the probe images themselves" in data.notes[1]


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


def test_paired_with_clean_and_test_folders(
    pairs: dict[str, Any], degradation: Degradation, tmp_path: Path, save_image: SaveImage
) -> None:
    for folder in ("clean", "both"):
        for name in ("baby", "bird"):
            save_image(tmp_path / folder / f"{name}.png", 12, 16)
        pairs["lr_dirs"][{"both": "blur+noise"}.get(folder, folder)] = tmp_path / folder
    pairs["lr_dirs"]["jpeg"] = None
    pairs["test_hr_dir"] = save_image(tmp_path / "test" / "hr" / "man.png", 24, 24).parent
    pairs["test_lr_dirs"] = {
        name: save_image(tmp_path / "test" / name / "man.png", 12, 12).parent
        for name in ("clean", "blur", "noise", "blur+noise")
    }
    data = PairedFolders(**pairs).load(degradation, seed=0)
    assert data.notes == ()
    assert data.degradations == ("blur", "noise")
    assert set(data.probe[0].lr) == {"clean", "blur", "noise", "blur+noise"}
    assert [image.name for image in data.held_out] == ["man"]
    pairs["test_lr_dirs"].pop("noise")
    with pytest.raises(InputError, match=r"^test_lr_dirs\.noise: no folder given, but `lr_dirs\.noise` has"):
        PairedFolders(**pairs).load(degradation, seed=0)
    with pytest.raises(InputError, match=r"^test_lr_dirs: no degradation given"):
        PairedFolders(**pairs | {"test_lr_dirs": None}).load(degradation, seed=0)
    with pytest.raises(InputError, match=r"^test_hr_dir: no folder given"):
        PairedFolders(**pairs | {"test_hr_dir": None}).load(degradation, seed=0)


def test_paired_refuses_probe_images_as_held_out(pairs: dict[str, Any], degradation: Degradation) -> None:
    test = {"test_hr_dir": pairs["hr_dir"], "test_lr_dirs": pairs["lr_dirs"]}
    with pytest.raises(UserError, match=r"baby\.png: the same image as .*baby\.png"):
        PairedFolders(**pairs, **test).load(degradation, seed=0)


def test_paired_refuses_missing_partners(
    pairs: dict[str, Any], degradation: Degradation, save_image: SaveImage
) -> None:
    hr, noise = Path(pairs["hr_dir"]), Path(pairs["lr_dirs"]["noise"])
    extra = save_image(noise / "birdsx2.png", 12, 16)
    with pytest.raises(InputError, match=rf"^hr_dir: no partner in {hr} for {extra}; nearest: bird\.png$"):
        PairedFolders(**pairs).load(degradation, seed=0)
    (noise / "birdx2.png").unlink()
    with pytest.raises(
        UserError,
        match=rf"^lr_dirs\.noise: no partner in {noise} for {hr / 'bird.png'}; nearest: birdsx2\.png$",
    ):
        PairedFolders(**pairs).load(degradation, seed=0)


def test_paired_refuses_ambiguous_names(pairs: dict[str, Any], degradation: Degradation, save_image: SaveImage) -> None:
    second = save_image(Path(pairs["lr_dirs"]["noise"]) / "baby.png", 12, 16)
    with pytest.raises(UserError, match=r"two partners, baby\.png and babyx2\.png, for .*baby\.png"):
        PairedFolders(**pairs).load(degradation, seed=0)
    second.unlink()
    save_image(Path(pairs["hr_dir"]) / "baby.bmp", 24, 32)
    with pytest.raises(UserError, match=r"baby\.png: has the name of baby\.bmp"):
        PairedFolders(**pairs).load(degradation, seed=0)


@pytest.mark.parametrize("size", [(23, 32), (26, 32), (25, 34), (12, 16)])
def test_paired_refuses_wrong_sizes(
    pairs: dict[str, Any], degradation: Degradation, save_image: SaveImage, size: tuple[int, int]
) -> None:
    save_image(Path(pairs["hr_dir"]) / "baby.png", *size)
    with pytest.raises(
        UserError, match=rf"baby\.bmp: 16×12 pixels, but .*baby\.png has {size[1]}×{size[0]}; at scale 2"
    ):
        PairedFolders(**pairs).load(degradation, seed=0)


def test_paired_refuses_nothing_given(pairs: dict[str, Any], degradation: Degradation) -> None:
    with pytest.raises(InputError, match=r"^lr_dirs: no degradation given; add e\.g\. `lr_dirs\.blur`="):
        PairedFolders(hr_dir=pairs["hr_dir"], lr_dirs={"blur": None}).load(degradation, seed=0)
    with pytest.raises(InputError, match=r"^hr_dir: no folder given"):
        PairedFolders(lr_dirs=pairs["lr_dirs"]).load(degradation, seed=0)
    wrong = pairs["lr_dirs"] | {"blur": pairs["lr_dirs"]["blur"] + "red"}
    with pytest.raises(InputError, match=r"^lr_dirs\.blur: .*blurred: no such folder; nearest: .*blur$"):
        PairedFolders(**pairs | {"lr_dirs": wrong}).load(degradation, seed=0)
