"""Data sources (config group `data`): the embedded photographs, and any folders of images.

A source is a frozen dataclass with one method, `load(degradation, seed) -> StudyData`. Ready-made pairs come
from `paired`, DIV2K from `div2k`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from faig_lab.data.degradations.pipeline import Degradation
from faig_lab.data.evaluation import check_crops, paired_images
from faig_lab.data.images import list_images, required_folder
from faig_lab.data.paired import PairedFolders
from faig_lab.data.photographs import (
    Photograph,
    check_disjoint,
    embedded_photographs,
    photograph_names,
    read_photographs,
)
from faig_lab.data.prepared import encoded_file, open_prepared, prepare
from faig_lab.data.study import StudyData

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
