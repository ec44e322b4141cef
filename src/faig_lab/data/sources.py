"""Data sources (config group `data`): the embedded photographs, and any folders of images.

A source is a frozen dataclass with one method, `load(degradation, seed) -> StudyData`. Ready-made pairs come
from `paired`, DIV2K from `div2k`.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from faig_lab.data.degradations import CLEAN, Degradation
from faig_lab.data.evaluation import PairedImage, Region, StudyData, check_crops, degrade_regions, paired_images
from faig_lab.data.images import list_images, read_image, required_folder, to_tensor
from faig_lab.data.photographs import (
    Photograph,
    check_disjoint,
    embedded_photographs,
    encoded_file,
    open_prepared,
    photograph_names,
    prepare,
    read_photograph,
    read_photographs,
)
from faig_lab.errors import UserError
from faig_lab.files import file_name, text_of

__all__ = ["EmbeddedPhotographs", "FolderPhotographs", "PairedFolders"]


@dataclass(frozen=True)
class EmbeddedPhotographs:
    """The photographs that ship with scikit-image and scikit-learn; the split is `photographs.SIDES`.

    Args:
        test_dir: a folder of held-out images in place of the embedded ones.
        probe_crop: side of the probe crops in HR pixels, cut to a multiple of the scale; None: all of it.
        probe_crops: how many per photograph; fewer where no more fit without overlap.
        test_crop: the same for held-out images.
        test_crops: the same for held-out images.

    Raises:
        UserError: a crop is smaller than 16 pixels, or fewer than one per photograph is asked for.
    """

    test_dir: str | Path | None = None
    probe_crop: int | None = 128
    probe_crops: int = 2
    test_crop: int | None = 192
    test_crops: int = 2

    def __post_init__(self) -> None:
        check_crops("probe", self.probe_crop, self.probe_crops)
        check_crops("test", self.test_crop, self.test_crops)

    def load(self, degradation: Degradation, seed: int) -> StudyData:
        """Read, check and degrade the photographs; the same for every `seed`.

        Raises:
            UserError: a photograph is missing from its package, or is another one; or `test_dir` cannot be read, or
                holds an embedded photograph that the networks are trained or attributed on.
        """
        train, probe = embedded_photographs("train"), embedded_photographs("probe")
        held_out = self._held_out((*train, *probe)) if self.test_dir is not None else embedded_photographs("held_out")
        return StudyData(
            train=train,
            probe=paired_images(probe, degradation, self.probe_crop, self.probe_crops),
            held_out=paired_images(held_out, degradation, self.test_crop, self.test_crops),
            degradations=tuple(degradation.parts),
        )

    def _held_out(self, used: Sequence[Photograph]) -> tuple[Photograph, ...]:
        """The photographs of `test_dir`."""
        folder = required_folder(self.test_dir, "data.test_dir")
        found = read_photographs(list_images(folder, "data.test_dir"))
        check_disjoint({Path(photograph.name): photograph for photograph in used}, found)
        return tuple(found.values())


@dataclass(frozen=True)
class FolderPhotographs:
    """Any folders of PNG, JPEG, BMP, TIFF or WebP images; sub-folders are not searched.

    Args:
        train_dir: images to train on, each at least a patch large; None where both weights are given.
        probe_dir: images to attribute on.
        test_dir: held-out images.
        probe_crop: side of the probe crops in HR pixels, cut to a multiple of the scale; None: all of it.
            An image that is smaller is used whole.
        probe_crops: how many per image; fewer where no more fit without overlap.
        test_crop: the same for held-out images.
        test_crops: the same for held-out images.
        prepared: folder for decoded copies, from which patches are read instead of from memory; for folders
            that do not fit into memory. None: everything is held in memory.

    Raises:
        UserError: a crop is smaller than 16 pixels, or fewer than one per image is asked for.
    """

    train_dir: str | Path | None = None
    probe_dir: str | Path | None = None
    test_dir: str | Path | None = None
    probe_crop: int | None = 128
    probe_crops: int = 2
    test_crop: int | None = 192
    test_crops: int = 2
    prepared: str | Path | None = None

    def __post_init__(self) -> None:
        check_crops("probe", self.probe_crop, self.probe_crops)
        check_crops("test", self.test_crop, self.test_crops)

    def load(self, degradation: Degradation, seed: int) -> StudyData:
        """Read every image of the folders once and degrade probe and held-out; the same for every `seed`.

        Raises:
            UserError: a folder is not given, missing or empty, an image is unreadable, or two of the folders
                hold the same file.
        """
        folders = {key: getattr(self, key) for key in ("train_dir", "probe_dir", "test_dir")}
        paths = {
            key: list_images(required_folder(folder, f"data.{key}"), f"data.{key}")
            for key, folder in folders.items()
            if folder is not None or key != "train_dir"
        }
        photographs = {key: self._read(images) for key, images in paths.items()}
        for first, second in (
            ("train_dir", "probe_dir"),
            ("train_dir", "test_dir"),
            ("probe_dir", "test_dir"),
        ):
            check_disjoint(photographs.get(first, {}), photographs[second])
        probe, held_out = (tuple(photographs[key].values()) for key in ("probe_dir", "test_dir"))
        return StudyData(
            train=tuple(photographs.get("train_dir", {}).values()),
            probe=paired_images(probe, degradation, self.probe_crop, self.probe_crops),
            held_out=paired_images(held_out, degradation, self.test_crop, self.test_crops),
            degradations=tuple(degradation.parts),
        )

    def _read(self, paths: Sequence[Path]) -> dict[Path, Photograph]:
        """The images, in memory or mapped."""
        if self.prepared is None:
            return read_photographs(paths)
        images = [encoded_file(path, name) for path, name in photograph_names(paths).items()]
        files = prepare(images, Path(self.prepared).expanduser(), "data.prepared")
        return {image.path: open_prepared(file, image.name) for image, file in zip(images, files, strict=True)}


_CLEAN_IS_MADE = "No `clean` folder was given: the clean input was made from the HR images by downsampling alone."
_NO_TEST = (
    "No test folders were given: interventions are judged on the probe images themselves, "
    "so their effect is not shown on images that the attribution has not seen."
)


@dataclass(frozen=True)
class PairedFolders:
    """Ready-made LR beside HR; nothing is degraded again and there is nothing to train on.

    An LR image has its HR image's name, with any image extension, and may have the scale after it:
    `babyx2.png` beside `baby.png`. HR may be up to scale − 1 pixels larger than scale × LR; the
    surplus is cut off at the right and bottom.

    Args:
        hr_dir: HR images of the probe.
        lr_dirs: degradation → folder of LR images; an entry of null is ignored. `clean` is optional; an
            entry with a `+` (`blur+noise`) is evaluated and not discriminated.
        test_hr_dir: the same for held-out images; without it they are judged on the probe.
        test_lr_dirs: the same degradations as `lr_dirs`.
    """

    hr_dir: str | Path | None = None
    lr_dirs: Mapping[str, str | Path | None] | None = None
    test_hr_dir: str | Path | None = None
    test_lr_dirs: Mapping[str, str | Path | None] | None = None

    def load(self, degradation: Degradation, seed: int) -> StudyData:
        """Read every pair; `degradation` gives the scale and makes `clean` where it has no folder.

        Raises:
            UserError: a folder is not given, missing or empty, an image is unreadable, without partner or of
                the wrong size, or the held-out images are probe images.
        """
        probe_folders = _Folders.checked("data.", self.hr_dir, self.lr_dirs)
        test_folders = self._test_folders(probe_folders)
        hr, probe = probe_folders.read(degradation)
        notes = [] if CLEAN in probe_folders.lr else [_CLEAN_IS_MADE]
        held_out = probe
        if test_folders is None:
            notes.append(_NO_TEST)
        else:
            test_hr, held_out = test_folders.read(degradation)
            check_disjoint(hr, test_hr)
        degradations = tuple(name for name in probe_folders.lr if name != CLEAN and "+" not in name)
        return StudyData((), probe, held_out, degradations, tuple(notes))

    def _test_folders(self, probe: "_Folders") -> "_Folders | None":
        """The held-out folders, with the same degradations as the probe's; None where none were given."""
        given = {name: folder for name, folder in (self.test_lr_dirs or {}).items() if folder is not None}
        if self.test_hr_dir is None and not given:
            return None
        test = _Folders.checked("data.test_", self.test_hr_dir, given)
        for name in sorted(set(test.lr) ^ set(probe.lr)):
            key, other = ("test_lr_dirs", "lr_dirs") if name in probe.lr else ("lr_dirs", "test_lr_dirs")
            raise UserError(f"data.{key}.{name}: no folder given, but data.{other}.{name} has one")
        return test


