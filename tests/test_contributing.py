"""CONTRIBUTING.md: each recipe works as it is written, outside the tree and inside a copy of it."""

import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docs_pages import CONTRIBUTING, ROOT, arguments, blocks, lines
from hydra.core.global_hydra import GlobalHydra
from tiny_case import COMMON, figures_of, without_report

from faig_lab.__main__ import main

RECIPES = {"method": 2, "degradation": 3, "study": 3, "network": 3}
"""Recipe → how many files it may touch, generated ones aside."""
OF_THE_DEFAULT_NETWORK = ("network.features=4", "network.blocks=1")

recipe = pytest.mark.parametrize("name", RECIPES)


def section(name, folder):
    """The part of the page below the recipe's heading, as a page of its own."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    (found,) = re.findall(rf"^## Add a {name}$.*?(?=^## |\Z)", text, re.M | re.S)
    page = folder / f"{name}.md"
    page.write_text(found, encoding="utf-8")
    return page


def files(page):
    """Path → text of the files that the recipe shows."""
    return {block.file: block.text for block in blocks(page) if block.file is not None}


def command(page):
    """The arguments of the recipe's command."""
    (found,) = [given for block in blocks(page) for line in lines(block) if (given := arguments(line)) is not None]
    return found


def moves(page):
    """Path outside → path inside, from the recipe's table."""
    return dict(re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", page.read_text(encoding="utf-8"), re.M))


def inside(page):
    """Path → text of the files inside the tree: other places, and the dotted name that the recipe says."""
    (dotted,) = re.findall(r"`_target_` becomes `([\w.]+)`", page.read_text(encoding="utf-8"))
    return {
        moves(page)[path]: re.sub(r"(?<=_target_: )\S+", dotted, text) if path.endswith(".yaml") else text
        for path, text in files(page).items()
    }


def write(texts, folder):
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def tiny(given):
    """The small settings that the command's configuration has."""
    ours = any(setting.startswith("network=") for setting in given)
    return [setting for setting in COMMON if not (ours and setting in OF_THE_DEFAULT_NETWORK)]


def traces(folder):
    """The keys of the run's metrics, and the network that it used."""
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    return "\n".join([*json.loads((folder / "metrics.json").read_text(encoding="utf-8")), config])


EXPECTED = {
    "method": "isolation/equal_images/1/blur",
    "degradation": "psnr/target/haze",
    "study": "midway/blur",
    "network": "shallow.Shallow",
}
"""What a run that used the recipe leaves behind."""
WITHOUT_REPORT = """
import sys
from tiny_case import without_report
from faig_lab.__main__ import main
with without_report():
    sys.exit(main())
"""


@recipe
def test_a_recipe_touches_few_files_and_says_where_each_goes(name, tmp_path):
    page = section(name, tmp_path)
    assert set(moves(page)) == set(files(page))
    assert len(moves(page)) <= RECIPES[name]
    rows = re.findall(rf"^\| \[{name}\]\(#add-a-{name}\) \| (\d) \|", CONTRIBUTING.read_text(encoding="utf-8"), re.M)
    assert rows == [str(len(moves(page)))]
    assert all((ROOT / path).parent.is_dir() and not (ROOT / path).exists() for path in moves(page).values())


def test_the_command_that_generates_the_reference_is_there():
    text = CONTRIBUTING.read_text(encoding="utf-8")
    (module,) = set(re.findall(r"^python -m (\S+) > docs/configuration\.md$", text, re.M))
    assert importlib.util.find_spec(module) is not None
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert f"python -m {module} > docs/configuration.md" in page


@recipe
def test_a_recipe_works_outside_the_tree(name, tmp_path, monkeypatch):
    page = section(name, tmp_path)
    write(files(page), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    given = command(page)
    with figures_of() if name == "study" else without_report():
        assert main([*given, *tiny(given), "analysis.percents=[1]", "hydra.run.dir=run"]) == 0
    GlobalHydra.instance().clear()
    for module in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]
    assert EXPECTED[name] in traces(tmp_path / "run")
    if name == "study":
        page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
        assert "What does the network half-way restore?" in page
        assert "PSNR on held-out images with all filters half-way." in page


def test_the_test_of_the_study_holds(tmp_path, monkeypatch):
    write(files(section("study", tmp_path)), tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("test_midway")
    tests = [test for name, test in vars(module).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()
    for name in ("test_midway", "midway"):
        del sys.modules[name]


def test_all_recipes_work_inside_a_copy_of_the_tree(tmp_path):
    """One run with the method, the degradation and the network; the reference then lists their settings."""
    tree = tmp_path / "tree"
    for part in ("src", "conf"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    given = []
    for name in RECIPES:
        page = section(name, tmp_path)
        write(inside(page), tree)
        own = command(page)
        given += [s for s in own[own.index("experiment=blur_noise") + 1 :] if not s.startswith("name=")]
    arguments = ["experiment=blur_noise", "analysis.percents=[1]", *given, *tiny(given), "hydra.run.dir=run"]
    script = [sys.executable, "-c", WITHOUT_REPORT, *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tree / "src"), str(ROOT / "tests")])}
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = traces(tmp_path / "run")
    assert [name for name, trace in EXPECTED.items() if trace not in found] == []
    assert re.search(r"_target_: faig_lab\.networks\.shallow\.Shallow", found)


def test_a_wrong_value_of_a_recipe_is_one_line_that_names_the_setting(tmp_path, monkeypatch, capfd):
    page = section("degradation", tmp_path)
    write(files(page), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    given = command(page)
    assert main([*given, *tiny(given), "degradation.parts.haze.strength=2"]) == 2
    GlobalHydra.instance().clear()
    error = capfd.readouterr().err
    assert "degradation.parts.haze.strength: must lie in 0..1, not 2" in error
    assert not Path("outputs").exists()
