"""DIV2K from a local server: downloaded, prepared and split, each once."""

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from file_server import FileServer, serving
from PIL import Image

from faig_lab.cli.arguments import compose
from faig_lab.config import check
from faig_lab.config.targets import make
from faig_lab.data import Archive, Degradation, Div2k, StudyData
from faig_lab.errors import UserError

SaveImage = Callable[..., Path]
Images = dict[str, dict[str, bytes]]
TRAIN, VALID = 3, 6


def png(rng: np.random.Generator, height: int = 40, width: int = 48) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def zipped(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as content:
        for name, data in members.items():
            content.writestr(name, data)
    return file.getvalue()


@pytest.fixture
def images(rng: np.random.Generator) -> Images:
    """The content of both archives, as the real ones lay it out."""
    return {
        "train": {f"DIV2K_train_HR/{n:04}.png": png(rng) for n in range(1, TRAIN + 1)},
        "valid": {f"DIV2K_valid_HR/{n:04}.png": png(rng) for n in range(801, 801 + VALID)},
    }


@pytest.fixture
def server(images: Images) -> Iterator[FileServer]:
    with serving() as server:
        server.files = {
            f"DIV2K_{side}_HR.zip": zipped({f"DIV2K_{side}_HR/": b"", **members}) for side, members in images.items()
        }
        yield server


Source = Callable[..., Div2k]


@pytest.fixture
def source(server: FileServer, tmp_path: Path) -> Source:
    def make(**changes: Any) -> Div2k:
        archives = {}
        for side, count in (("train", TRAIN), ("valid", VALID)):
            content = server.files.get(f"DIV2K_{side}_HR.zip", b"")
            digest = hashlib.sha256(content).hexdigest()
            archives[side] = Archive(f"DIV2K_{side}_HR.zip", count, digest, len(content))
        arguments = {
            "root": tmp_path / "DIV2K",
            "base_url": server.url + "/",
            "probe_images": 2,
            "test_images": 3,
            "probe_crop": 32,
            "probe_crops": 1,
            "test_crop": 32,
            "test_crops": 1,
        }
        return Div2k(**archives | arguments | changes)

    return make


def sides(data: StudyData) -> tuple[list[str], list[str], list[str]]:
    def names(images: Images) -> list[str]:
        return [image.name.split("_")[0] for image in images]

    return [photo.name for photo in data.train], names(data.probe), names(data.held_out)


def test_downloaded_prepared_and_split_once_and_the_archives_may_go(
    source: Source, server: FileServer, degradation: Degradation, images: Images, tmp_path: Path
) -> None:
    first = source().load(degradation, seed=0)
    assert sides(first) == (["0001", "0002", "0003"], ["0801", "0802"], ["0803", "0804", "0805"])
    assert first.degradations == ("blur", "noise")
    for photo, (_, content) in zip(first.train, sorted(images["train"].items()), strict=True):
        assert isinstance(photo.pixels, np.memmap)
        assert photo.sha256 == hashlib.sha256(content).hexdigest()
        np.testing.assert_array_equal(photo.pixels, np.asarray(Image.open(io.BytesIO(content))))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "DIV2K" / "prepared").glob("*.*")}
    for archive in (tmp_path / "DIV2K").glob("*.zip"):
        archive.unlink()
    again = source().load(degradation, seed=1)
    assert [path for path, _ in server.requests] == ["DIV2K_train_HR.zip", "DIV2K_valid_HR.zip"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "DIV2K" / "prepared").glob("*.*")} == before
    assert [photo.sha256 for photo in again.train] == [photo.sha256 for photo in first.train]
    for image, same in zip((*first.probe, *first.held_out), (*again.probe, *again.held_out), strict=True):
        assert image.name == same.name
        assert all(torch.equal(lr, same.lr[name]) for name, lr in image.lr.items())


def test_what_is_prepared_is_opened_without_writing(
    source: Source, degradation: Degradation, monkeypatch: pytest.MonkeyPatch
) -> None:
    source().load(degradation, seed=0)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("a disk for reading only")

    for target in (
        (Path, "mkdir"),
        (Path, "touch"),
        ("faig_lab.data.div2k.FileLock",),
        ("faig_lab.files.tempfile.mkstemp",),
    ):
        monkeypatch.setattr(*target, refuse)
    assert len(source().load(degradation, seed=0).train) == TRAIN


