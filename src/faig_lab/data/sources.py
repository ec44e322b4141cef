"""Data sources (config group `data`): the embedded photographs, folders of images, and ready-made pairs.

A source is a frozen dataclass with one method, `load(degradation, seed) -> StudyData`. DIV2K is in `div2k`.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from faig_lab.data.degradations.pipeline import CLEAN, Degradation
from faig_lab.data.evaluation import Crops, PairedImage, Region, StudyData, degrade_regions
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
from faig_lab.errors import InputError, UserError
from faig_lab.files import file_name, text_of

_CLEAN_IS_MADE = "No `clean` folder was given: the clean input was made from the HR images by downsampling alone."
_NO_TEST = (
    "No test folders were given: interventions are evaluated on the probe images themselves, "
    "so their effect is not shown on images that the attribution has not seen."
)


@dataclass(frozen=True)
class EmbeddedPhotographs(Crops):
    """The photographs that ship with scikit-image and scikit-learn; the split is `photographs.SIDES`.

    Args:
        test_dir: a folder of held-out images in place of the embedded ones.

    Raises:
        InputError: as `Crops`.
    """

    test_dir: str | Path | None = None

    def load(self, degradation: Degradation, seed: int) -> StudyData:
        """Read, check and degrade the photographs; the same for every `seed`.

        Raises:
            InputError: a photograph is missing from its package or has changed, or `test_dir` cannot be read.
            UserError: `test_dir` holds an embedded photograph that the networks are trained or attributed on.
        """
        train, probe = embedded_photographs("train"), embedded_photographs("probe")
        if self.test_dir is None:
            return self.study(train, probe, embedded_photographs("held_out"), degradation)
        held_out = read_photographs(list_images(self.test_dir, "test_dir"))
        check_disjoint({Path(photograph.name): photograph for photograph in (*train, *probe)}, held_out)
        return self.study(train, probe, held_out.values(), degradation)


@dataclass(frozen=True)
class FolderPhotographs(Crops):
    """Any folders of PNG, JPEG, BMP, TIFF or WebP images; sub-folders are not searched.

    Args:
        train_dir: images to train on, each at least a patch large; None where both weights are given.
        probe_dir: images to attribute on.
        test_dir: held-out images.
        prepared: folder for decoded copies, from which patches are read instead of from memory; for folders
            that do not fit into memory. None: everything is held in memory.

    Raises:
        InputError: as `Crops`.
    """

    train_dir: str | Path | None = None
    probe_dir: str | Path | None = None
    test_dir: str | Path | None = None
    prepared: str | Path | None = None

    def load(self, degradation: Degradation, seed: int) -> StudyData:
        """Read every image of the folders once and degrade probe and held-out; the same for every `seed`.

        Raises:
            InputError: a folder is not given, missing or empty.
            UserError: an image cannot be read, or two of the folders hold the same file.
        """
        paths = [list_images(self.train_dir, "train_dir") if self.train_dir is not None else []]
        paths += [list_images(self.probe_dir, "probe_dir"), list_images(self.test_dir, "test_dir")]
        train, probe, held_out = map(self._read, paths)
        check_disjoint(train, probe, held_out)
        return self.study(train.values(), probe.values(), held_out.values(), degradation)

    def _read(self, paths: Sequence[Path]) -> dict[Path, Photograph]:
        """Read the images into memory, or map them from prepared files."""
        if self.prepared is None:
            return read_photographs(paths)
        images = [encoded_file(path, name) for path, name in photograph_names(paths).items()]
        files = prepare(images, Path(self.prepared).expanduser(), "prepared")
        return {image.path: open_prepared(file, image.name) for image, file in zip(images, files, strict=True)}


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
        test_hr_dir: the same for held-out images; without it masking is evaluated on the probe.
        test_lr_dirs: the same degradations as `lr_dirs`.
    """

    hr_dir: str | Path | None = None
    lr_dirs: Mapping[str, str | Path | None] | None = None
    test_hr_dir: str | Path | None = None
    test_lr_dirs: Mapping[str, str | Path | None] | None = None

    def load(self, degradation: Degradation, seed: int) -> StudyData:
        """Read every pair; `degradation` has the scale, and makes the input `clean` if it has no folder.

        Raises:
            InputError: a folder is not given, missing or empty, or an image has no partner.
            UserError: an image cannot be read or has the wrong size, or the held-out images are probe images.
        """
        hr_dir, lr_dirs = _folders("", self.hr_dir, self.lr_dirs)
        test = None
        if self.test_hr_dir is not None or any(folder is not None for folder in (self.test_lr_dirs or {}).values()):
            test = _folders("test_", self.test_hr_dir, self.test_lr_dirs)
            for name in sorted(set(test[1]) ^ set(lr_dirs)):
                absent, present = ("test_lr_dirs", "lr_dirs") if name in lr_dirs else ("lr_dirs", "test_lr_dirs")
                raise InputError(f"{absent}.{name}", f"no folder given, but `{present}.{name}` has one")
        hr, probe = _read_pairs("", hr_dir, lr_dirs, degradation=degradation)
        notes = [] if CLEAN in lr_dirs else [_CLEAN_IS_MADE]
        held_out = probe
        if test is None:
            notes.append(_NO_TEST)
        else:
            test_hr, held_out = _read_pairs("test_", *test, degradation=degradation)
            check_disjoint(hr, test_hr)
        degradations = tuple(name for name in lr_dirs if name != CLEAN and "+" not in name)
        return StudyData((), probe, held_out, degradations, tuple(notes))