@dataclass(frozen=True)
class _Folders:
    """An HR folder with its LR folders, and the beginning of their keys ("data." or "data.test_")."""

    prefix: str
    hr: Path
    lr: dict[str, Path]

    @staticmethod
    def checked(prefix: str, hr: str | Path | None, lr: Mapping[str, str | Path | None] | None) -> "_Folders":
        """The folders that were given; there must be an HR folder and a degradation."""
        folders = {name: Path(folder).expanduser() for name, folder in (lr or {}).items() if folder is not None}
        if not set(folders) - {CLEAN}:
            raise UserError(f"{prefix}lr_dirs: no degradation given; add e.g. {prefix}lr_dirs.blur=path/to/images")
        for name in folders:
            file_name(name, f"{prefix}lr_dirs")
        return _Folders(prefix, required_folder(hr, f"{prefix}hr_dir"), folders)

    def read(self, degradation: Degradation) -> tuple[dict[Path, Photograph], tuple[PairedImage, ...]]:
        """All HR images, and all pairs in the order of their names."""
        scale = degradation.scale
        partners = self._partners(scale)
        photographs = {path: read_photograph(path, text_of(path.stem)) for path in partners}
        pairs = tuple(_pair(path, photographs[path], files, degradation) for path, files in partners.items())
        return photographs, pairs

    def _partners(self, scale: int) -> dict[Path, dict[str, Path]]:
        """HR file → degradation → LR file; every file has its partner."""
        hr = _by_stem(list_images(self.hr, f"{self.prefix}hr_dir"))
        partners: dict[Path, dict[str, Path]] = {path: {} for path in hr.values()}
        for name, folder in self.lr.items():
            key = f"{self.prefix}lr_dirs.{name}"
            lr = _by_stem(list_images(folder, key))
            for stem, path in hr.items():
                found = [lr.pop(s) for s in (stem, f"{stem}x{scale}") if s in lr]
                if len(found) != 1:
                    raise UserError(f"{key}: {_found(found, folder)} for {path}{_nearest(stem, lr)}")
                partners[path][name] = found[0]
            for stem, path in lr.items():
                raise UserError(f"{self.prefix}hr_dir: {_found([], self.hr)} for {path}{_nearest(stem, hr)}")
        return partners


