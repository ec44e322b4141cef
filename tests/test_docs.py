"""README.md, docs/ and experiments/: links lead somewhere, commands compose and pass the check, Python runs.

And the configuration reference is up to date.
"""

import ast
import json
import re
import sys
from pathlib import Path

import pytest
import spandrel_stand_in
import torch
from docs_pages import DOCS, PAGES, ROOT, Command, arguments, blocks, commands, lines, write_block
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import faig_lab
from faig_lab.__main__ import main
from faig_lab.cli.arguments import compose, continued, normalise
from faig_lab.cli.reference import parameters, reference, studies, takes
from faig_lab.config import Settings, check, rules
from faig_lab.data.images import write_png
from faig_lab.studies.section import sections

OTHERS = {"cp", "grep", "make", "cd", "git", "pip", "wandb", "tensorboard", "for", "done", "sbatch", "export", "kill"}
"""First words of commands that are not ours, and are not checked here (targets of `make` are)."""

CHECKED: set[Command] = set()
"""Commands that have passed, without those that need files of their page."""

name = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).with_suffix("").as_posix())


def test_there_is_something_to_test():
    assert len(PAGES) >= 12
    assert sum(arguments(line) is not None for page in PAGES for block in blocks(page) for line in lines(block)) >= 30
    assert {"bash", "python", "yaml"} <= {block.language for page in PAGES for block in blocks(page)}


@name
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def anchors(page):
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@name
def test_commands_are_known(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in (line for block in blocks(page) if block.language == "bash" for line in lines(block)):
        if arguments(line) is not None:
            continue
        words = re.sub(r"^(\w+=\S+ )+", "", line).split()
        if words[0] in ("python", "python3"):
            assert words[1] == "-m" or (ROOT / words[1]).is_file(), line
        else:
            assert words[0] in OTHERS, line
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.M), line


@name
def test_an_experiment_is_spelt_in_one_way(page):
    """`experiment=`; that `+experiment=` works too, two sentences say."""
    text = page.read_text(encoding="utf-8").replace("\n", " ")
    said = [text[: found.end() + 120] for found in re.finditer(re.escape("+experiment="), text)]
    assert all(re.search(r"works? (?:too|as well)|both work", end[-160:]) for end in said)
    for line in (line for block in blocks(page) if block.language == "bash" for line in lines(block)):
        assert "+experiment=" not in (arguments(line) or ()), line


@name
def test_python_is_python_and_its_names_are_there(page):
    for block in blocks(page):
        if block.language == "python":
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "faig_lab":
                    assert node.attr in faig_lab.__all__, node.attr


@pytest.fixture
def own_modules(tmp_path, monkeypatch):
    """Modules that a page shows are found, and forgotten afterwards: another page may have one of the same name."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@name
@pytest.mark.usefixtures("own_modules")
def test_commands_compose_and_pass_the_check(page, tmp_path, monkeypatch):
    """All but what lies on the disk and in the machine; a command that several pages show, once."""
    for block in blocks(page):
        write_block(block, tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(rules, "check_files", lambda settings: None)
    spandrel_stand_in.install(monkeypatch)  # network=spandrel reads its architecture from a file
    for file in ("a.pth", "b.pth"):
        spandrel_stand_in.write(tmp_path / file)
    shown = [arguments(line) for block in blocks(page) if block.language == "bash" for line in lines(block)]
    for given in shown:
        for command in commands(given) if given is not None else ():
            if not command.only_shows and command not in CHECKED:
                assert isinstance(check(composed(command)), Settings)
                CHECKED.update([command] if command.config_dir is None else [])


def composed(command: Command):
    """The configuration of one run; what only Hydra's command line knows is left out."""
    if any(s.startswith(("sweep=", "resume=")) for s in command.settings):
        return compose(["experiment=blur_noise"])
    settings = [s for s in continued([], normalise(command.settings)) if not s.startswith(("-", "hydra.", "hydra/"))]
    return compose(settings, Path(command.config_dir) if command.config_dir else None)


def photographs(folder):
    """Stand-ins for the reader's own photographs: photos/{train,probe,test}, 96×64 pixels of smooth noise."""
    generator = torch.Generator().manual_seed(0)
    for part in ("train", "probe", "test"):
        for number in range(2):
            rough = torch.rand(1, 3, 16, 24, generator=generator)
            image = torch.nn.functional.interpolate(rough, size=(64, 96), mode="bicubic").clamp(0, 1)[0]
            write_png(folder / "photos" / part / f"{number}.png", image)