def _folders(
    prefix: str, hr: str | Path | None, lr: Mapping[str, str | Path | None] | None
) -> tuple[Path, dict[str, Path]]:
    """Return the given HR folder and LR folders, of which one must be a degradation's.

    The arguments that name the folders begin with `prefix`: "" or "test_".
    """
    folders = {name: Path(folder).expanduser() for name, folder in (lr or {}).items() if folder is not None}
    argument = f"{prefix}lr_dirs"
    if not set(folders) - {CLEAN}:
        raise InputError(argument, f"no degradation given; add e.g. `{argument}.blur`=path/to/images")
    for name in folders:
        file_name(name, argument)
    return required_folder(hr, f"{prefix}hr_dir"), folders


def _read_pairs(
    prefix: str, hr_dir: Path, lr_dirs: Mapping[str, Path], *, degradation: Degradation
) -> tuple[dict[Path, Photograph], tuple[PairedImage, ...]]:
    """Read all HR images, and all pairs in the order of their names. Every file must have its partner."""
    hr = _by_stem(list_images(hr_dir, f"{prefix}hr_dir"))
    partners: dict[Path, dict[str, Path]] = {path: {} for path in hr.values()}
    for name, folder in lr_dirs.items():
        argument = f"{prefix}lr_dirs.{name}"
        lr = _by_stem(list_images(folder, argument))
        for stem, path in hr.items():
            files = [lr.pop(s) for s in (stem, f"{stem}x{degradation.scale}") if s in lr]
            if len(files) > 1:
                raise InputError(argument, f"two partners, {files[0].name} and {files[1].name}, for {path}")
            if not files:
                raise InputError(argument, f"no partner in {folder} for {path}{_nearest(stem, lr)}")
            partners[path][name] = files[0]
        for stem, path in lr.items():
            raise InputError(f"{prefix}hr_dir", f"no partner in {hr_dir} for {path}{_nearest(stem, hr)}")
    photographs = {path: read_photograph(path, text_of(path.stem)) for path in partners}
    return photographs, tuple(_pair(path, photographs[path], partners[path], degradation) for path in partners)


def _by_stem(paths: list[Path]) -> dict[str, Path]:
    """Return files by their names without extension, which must differ."""
    files: dict[str, Path] = {}
    for path in paths:
        if path.stem in files:
            raise UserError(f"{path}: has the name of {files[path.stem].name}; keep one of them")
        files[path.stem] = path
    return files


def _nearest(stem: str, files: dict[str, Path]) -> str:
    close = difflib.get_close_matches(stem, files, n=1)
    return f"; nearest: {files[close[0]].name}" if close else ""


def _pair(path: Path, photograph: Photograph, files: dict[str, Path], degradation: Degradation) -> PairedImage:
    """Read one pair: HR is cut to scale × LR, inputs come from their files, and `clean` is made if it has no file."""
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
        region = Region(photograph.name, photograph.pixels, 0, 0, size)
        (downsampled,) = degrade_regions([region], degradation, {CLEAN: frozenset()})
        inputs = {CLEAN: downsampled.lr[CLEAN], **inputs}
    return PairedImage(photograph.name, to_tensor(photograph.pixels[: size[0], : size[1]]), inputs)
