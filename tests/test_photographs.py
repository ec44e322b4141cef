"""The script that lays out a study's photographs: nothing of the validation split is trained on."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import photographs

    return photographs


@pytest.fixture
def source(tmp_path):
    for part, count in (("train", 4), ("val", 70)):
        folder = tmp_path / "BSDS500" / part
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{part}{number}.jpg").write_text(f"{part} {number}")
        (folder / "Thumbs.db").touch()
    return tmp_path / "BSDS500"


def test_probe_and_test_are_of_val_in_the_order_of_names(script, source, tmp_path, capsys):
    assert script.main(str(source), str(tmp_path / "photos")) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'photos'}: 4 in train/, 12 in probe/, 50 in test/\n"
    found = {n: sorted(p.name for p in (tmp_path / "photos" / n).iterdir()) for n in ("train", "probe", "test")}
    order = sorted(f"val{number}.jpg" for number in range(70))
    assert found == {"train": [f"train{n}.jpg" for n in range(4)], "probe": order[:12], "test": order[12:62]}
    assert (tmp_path / "photos" / "test" / order[12]).read_text().startswith("val ")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda source, place: (source / "val" / "train1.jpg").touch(), "train1.jpg is in train/ and in val/"),
        (lambda source, place: (place / "train").mkdir(parents=True), "is not empty"),
        (lambda source, place: [path.unlink() for path in (source / "train").iterdir()], "needs photographs"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(script, source, tmp_path, capsys, spoil, said):
    place = tmp_path / "photos"
    spoil(source, place)
    assert script.main(str(source), str(place)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1


def test_without_arguments_it_says_what_it_does():
    import subprocess

    done = subprocess.run(
        [sys.executable, str(ROOT / "experiments" / "photographs.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "python experiments/photographs.py BSDS500 DATA" in done.stderr
