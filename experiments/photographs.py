"""Lay out the photographs of a study: a folder with train/, probe/ and test/.

python experiments/photographs.py BSDS500 DATA

BSDS500 holds train/ (the official train and test splits without 302003, which is in Set5) and val/ (the official val
split, which is BSD100). The validation photographs are never trained on: in the order of the file names as text the
first 12 become the probe and the next 50 are held out.
"""

import shutil
import sys
from pathlib import Path

PROBE, TEST = 12, 50
SUFFIXES = (".jpg", ".jpeg", ".png")


def lay_out(source: Path, place: Path) -> dict[str, int]:
    """Copy the photographs; how many each folder has.

    Args:
        source: with train/ and val/.
        place: becomes the folder; one that is there must be empty.

    Raises:
        ValueError: the source lacks photographs, or the place is not empty.
    """
    train, val = (photographs(source / name) for name in ("train", "val"))
    if not train or len(val) <= PROBE:
        raise ValueError(f"{source} needs photographs in train/, and more than {PROBE} in val/")
    shared = {path.name for path in train} & {path.name for path in val}
    if shared:
        raise ValueError(f"{source}: {min(shared)} is in train/ and in val/, and would be trained on")
    if place.exists() and any(place.iterdir()):
        raise ValueError(f"{place} is not empty")
    parts = {"train": train, "probe": val[:PROBE], "test": val[PROBE : PROBE + TEST]}
    for name, paths in parts.items():
        (place / name).mkdir(parents=True)
        for path in paths:
            shutil.copyfile(path, place / name / path.name)
    return {name: len(paths) for name, paths in parts.items()}


def photographs(folder: Path) -> list[Path]:
    """The photographs in a folder, in the order of their names as text."""
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)


def main(source: str, place: str) -> int:
    """Lay out and say what there is; 2 if that cannot be."""
    try:
        counts = lay_out(Path(source), Path(place))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{place}: " + ", ".join(f"{count} in {name}/" for name, count in counts.items()))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit((__doc__ or "").strip())
    sys.exit(main(*sys.argv[1:]))
