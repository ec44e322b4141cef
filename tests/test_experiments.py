"""The studies: the README shows the commands that `make study` runs, they compose, and the figures' script draws."""

import csv
import hashlib
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from docs_pages import ROOT, arguments, blocks, commands, lines, script
from omegaconf import OmegaConf
from PIL import Image

from faig_lab.cli.arguments import compose, normalise
from faig_lab.cli.build import make_network
from faig_lab.config import check, rules
from faig_lab.files import write_json
from faig_lab.filters import FilterLayout, load_weights, save_weights
from faig_lab.runs.tables import write_table

STUDIES = sorted(path.parent for path in (ROOT / "experiments").glob("*/run.sh"))
LARGEST = 150_000  # bytes of a picture: a visitor loads all of them

study = pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)


def shown(folder):
    """The first commands that the README shows."""
    return next(block for block in blocks(folder / "README.md") if block.language == "bash")


def test_every_folder_is_a_study_and_the_page_of_studies_links_it():
    folders = {path.name for path in (ROOT / "experiments").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {folder.name for folder in STUDIES}
    page = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    assert folders <= set(re.findall(r"\]\((\w+)/README\.md\)", page))


@study
def test_the_readme_shows_what_make_study_runs(folder):
    assert shown(folder).text == (folder / "run.sh").read_text(encoding="utf-8")


@study
def test_the_runs_of_a_study_compose_and_pass_the_check(folder, monkeypatch):
    """With all the settings of a sweep, which is only a folder's name to the test of all pages."""
    monkeypatch.setattr(rules, "check_files", lambda settings: None)
    runs = 0
    for line in lines(shown(folder)):
        for command in commands(given) if (given := arguments(line)) is not None else ():
            settings = [s for s in normalise(command.settings) if not s.startswith(("sweep=", "-", "hydra."))]
            if not any(s.startswith("task=") for s in settings):
                check(compose(settings))
                runs += 1
    assert runs


@study
def test_its_files_are_there_and_small(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    if not list(folder.glob("*results.csv")):
        assert "**Not recorded yet.**" in text
        return
    made = {Path(word).name for word in re.findall(r"\S+\.(?:csv|png)\b", (folder / "run.sh").read_text())}
    made -= {"metrics.csv", "branches*.csv"}
    made |= {f"{name}{kind}" for name in drawn(folder) for kind in (".csv", ".png")}
    assert made
    assert made <= {path.name for path in folder.iterdir()}
    pictures = {path.name: path.stat().st_size for path in folder.glob("*.png")}
    assert all(size < LARGEST for size in pictures.values()), pictures
    assert set(pictures) <= set(re.findall(r"\]\((\w+\.png)\)", text))


def drawn(folder):
    """The figures that the study draws."""
    return re.findall(r"figures\.py (?!shrink)(\w+)", (folder / "run.sh").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["STUDY=blur_nois"], r"^error: STUDY=blur_nois: no such study; one of: .*\bblur_noise "),
        ([], r"^error: STUDY=: no such study"),
        (["STUDY=larger", "DATA=nowhere"], r"^error: DATA=nowhere: the study larger needs a folder with train/"),
    ],
)
def test_make_study_says_what_is_wrong(arguments, said):
    """The virtual environment counts as made: nothing is to be installed here."""
    command = ["make", "-s", "-o", ".venv/.stamp-run", "study", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert re.search(said, done.stderr), done.stderr


# The script that draws


@pytest.fixture(scope="module")
def figures():
    return script(ROOT / "experiments" / "figures.py")


def leave_run(folder, seed, table, rows):
    (folder / "tables").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed": seed, "network": {"_target_": "x.SRResNet"}}))
    write_json(folder / "status.json", {"state": "done"})
    masked = {"method": "faig", "percent": 1.0, "masked": "blur", "own": 0.5, "other": 0.1, "specificity": 0.4}
    write_table(folder / "tables" / "specificity.csv", [masked])
    write_table(folder / "tables" / f"{table}.csv", rows)


def written(folder, name):
    with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_figure_of_lines_and_its_numbers(figures, tmp_path):
    for seed in range(3):
        rows = [
            {"modulated": "blur", "strength": s, "degradation": d, "psnr": 20.0 + seed, "back": 1 - s}
            for s in (0.0, 0.5, 1.0)
            for d in ("blur", "noise")
        ]
        leave_run(tmp_path / "runs" / str(seed), seed, "modulation", rows)
    figures.main("modulation", str(tmp_path / "runs"), str(tmp_path))
    rows = written(tmp_path, "modulation")
    assert len(rows) == 3 * 2 * 2
    (psnr,) = [r for r in rows if (r["value"], r["strength"], r["degradation"]) == ("psnr", "0.5", "blur")]
    half = 4.302653 / 3**0.5  # Student's t for two degrees of freedom, s = 1
    assert float(psnr["mean"]) == 21
    assert (float(psnr["low"]), float(psnr["high"])) == pytest.approx((21 - half, 21 + half), abs=1e-3)
    assert (psnr["n"], psnr["interval"]) == ("3", "t")
    assert [psnr[f"seed {seed}"] for seed in range(3)] == ["20.0", "21.0", "22.0"]
    assert (tmp_path / "modulation.png").stat().st_size > 1000


def test_a_picture_is_copied_with_fewer_colours(figures, tmp_path):
    (tmp_path / "into").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    figures.shrink(str(tmp_path / "a.png"), str(tmp_path / "into"))
    with Image.open(tmp_path / "into" / "a.png") as small:
        assert small.size == (30, 40)
        assert len(small.getcolors()) <= 64


def test_draws_are_averaged_within_a_seed_and_other_rows_left_out(figures, tmp_path):
    for seed in (4, 7):
        rows = [
            {"variant": "random", "draw": i, "trained": "blur", "degradation": d, "psnr": 25.0, "share": 0.1 * i + seed}
            for i in (1, 2)
            for d in ("blur", "noise")
        ]
        leave_run(tmp_path / "runs" / str(seed), seed, "retraining", rows)
    figures.main("retraining", str(tmp_path / "runs"), str(tmp_path))
    share, psnr = written(tmp_path, "retraining")
    assert (share["variant"], share["degradation"], share["n"]) == ("random", "blur", "2")
    assert (float(share["seed 4"]), float(share["seed 7"])) == pytest.approx((4.15, 7.15))
    assert (psnr["mean"], psnr["low"], psnr["high"]) == ("25.0", "25.0", "25.0")


def test_seeds_within_a_table_are_seeds(figures, tmp_path):
    rows = [
        {"seed": seed, "network": network, "degradation": "blur", "image": image, "psnr": psnr, "ssim": 0.9}
        for seed in (0, 1)
        for network, psnr in (("one_branch", 20.0 + seed), ("two_branch", 19.0 - seed))
        for image in ("a", "b")
    ]
    leave_run(tmp_path / "runs", 0, "branches_images", rows)
    figures.main("one_minus_two", str(tmp_path / "runs"), str(tmp_path))
    one, two, difference, *_ = written(tmp_path, "one_minus_two")
    assert (one["seed 0"], one["seed 1"], one["n"]) == ("20.0", "21.0", "2")
    assert (two["seed 0"], two["seed 1"]) == ("19.0", "18.0")
    assert (difference["seed 0"], difference["seed 1"], difference["mean"]) == ("1.0", "3.0", "2.0")


@pytest.mark.parametrize("seeds", [1, 3])
def test_dots_have_a_bar_of_the_t_interval_cut_to_the_axis(figures, seeds):
    """0.4, 0.5 and 0.6 with s = 0.1; 0.8, 0.9 and 1.0 reach beyond the end of the axis, 1.02. One seed: no bar."""
    plot, half = figures.PLOTS["prediction"], 4.302653 * 0.1 / 3**0.5
    found = {
        ("accuracy", "", method): {seed: start + seed / 10 for seed in range(seeds)}
        for method, start in (("overlap", 0.4), ("linear_probe", 0.8))
    }
    (axes,) = figures.draw(plot, found).axes
    bars = [line.get_xdata().tolist() for line in axes.lines if line.get_linewidth() == 2.2]
    expected = [[0.5 - half, 0.5 + half], [0.9 - half, 1.02]] if seeds == 3 else []
    assert bars == [pytest.approx(ends, abs=1e-6) for ends in expected]
    assert {row["interval"] for row in figures.rows(plot, {"value": found})} == {"t" if seeds == 3 else None}


def test_the_tables_of_the_figures_are_tables_of_runs(figures):
    """Each is described in docs/run_folder.md."""
    text = (ROOT / "docs" / "run_folder.md").read_text(encoding="utf-8")
    assert all(f"`{plot.table}`" in text for plot in figures.PLOTS.values())
    assert {name for folder in STUDIES for name in drawn(folder)} == set(figures.PLOTS)


# The script that makes the pair which the package ships


@pytest.fixture(scope="module")
def pretrained():
    return script(ROOT / "experiments" / "pretrained.py")


@pytest.fixture
def trained_run(tmp_path, shipped_pair):
    """What the script reads of a run that trained both networks."""
    folder = tmp_path / "run"
    for name in ("baseline", "target"):
        state = {key: value * 1.0001 for key, value in getattr(shipped_pair, name).items()}  # no longer 16 bits
        save_weights(folder / "weights" / f"{name}.pt", state, {"what": name, "seed": 0})
    config = OmegaConf.to_container(compose(["experiment=blur_noise", "training=laptop"]))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    write_json(folder / "attribution" / "provenance.json", {"training": ["coins"], "training_precision": "32-true"})
    return folder


def test_the_pair_is_rounded_and_described(pretrained, trained_run, shipped_pair, tmp_path):
    pretrained.write(trained_run, tmp_path / "pair")
    for name in ("baseline", "target"):
        path = tmp_path / "pair" / f"srresnet_small_{name}.safetensors"
        full, half = (load_weights(one, shipped_pair.network) for one in (trained_run / "weights" / f"{name}.pt", path))
        assert all(torch.equal(half[key], value.half()) for key, value in full.items())
        found = yaml.safe_load(path.with_suffix(".yaml").read_text())
        assert (found["what"], found["photographs"]) == (name, ["coins"])
        assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (found["training"]["iterations"], found["training"]["precision"]) == (3000, "32-true")


def test_what_was_measured_gets_into_table_and_description(pretrained, trained_run, tmp_path):
    pretrained.write(trained_run, tmp_path / "pair")
    psnr = {f"psnr/{of}/{what}": 20.0 for of in ("baseline", "target") for what in ("blur", "noise", "clean")}
    for folder, more in ((trained_run, 0.0), (tmp_path / "half", 0.25)):
        write_json(folder / "metrics.json", {n: v + more for n, v in psnr.items()} | {"isolation/faig/1": more, "x": 1})
    pretrained.compare(trained_run, tmp_path / "half", tmp_path / "pair", tmp_path / "table.csv")
    rows = {row["key"]: row for row in written(tmp_path, "table")}
    assert rows.keys() == psnr.keys() | {"isolation/faig/1"}
    assert {row["difference"] for row in rows.values()} == {"0.25000"}
    found = yaml.safe_load((tmp_path / "pair" / "srresnet_small_target.yaml").read_text())
    assert (found["psnr"]["float32"]["blur"], found["psnr"]["float16"]["blur"]) == (20.0, 20.25)


def test_weights_that_are_too_large_or_given_make_no_pair(pretrained, trained_run, shipped_pair, tmp_path):
    state = {key: value * 1e6 for key, value in shipped_pair.target.items()}
    save_weights(trained_run / "weights" / "target.pt", state, {})
    with pytest.raises(ValueError, match="a weight of its target is too large for half precision"):
        pretrained.write(trained_run, tmp_path / "pair")
    config = yaml.safe_load((trained_run / "config.yaml").read_text())
    config["target"]["weights"] = "t.pt"
    (trained_run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match="did not train its target"):
        pretrained.write(trained_run, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_pictures_of_the_pages_are_drawn_from_the_recorded_tables(tmp_path):
    module = script(ROOT / "experiments" / "pages.py")
    module.main(str(tmp_path))
    assert {path.stem for path in tmp_path.iterdir()} == set(module.PICTURES) == {"methods", "measures", "trainings"}
    for name in module.PICTURES:
        kept = ROOT / "docs" / "pictures" / f"{name}.png"
        assert kept.stat().st_size < LARGEST
        with Image.open(kept) as picture, Image.open(tmp_path / f"{name}.png") as drawn:
            assert picture.size == drawn.size
    dots = {
        (round(line.get_ydata()[0], 2)): line.get_xdata()[0]
        for line in module.methods().axes[0].lines
        if line.get_marker() == "o" and len(line.get_xdata())
    }
    place = list(module.STUDY).index("faig")
    assert round(dots[place - 0.15], 2) == 0.90  # the deblurring set, experiments/rankings
    assert round(dots[place + 0.15], 2) == 0.10


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only the repository has these weights, an sdist does not")
@pytest.mark.parametrize("name", ["baseline", "target"])
def test_the_weights_of_the_full_network_are_those_of_its_page(name):
    folder = ROOT / "experiments" / "full_size"
    description = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    network = make_network(check(compose(["experiment=blur_noise", "network=srresnet"])))
    state = load_weights(folder / f"{name}.safetensors", network)
    assert description["what"] == name
    assert description["parameters"] == sum(value.numel() for value in state.values()) == 1_369_859
    assert len(FilterLayout.of(network)) == 151_936
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert f"{name}.safetensors" in page
    assert "151,936" in page