TINY = [
    *("data.probe_crop=32", "data.probe_crops=1", "data.test_crop=48", "data.test_crops=1"),
    *("training.batch_size=2", "training.baseline.iterations=4", "training.target.iterations=4"),
    *("attribution.points=2", "attribution.methods.random.draws=2", "trainer.accelerator=cpu", "logger.mode=disabled"),
]


def tiny(command: Command):
    """The settings of `TINY` that the command's configuration has and that it does not give itself."""
    if command.only_shows:
        return []
    cfg, given = composed(command), {setting.lstrip("+").partition("=")[0] for setting in command.settings}
    keys = [setting.partition("=")[0] for setting in TINY]
    small = zip(keys, TINY, strict=True)
    return [setting for key, setting in small if key not in given and OmegaConf.select(cfg, key) is not None]


def newest(folder):
    """The folder that `<time>` stands for: the last one there."""
    runs = [path for path in Path(folder).iterdir() if path.name[0].isdigit()]
    return str(max(runs, key=lambda path: path.name))


def run(block):
    """The commands of a block, for real, with little to do."""
    for line in lines(block):
        given = arguments(re.sub(r"(outputs/[\w/]+)/<time>", lambda found: newest(found[1]), line))
        if given is not None:
            assert main([*given, *tiny(next(commands(given)))]) == 0, line
            GlobalHydra.instance().clear()


SELF_CONTAINED = [page for page in DOCS if page.stem.startswith("own_") or page.stem in ("api", "tutorial")]
"""Pages whose every block works in an empty folder with photos/train, photos/probe and photos/test."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("own_modules")
# What Lightning 2.6 says in a Trainer of the user's own: a rename inside torch's tree utilities, and its advice.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*The number of training batches.*")
@pytest.mark.parametrize("page", SELF_CONTAINED, ids=lambda path: path.stem)
def test_a_page_works_as_written(page, tmp_path):
    photographs(tmp_path)
    names: dict[str, object] = {}
    assert blocks(page)
    for block in blocks(page):
        write_block(block, tmp_path)
        if block.file is None and block.language == "python":
            exec(compile(block.text, page.name, "exec"), names)
        elif block.language == "bash" and not block.example:
            run(block)


def described(kind):
    """Everything in backquotes in docs/run_folder.md, with or without what a placeholder stands for."""
    text = (ROOT / "docs" / "run_folder.md").read_text(encoding="utf-8")
    return {re.sub(kind, "", name) for name in re.findall(r"`([^`\n]+)`", text)}


def test_every_analysis_is_in_the_page_on_run_folders():
    assert {section.name for section in sections()} <= described("")


@pytest.mark.slow
def test_every_file_table_and_metric_of_a_run_is_described(tmp_path):
    command = Command(("experiment=blur_noise", f"hydra.run.dir={tmp_path}/run"), None, False)
    assert main([*command.settings, *tiny(command)]) == 0
    names = described(r"/(<.*|…)$")
    folder = tmp_path / "run"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    known = ("figures/", "tables/", ".hydra/", "attribution/blur_index", "attribution/noise_index")
    assert {file for file in files if not file.startswith(known)} <= names
    assert {path.stem for path in (folder / "tables").iterdir()} <= names
    assert {key.split("/")[0] for key in json.loads((folder / "metrics.json").read_text())} <= names


# The reference


def test_the_reference_is_up_to_date():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == reference(), "run: python -m faig_lab.cli.reference > docs/configuration.md"


def test_the_page_of_the_studies_is_up_to_date():
    page = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    assert page == studies(), "run: python -m faig_lab.cli.reference studies > docs/studies.md"


def test_the_reference_has_every_setting():
    rows = set(re.findall(r"^\| `\+?([\w.]+)`", reference(), re.M))
    tree = OmegaConf.to_container(compose(["experiment=blur_noise"]))

    def leaves(node, prefix=""):
        for key, value in node.items():
            if isinstance(value, dict) and value:
                yield from leaves(value, f"{prefix}{key}.")
            elif key != "_partial_":
                yield prefix + key

    assert set(leaves(tree)) <= rows


def an_example(size: int, share: float | None = 0.5, names: list[str] = (), kind: tuple[int, float] = (1, 2.0)):  # type: ignore[assignment]
    """What it does.

    Args:
        size: HR pixels,
            at least one.
        share: 0..1.
    """


an_example.__module__ = "faig_lab.example"


def test_words_for_parameters():
    found = parameters(an_example)
    assert found["size"].about == "HR pixels, at least one."
    assert (found["size"].default, found["size"].takes) == (None, "whole number")
    assert (found["share"].default, found["share"].takes, found["share"].about) == ("0.5", "number or null", "0..1.")
    assert found["names"].takes == "list of text"
    assert found["kind"].takes == "[whole number, number]"
    assert takes(torch.Tensor) == ""
