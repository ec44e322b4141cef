"""DIV2K from a local server: downloaded, prepared and split, each once."""

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
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
TRAIN, VALID = "DIV2K_train_HR", "DIV2K_valid_HR"


def png(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def zipped(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as content:
        for name, data in members.items():
            content.writestr(name, data)
    return file.getvalue()


@dataclass
class Site:
    """A server of both archives, laid out as the real ones, and the folder of a source."""

    server: FileServer
    images: dict[str, dict[str, bytes]]
    root: Path
    degradation: Degradation

    def pack(self, side: str, more: Mapping[str, bytes] = MappingProxyType({})) -> None:
        self.server.files[f"{side}.zip"] = zipped({f"{side}/": b"", **self.images[side], **more})

    def source(self, **changes: Any) -> Div2k:
        archives = {}
        for argument, side, count in (("train", TRAIN, 3), ("valid", VALID, 6)):
            content = self.server.files.get(f"{side}.zip", b"")
            archives[argument] = Archive(f"{side}.zip", count, hashlib.sha256(content).hexdigest(), len(content))
        crops = {"probe_crop": 32, "probe_crops": 1, "test_crop": 32, "test_crops": 1}
        arguments = {"root": self.root, "base_url": self.server.url + "/", "probe_images": 2, "test_images": 3}
        return Div2k(**archives | arguments | crops | changes)

    def load(self, **changes: Any) -> StudyData:
        return self.source(**changes).load(self.degradation, seed=0)

    def refused(self, message: str, **changes: Any) -> None:
        with pytest.raises(UserError, match=message):
            self.load(**changes)


@pytest.fixture
def site(rng: np.random.Generator, tmp_path: Path, degradation: Degradation) -> Iterator[Site]:
    numbers = {TRAIN: range(1, 4), VALID: range(801, 807)}
    images = {side: {f"{side}/{n:04}.png": png(rng) for n in some} for side, some in numbers.items()}
    with serving() as server:
        site = Site(server, images, tmp_path / "DIV2K", degradation)
        for side in images:
            site.pack(side)
        yield site


def sides(data: StudyData) -> tuple[list[str], list[str], list[str]]:
    def names(images: Any) -> list[str]:
        return [image.name.split("_")[0] for image in images]

    return [photo.name for photo in data.train], names(data.probe), names(data.held_out)


def test_downloaded_prepared_and_split_once_and_the_archives_may_go(site: Site) -> None:
    first = site.load()
    assert sides(first) == (["0001", "0002", "0003"], ["0801", "0802"], ["0803", "0804", "0805"])
    assert first.degradations == ("blur", "noise")
    for photo, (_, content) in zip(first.train, sorted(site.images[TRAIN].items()), strict=True):
        assert isinstance(photo.pixels, np.memmap)
        assert photo.sha256 == hashlib.sha256(content).hexdigest()
        np.testing.assert_array_equal(photo.pixels, np.asarray(Image.open(io.BytesIO(content))))
    before = {path: path.stat().st_mtime_ns for path in (site.root / "prepared").glob("*.*")}
    for archive in site.root.glob("*.zip"):
        archive.unlink()
    again = site.source().load(site.degradation, seed=1)
    assert [path for path, _ in site.server.requests] == [f"{TRAIN}.zip", f"{VALID}.zip"]
    assert {path: path.stat().st_mtime_ns for path in (site.root / "prepared").glob("*.*")} == before
    assert [photo.sha256 for photo in again.train] == [photo.sha256 for photo in first.train]
    for image, same in zip((*first.probe, *first.held_out), (*again.probe, *again.held_out), strict=True):
        assert image.name == same.name
        assert all(torch.equal(lr, same.lr[name]) for name, lr in image.lr.items())


def test_what_is_prepared_is_opened_without_writing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.load()

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("a disk for reading only")

    for target in ((Path, "mkdir"), (Path, "touch"), ("faig_lab.data.div2k.FileLock",), ("tempfile.mkstemp",)):
        monkeypatch.setattr(*target, refuse)
    assert len(site.load().train) == 3


def test_a_line_that_breaks_off_and_a_prepared_image_that_is_lost(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faig_lab.data.div2k.time.sleep", lambda seconds: None)
    site.server.broken = [3000, 5000]
    site.load()
    assert [asked for _, asked in site.server.requests[:3]] == [None, "bytes=3000-", "bytes=8000-"]
    next((site.root / "prepared").glob("0002-*.npy")).unlink()
    asked = len(site.server.requests)
    assert len(site.load().train) == 3
    assert len(site.server.requests) == asked  # from the archive that is there


def test_archives_and_folders_that_are_there_are_taken(site: Site) -> None:
    folder = site.root / VALID
    folder.mkdir(parents=True)
    (site.root / f"{TRAIN}.zip").write_bytes(site.server.files[f"{TRAIN}.zip"])
    *most, last = site.images[VALID].items()
    for name, content in most:
        (site.root / name).write_bytes(content)
    site.refused(rf"^valid\.images: {folder} holds 5 images, expected 6; delete it")
    (site.root / last[0]).write_bytes(last[1])
    for test_images, held_out in ((3, ["0803", "0804", "0805"]), (None, ["0803", "0804", "0805", "0806"])):
        assert sides(site.load(test_images=test_images))[1:] == (["0801", "0802"], held_out)
    assert site.server.requests == []


def test_probe_and_held_out_from_folders(site: Site, tmp_path: Path, save_image: SaveImage) -> None:
    probe = save_image(tmp_path / "probe" / "p.png", 40, 48).parent
    test = save_image(tmp_path / "test" / "t.png", 40, 48).parent
    assert sides(site.load(probe_dir=probe))[1:] == (["p"], ["0801", "0802", "0803"])
    assert sides(site.load(test_dir=test))[1:] == (["0801", "0802"], ["t"])
    site.server.files.pop(f"{VALID}.zip")
    folders = {"root": tmp_path / "other", "probe_dir": probe, "test_dir": test}
    assert sides(site.load(**folders))[1:] == (["p"], ["t"])  # without the validation images
    shutil.copy(probe / "p.png", test / "copy.png")
    site.refused(r"copy\.png: the same image as .*p\.png", **folders)


def test_nothing_to_train_on_where_both_weights_are_given(site: Site) -> None:
    assert site.load(train=None).train == ()
    assert [path for path, _ in site.server.requests] == [f"{VALID}.zip"]


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png"])
def test_an_archive_that_leads_out_of_its_folder_is_refused(site: Site, tmp_path: Path, name: str) -> None:
    site.pack(TRAIN, {name: png(np.random.default_rng(0))})
    site.refused("leads out of the archive; it is not used, get another copy")
    assert list(tmp_path.iterdir()) == [site.root]
    assert list(tmp_path.rglob("*.npy")) == []


def test_other_files_in_an_archive_are_left_out_and_its_images_are_counted(site: Site) -> None:
    site.pack(TRAIN, {"readme.txt": b"", f"__MACOSX/{TRAIN}/._0001.png": b"x", f"{TRAIN}/.hidden.png": b"x"})
    assert len(site.load().train) == 3
    more = replace(site.source().train, images=4)  # type: ignore[type-var]
    site.refused(r"^train\.images: .*DIV2K_train_HR\.zip holds 3 images, expected 4", train=more)


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: flipped(c, 1000), lambda c: b"no zip"])
def test_a_damaged_archive_is_named(site: Site, damage: Callable[[bytes], bytes]) -> None:
    site.server.files[f"{TRAIN}.zip"] = damage(site.server.files[f"{TRAIN}.zip"])
    path = site.root / f"{TRAIN}.zip"
    site.refused(rf"^{path}: a damaged archive \(.*\); delete it to download it again$")


def test_a_damaged_image_in_the_archive_is_named_and_what_was_decoded_is_kept(site: Site) -> None:
    name = f"{TRAIN}/0003.png"
    site.images[TRAIN][name] = site.images[TRAIN][name][:500]
    site.pack(TRAIN)
    site.refused(rf"{TRAIN}\.zip/{TRAIN}/0003\.png: damaged or incomplete image")
    assert sorted(path.name[:4] for path in site.root.rglob("*.npy")) == ["0001", "0002"]


def test_a_damaged_index_or_one_of_another_archive_is_made_anew(site: Site) -> None:
    site.load()
    index = site.root / "prepared" / f"{TRAIN}.json"
    before = json.loads(index.read_text())
    for content in ("", "[]", '{"sha256": null}', '{"sha256": null, "photographs": {}}'):
        index.write_text(content)
        site.load()
        assert json.loads(index.read_text()) == before
    site.images[TRAIN][f"{TRAIN}/0003.png"] = site.images[VALID][f"{VALID}/0804.png"]
    site.pack(TRAIN)
    (site.root / f"{TRAIN}.zip").unlink()
    site.refused(rf"{VALID}/0804\.png: the same image as .*{TRAIN}/0003\.png")  # of the new archive


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
def test_numbers_that_do_not_fit(site: Site, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        site.source(**changes)


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