def test_a_line_that_breaks_off_and_a_prepared_image_that_is_lost(
    source: Source, server: FileServer, degradation: Degradation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faig_lab.data.div2k.time.sleep", lambda seconds: None)
    server.broken = [3000, 5000]
    source().load(degradation, seed=0)
    assert [asked for _, asked in server.requests[:3]] == [None, "bytes=3000-", "bytes=8000-"]
    next((tmp_path / "DIV2K" / "prepared").glob("0002-*.npy")).unlink()
    asked = len(server.requests)
    assert len(source().load(degradation, seed=0).train) == TRAIN
    assert len(server.requests) == asked  # from the archive that is there


def test_archives_and_folders_that_are_there_are_taken(
    source: Source, server: FileServer, degradation: Degradation, images: Images, tmp_path: Path
) -> None:
    root = tmp_path / "DIV2K"
    (root / "DIV2K_valid_HR").mkdir(parents=True)
    (root / "DIV2K_train_HR.zip").write_bytes(server.files["DIV2K_train_HR.zip"])
    for name, content in list(images["valid"].items())[1:]:
        (root / name).write_bytes(content)
    incomplete = rf"^valid\.images: {root / 'DIV2K_valid_HR'} holds 5 images, expected 6; delete it"
    with pytest.raises(UserError, match=incomplete):
        source().load(degradation, seed=0)
    (root / "DIV2K_valid_HR/0801.png").write_bytes(images["valid"]["DIV2K_valid_HR/0801.png"])
    for test_images, held_out in ((3, ["0803", "0804", "0805"]), (None, ["0803", "0804", "0805", "0806"])):
        data = source(test_images=test_images).load(degradation, seed=0)
        assert sides(data)[1:] == (["0801", "0802"], held_out)
    assert server.requests == []


def test_probe_and_held_out_from_folders(
    source: Source, server: FileServer, degradation: Degradation, tmp_path: Path, save_image: SaveImage
) -> None:
    probe = save_image(tmp_path / "probe" / "p.png", 40, 48).parent
    test = save_image(tmp_path / "test" / "t.png", 40, 48).parent
    assert sides(source(probe_dir=probe).load(degradation, seed=0))[1:] == (["p"], ["0801", "0802", "0803"])
    assert sides(source(test_dir=test).load(degradation, seed=0))[1:] == (["0801", "0802"], ["t"])
    server.files.pop("DIV2K_valid_HR.zip")
    both = source(root=tmp_path / "other", probe_dir=probe, test_dir=test).load(degradation, seed=0)
    assert sides(both)[1:] == (["p"], ["t"])  # without the validation images
    shutil.copy(probe / "p.png", test / "copy.png")
    with pytest.raises(UserError, match=r"copy\.png: the same image as .*p\.png"):
        source(root=tmp_path / "other", probe_dir=probe, test_dir=test).load(degradation, seed=0)


def test_nothing_to_train_on_where_both_weights_are_given(
    source: Source, server: FileServer, degradation: Degradation
) -> None:
    assert source(train=None).load(degradation, seed=0).train == ()
    assert [path for path, _ in server.requests] == ["DIV2K_valid_HR.zip"]


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png"])
def test_an_archive_that_leads_out_of_its_folder_is_refused(
    source: Source, server: FileServer, degradation: Degradation, images: Images, tmp_path: Path, name: str
) -> None:
    server.files["DIV2K_train_HR.zip"] = zipped({**images["train"], name: png(np.random.default_rng(0))})
    before = {path for path in tmp_path.rglob("*") if tmp_path / "DIV2K" not in (path, *path.parents)}
    with pytest.raises(UserError, match="leads out of the archive; it is not used, get another copy"):
        source().load(degradation, seed=0)
    assert {path for path in tmp_path.rglob("*") if tmp_path / "DIV2K" not in (path, *path.parents)} == before
    assert list(tmp_path.rglob("*.npy")) == []


def test_other_files_in_an_archive_are_left_out_and_its_images_are_counted(
    source: Source, server: FileServer, degradation: Degradation, images: Images
) -> None:
    extra = {"readme.txt": b"", "__MACOSX/DIV2K_train_HR/._0001.png": b"x", "DIV2K_train_HR/.hidden.png": b"x"}
    server.files["DIV2K_train_HR.zip"] = zipped({**images["train"], **extra})
    assert len(source().load(degradation, seed=0).train) == TRAIN
    with pytest.raises(UserError, match=r"^train\.images: .*DIV2K_train_HR\.zip holds 3 images, expected 4"):
        source(train=replace(source().train, images=4)).load(degradation, seed=0)


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: flipped(c, 1000), lambda c: b"no zip"])
def test_a_damaged_archive_is_named(
    source: Source, server: FileServer, degradation: Degradation, damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    server.files["DIV2K_train_HR.zip"] = damage(server.files["DIV2K_train_HR.zip"])
    path = tmp_path / "DIV2K" / "DIV2K_train_HR.zip"
    with pytest.raises(UserError, match=rf"^{path}: a damaged archive \(.*\); delete it to download it again$"):
        source().load(degradation, seed=0)


def test_a_damaged_image_in_the_archive_is_named_and_what_was_decoded_is_kept(
    source: Source, server: FileServer, degradation: Degradation, images: Images, tmp_path: Path
) -> None:
    whole = dict(images["train"])
    images["train"]["DIV2K_train_HR/0003.png"] = whole["DIV2K_train_HR/0003.png"][:500]
    server.files["DIV2K_train_HR.zip"] = zipped(images["train"])
    with pytest.raises(UserError, match=r"DIV2K_train_HR\.zip/DIV2K_train_HR/0003\.png: damaged or incomplete image"):
        source().load(degradation, seed=0)
    assert sorted(path.name[:4] for path in tmp_path.rglob("*.npy")) == ["0001", "0002"]


def test_a_damaged_index_or_one_of_another_archive_is_made_anew(
    source: Source, server: FileServer, degradation: Degradation, images: Images, tmp_path: Path
) -> None:
    source().load(degradation, seed=0)
    index = tmp_path / "DIV2K" / "prepared" / "DIV2K_train_HR.json"
    before = json.loads(index.read_text())
    for content in ("", "[]", '{"sha256": null}', '{"sha256": null, "photographs": {}}'):
        index.write_text(content)
        source().load(degradation, seed=0)
        assert json.loads(index.read_text()) == before
    images["train"]["DIV2K_train_HR/0003.png"] = images["valid"]["DIV2K_valid_HR/0804.png"]
    server.files["DIV2K_train_HR.zip"] = zipped(images["train"])
    (tmp_path / "DIV2K" / "DIV2K_train_HR.zip").unlink()
    same = r"DIV2K_valid_HR/0804\.png: the same image as .*DIV2K_train_HR/0003\.png"
    with pytest.raises(UserError, match=same):  # the new archive holds a held-out image
        source().load(degradation, seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probe_images": 0}, r"probe_images: must be from 1 to 5, not 0"),
        ({"probe_images": 6}, r"probe_images: must be from 1 to 5, not 6"),
        ({"test_images": 5}, r"test_images: must be from 1 to 4, not 5: 2 of the 6 validation images are"),
        ({"test_images": 0}, r"test_images: must be from 1 to 4, not 0"),
        ({"probe_crop": 8}, r"probe_crop: 8 HR pixels is too small"),
    ],
)
def test_numbers_that_do_not_fit(source: Source, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        source(**changes)


# The configuration


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        check(compose(["data=div2k", *overrides]))
    return str(caught.value)


def test_the_configuration_is_the_whole_of_div2k() -> None:
    settings = check(compose(["data=div2k"]))
    source = make(settings.data)
    assert isinstance(source, Div2k)
    assert source.train is not None
    assert (source.train.images, source.valid.images) == (800, 100)
    assert {len(archive.sha256 or "") for archive in (source.train, source.valid)} == {64}
    assert not Path(source.root).is_absolute()


def test_bad_settings_name_their_key() -> None:
    assert refusal("+data.train.sha=1") == "data.train.sha: unknown key of Archive; did you mean sha256?"
    assert refusal("data.train.images=0") == "data.train.images: must be at least 1, not 0"
    assert refusal("data.valid.file=../x.zip") == (
        "data.valid.file: must be the name of a .zip without folders, not ../x.zip"
    )
    assert "data.probe_images: must be from 1 to 99" in refusal("data.probe_images=100")
    assert "data.probe_dir: nowhere: no such folder" in refusal("data.probe_dir=nowhere")
    check(compose(["data=div2k", "data.train=null"]))
