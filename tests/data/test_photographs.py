"""The embedded photographs: real files, checked, each scene on one side."""

import importlib.machinery
import importlib.util
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from faig_lab.data import photographs
from faig_lab.data.photographs import FILES, SIDES, Side, embedded_photographs, read_photograph
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
