"""Patches per second: cut from memory-mapped photographs, from memory, and after decoding the whole PNG.

    python benchmarks/loader.py                      # on mosaics of the embedded photographs, 2040×1356 as in DIV2K
    python benchmarks/loader.py --folder DIV2K/DIV2K_valid_HR --count 32

The samples are those of the paper's training: batches of 16 patches of 64 pixels with the margin of the blur.
`cold` has the decoded files pushed out of the page cache first, and tells how much of them is read from the disk.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from faig_lab.cli.arguments import compose
from faig_lab.cli.build import make_degradation
from faig_lab.config import check
from faig_lab.data import PatchDataset, Photograph, StepSampler, patch_loader
from faig_lab.data.images import list_images
from faig_lab.data.patches import collate
from faig_lab.data.photographs import embedded_photographs, encoded_file, open_prepared, prepare, read_photograph

SIZE = (1356, 2040)
BATCH, PATCH = 16, 64


def mosaics(folder: Path, count: int) -> list[Path]:
    """Photographs of DIV2K's size, put together from pieces of the embedded ones: as hard to decode as real ones."""
    rng, pieces, side = np.random.default_rng(0), embedded_photographs("train"), 226
    pieces = tuple(photo for photo in pieces if min(photo.pixels.shape[:2]) > side)
    paths = []
    for number in range(count):
        rows = [
            np.concatenate([piece(rng, pieces, side) for _ in range(-(-SIZE[1] // side))], axis=1)
            for _ in range(-(-SIZE[0] // side))
        ]
        paths.append(folder / f"{number:04}.png")
        Image.fromarray(np.concatenate(rows)[: SIZE[0], : SIZE[1]]).save(paths[-1])
    return paths


def piece(rng: np.random.Generator, photographs: Sequence[Photograph], side: int) -> np.ndarray:
    pixels = photographs[int(rng.integers(len(photographs)))].pixels
    top, left = (rng.integers(length - side + 1) for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


@dataclass(frozen=True)
class Decoded:
    """A photograph that is decoded whenever its pixels are asked for: what prepared files replace."""

    path: Path

    @property
    def pixels(self) -> np.ndarray:
        return read_photograph(self.path, self.path.stem).pixels


def batches(photographs: Sequence[Photograph | Decoded], margin: int, steps: int, workers: int = 0) -> Iterator[object]:
    data = PatchDataset(cast(Sequence[Photograph], photographs), PATCH, margin, seed=0, stream="baseline")
    sampler = StepSampler(steps, BATCH)
    if workers:
        return iter(patch_loader(data, sampler, workers))
    return (collate([data[number] for number in numbers]) for numbers in sampler)


@dataclass(frozen=True)
class Speed:
    """Patches per second, of the clock and of this process's processor time (the fairer one on a busy machine)."""

    clock: float
    processor: float


def speed(make: Callable[[int], Iterator[object]], steps: int) -> Speed:
    """How fast batches come, without the first, which waits for the workers to start."""
    source = make(steps + 1)
    next(source)
    clock, processor = time.perf_counter(), time.process_time()
    for _ in source:
        pass
    patches = BATCH * steps
    return Speed(patches / (time.perf_counter() - clock), patches / (time.process_time() - processor))


def push_out(paths: Sequence[Path]) -> None:
    """Let go of the files' pages in the page cache."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_bytes() -> int:
    """Bytes that this process has had read from the disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="photographs; without it they are made")
    parser.add_argument("--count", type=int, default=8, help="how many photographs")
    parser.add_argument("--steps", type=int, default=200, help="batches to time; a fiftieth of them where decoding")
    parser.add_argument("--scratch", type=Path, help="folder on the disk to measure; default: a temporary one")
    arguments = parser.parse_args()
    margin = make_degradation(check(compose(["experiment=blur_noise_paper", "trainer=cpu"]))).margin
    # A machine of one processor is to be measured too; torch warns of more workers than processors.
    warnings.filterwarnings("ignore", message=".*This DataLoader will create.*")
    print(f"batches of {BATCH} patches of {PATCH} + 2·{margin} pixels; {os.cpu_count()} processors")
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        folder = Path(scratch)
        paths = list_images(arguments.folder, "--folder") if arguments.folder else mosaics(folder, arguments.count)
        measure(paths[: arguments.count], folder / "prepared", margin, arguments.steps)


def measure(paths: Sequence[Path], folder: Path, margin: int, steps: int) -> None:
    start = time.process_time()
    files = prepare([encoded_file(path, path.stem) for path in paths], folder, "--scratch")
    seconds = time.process_time() - start
    decoded = speed(lambda n: batches([Decoded(path) for path in paths], margin, n), max(steps // 50, 2))
    show("decoding the whole PNG", decoded, decoded)
    if hasattr(os, "posix_fadvise"):
        cold(paths, files, margin, decoded)
    mapped = [open_prepared(file, path.stem) for file, path in zip(files, paths, strict=True)]
    size = sum(photo.pixels.nbytes for photo in mapped)
    show("memory-mapped", speed(lambda n: batches(mapped, margin, n), steps), decoded)
    memory = [Photograph(p.name, p.scene, np.array(p.pixels), p.sha256) for p in mapped]
    show("in memory", speed(lambda n: batches(memory, margin, n), steps), decoded)
    for workers in (1, 2):
        found = speed(partial(batches, mapped, margin, workers=workers), steps)
        show(f"memory-mapped, {workers} worker{'s' * (workers > 1)}", found, decoded)
    print(f"prepared: {len(paths) / seconds:.1f} images per second of processor time, {size / 1e6:.0f} MB")


def cold(paths: Sequence[Path], files: Sequence[Path], margin: int, decoded: Speed) -> None:
    """The first batches after a restart of the machine."""
    push_out(files)
    mapped = [open_prepared(file, path.stem) for file, path in zip(files, paths, strict=True)]
    steps, before = 4, read_bytes()
    found = speed(lambda n: batches(mapped, margin, n), steps)
    fetched = (read_bytes() - before) / (BATCH * (steps + 1))
    show("memory-mapped, cold", found, decoded)
    print(f"    {fetched / 1e6:.2f} MB from the disk per patch; an image has {mapped[0].pixels.nbytes / 1e6:.1f} MB")


def show(what: str, found: Speed, reference: Speed) -> None:
    print(
        f"{what:28} {found.clock:8,.0f} patches/s ({found.clock / reference.clock:6.0f}×)   "
        f"{found.processor:8,.0f} per processor second ({found.processor / reference.processor:6.0f}×)"
    )


if __name__ == "__main__":
    main()
