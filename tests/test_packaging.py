"""Packaging: the README that PyPI shows, one address of the repository, lock files that agree with pyproject.toml."""

import re
import tomllib

import pytest
import yaml
from docs_pages import CONTRIBUTING, ROOT, script
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REPOSITORY = PROJECT["project"]["urls"]["Repository"]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
FLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))


def pins(file):
    """Name → version of a file of constraints."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return dict(line.partition(";")[0].split("==") for line in lines if not line.startswith("#"))


PINS, SPANDREL = pins("constraints.txt"), pins("constraints-spandrel.txt")
RENEW = "run: make lock"


def absolute(text):
    return script(ROOT / "hatch_build.py").absolute(text, "https://host/owner/name")


# The README of PyPI

BLOB = "https://host/owner/name/blob/HEAD"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("![Two](docs/a.jpg)", "![Two](https://host/owner/name/raw/HEAD/docs/a.jpg)"),
        ("[page](docs/a.md#part) more", f"[page]({BLOB}/docs/a.md#part) more"),
        ("[a](b.md) and [c](d.md)", f"[a]({BLOB}/b.md) and [c]({BLOB}/d.md)"),
        ("[two\nlines](b.md)", f"[two\nlines]({BLOB}/b.md)"),
        ("[out](https://arxiv.org/abs/1)", "[out](https://arxiv.org/abs/1)"),
        ("[mail](mailto:a@b.c)", "[mail](mailto:a@b.c)"),
        ("[here](#terms)", "[here](#terms)"),
        ("`a[0](x)` is [0.1](not a link", f"`a[0]({BLOB}/x)` is [0.1](not a link"),
    ],
)
def test_links_become_absolute_and_nothing_else_changes(given, expected):
    assert absolute(given) == expected


def test_no_link_of_the_readme_is_relative_and_each_file_is_there():
    text = absolute((ROOT / "README.md").read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 30
    for link in links:
        assert link.startswith(("https://", "#")), link
        kind, _, path = link.removeprefix("https://host/owner/name/").partition("/HEAD/")
        if path:
            assert kind in ("raw", "blob")
            assert (ROOT / path.partition("#")[0]).exists(), link


# The address of the repository


def test_the_address_is_known_in_one_place():
    owner = REPOSITORY.split("/")[-2]
    assert re.fullmatch(r"https://[\w.-]+/[\w-]+/faig_lab", REPOSITORY)
    files = {*ROOT.glob("*.*"), *(ROOT / "docs").glob("*.md"), *(ROOT / ".github").rglob("*.yml"), ROOT / "Dockerfile"}
    for file in files - {ROOT / "pyproject.toml"}:
        if file.is_file():
            assert f"/{owner}/faig_lab" not in file.read_text(encoding="utf-8"), file.name
    for name, address in PROJECT["project"]["urls"].items():
        assert name == "Paper" or address.startswith(REPOSITORY), name


# Versions


def test_each_python_of_ci_has_a_classifier():
    tested = FLOW["jobs"]["test"]["strategy"]["matrix"]["python"]
    prefix = "Programming Language :: Python :: "
    stated = [line.removeprefix(prefix) for line in PROJECT["project"]["classifiers"] if line.startswith(prefix)]
    assert [python for python in stated if "." in python] == tested == ["3.11", "3.12", "3.13"]
    assert PROJECT["project"]["requires-python"] == f">={tested[0]}"


def test_ci_runs_the_command_of_a_developer():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = [step["run"] for job in FLOW["jobs"].values() for step in job["steps"] if "run" in step]
    assert any(command.startswith("make test") for command in commands)
    for command in commands:
        program, target, *_ = command.split()
        assert program == "make"
        assert re.search(rf"^{target}:", makefile, re.M), command


def test_a_pre_commit_hook_uses_the_tools_of_make_test():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {hook["id"] for hook in hooks} >= {"ruff-check", "ruff-format", "mypy"}
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks)


def test_mypy_checks_every_package_of_src():
    mypy = PROJECT["tool"]["mypy"]
    checked = {name.partition(".")[0] for name in (*mypy["packages"], *mypy["modules"])}
    assert checked >= {path.name for path in (ROOT / "src").iterdir() if any(path.glob("*.py"))}


def groups(name):
    """The requirements of a dependency group, with those of the groups that it includes."""
    for entry in PROJECT["dependency-groups"][name]:
        if isinstance(entry, dict):
            yield from groups(entry["include-group"])
        else:
            yield entry


def wanted():
    """(name, extra, specifier) of each requirement, those of the package itself aside."""
    extras = PROJECT["project"]["optional-dependencies"]
    stated = [("", line) for line in PROJECT["project"]["dependencies"]]
    stated += [(f"extra {extra}", line) for extra, lines in extras.items() for line in lines]
    stated += [(f"group {name}", line) for name in PROJECT["dependency-groups"] for line in groups(name)]
    for of, line in stated:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) != "faig-lab":
            yield of, canonicalize_name(requirement.name), requirement.specifier


def test_every_requirement_is_pinned_to_a_version_that_it_allows():
    pinned = {canonicalize_name(name): version for name, version in (SPANDREL | PINS).items()}
    stated = list(wanted())
    assert len(stated) > 20
    assert [f"{of}: {name}" for of, name, specifier in stated if pinned.get(name, "none") not in specifier] == []


def test_the_lock_file_is_that_of_pyproject():
    (own,) = (package for package in LOCK["package"] if package["name"] == "faig-lab")
    lists = {"": own["metadata"]["requires-dist"]}
    lists |= {f"group {name}": entries for name, entries in own["metadata"]["requires-dev"].items()}
    locked = set()
    for of, entries in lists.items():
        for entry in entries:
            extra = re.search(r"extra == '(\w+)'", entry.get("marker", ""))
            if entry["name"] != "faig-lab":
                locked.add((f"extra {extra[1]}" if extra else of, entry["name"], entry.get("specifier", "")))

    def plain(entries):
        return {(of, name, frozenset(str(specifier).replace(" ", "").split(","))) for of, name, specifier in entries}

    assert plain(locked) == plain(wanted()), RENEW


def test_the_lock_file_has_the_pinned_versions():
    locked = {}
    for package in LOCK["package"]:
        locked.setdefault(package["name"], set()).add(package.get("version"))
    pinned = {canonicalize_name(name): version for name, version in PINS.items()}
    shared = pinned.keys() & locked.keys()
    assert len(shared) > 100
    assert {name: (pinned[name], locked[name]) for name in shared if locked[name] != {pinned[name]}} == {}, RENEW


def test_the_lock_file_names_no_server_but_pypi():
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")
    hosts = set(re.findall(r"https?://([^/\"]+)", text))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}
    assert all(w["hash"].startswith("sha256:") for package in LOCK["package"] for w in package.get("wheels", []))


def test_the_page_for_developers_says_how_to_get_the_code():
    assert "git clone <repository> faig_lab" in CONTRIBUTING.read_text(encoding="utf-8")