def _by_stem(paths: list[Path]) -> dict[str, Path]:
    """Files by their names without extension, which must differ."""
    files: dict[str, Path] = {}
    for path in paths:
        if path.stem in files:
            raise UserError(f"{path}: has the name of {files[path.stem].name}; keep one of them")
        files[path.stem] = path
    return files


def _found(files: list[Path], folder: Path) -> str:
    return f"two partners, {files[0].name} and {files[1].name}," if files else f"no partner in {folder}"


def _nearest(stem: str, files: dict[str, Path]) -> str:
    close = difflib.get_close_matches(stem, files, n=1)
    return f"; nearest: {files[close[0]].name}" if close else ""


def _pair(path: Path, photograph: Photograph, files: dict[str, Path], degradation: Degradation) -> PairedImage:
    """One image: HR cut to scale × LR, the inputs from their files, and `clean` made where it has none."""
    inputs = {name: to_tensor(read_image(file)) for name, file in files.items()}
    height, width = photograph.pixels.shape[:2]
    scale = degradation.scale
    for name, lr in inputs.items():
        if tuple(lr.shape[1:]) != (height // scale, width // scale):
            raise UserError(
                f"{files[name]}: {lr.shape[2]}×{lr.shape[1]} pixels, but {path} has {width}×{height}; "
                f"at scale {scale} it should be {width // scale}×{height // scale}"
            )
    size = (height // scale * scale, width // scale * scale)
    if CLEAN not in inputs:
        inputs = {CLEAN: _clean(photograph, size, degradation), **inputs}
    return PairedImage(photograph.name, to_tensor(photograph.pixels[: size[0], : size[1]]), inputs)


def _clean(photograph: Photograph, size: tuple[int, int], degradation: Degradation) -> Tensor:
    """HR, only downsampled."""
    region = Region(photograph.name, photograph.pixels, 0, 0, size)
    (image,) = degrade_regions([region], degradation, {CLEAN: frozenset()})
    return image.lr[CLEAN]
