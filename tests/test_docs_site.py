"""The documentation as a site: it builds without a warning, has every page, and needs no other server."""

import os
import re
import subprocess
import sys
import time

import pytest
from browser import find, running
from docs_pages import PAGES, ROOT

pytestmark = pytest.mark.slow  # seconds, but on a loaded machine a minute


def build(config, site):
    """The outcome of a strict build."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", site]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return folder


def address(path):
    """Where a file of the repository is in the site."""
    place = path.relative_to(ROOT).with_suffix(".html")
    return place.with_name("index.html") if path.name == "README.md" else place


def test_every_page_and_notebook_is_there(site):
    for path in [*PAGES, ROOT / "CHANGELOG.md", *(ROOT / "notebooks").glob("*.ipynb")]:
        page = (site / address(path)).read_text(encoding="utf-8")
        assert 'class="headerlink"' in page, path


def test_every_link_within_the_site_leads_to_a_file(site):
    checked = 0
    for page in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#?]+)', page.read_text(encoding="utf-8")):
            if not re.match(r"\w+:|/", link) and page.name != "404.html":
                assert (page.parent / link).exists(), f"{page.relative_to(site)}: {link}"
                checked += 1
    assert checked > 1000


def test_the_pages_load_nothing_from_another_server(site):
    foreign = (
        r'<(?:script|img|iframe)[^>]+src="https?://[^"]+|<link[^>]+rel="(?:stylesheet|preconnect)"[^>]+href="https?:'
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    assert [page.name for page in pages if re.search(foreign, page.read_text(encoding="utf-8"))] == []


def test_pictures_of_notebooks_and_experiments_are_in_the_site(site):
    page = (site / "notebooks" / "finding.html").read_text(encoding="utf-8")
    pictures = re.findall(r'<img[^>]+src="([^"]+)"', page)
    assert len([name for name in pictures if name.startswith("finding_")]) >= 3
    assert all((site / "notebooks" / name).stat().st_size > 1000 for name in pictures)
    assert (site / "experiments" / "blur_noise" / "isolation.png").is_file()


def test_a_link_to_a_source_file_leads_to_the_repository(site):
    page = (site / "CONTRIBUTING.html").read_text(encoding="utf-8")
    assert re.search(r'href="https://[^"]+/blob/HEAD/tests/test_contributing.py"', page)


@pytest.mark.skipif(find() is None, reason="no Chromium or Chrome on this machine: the site is not driven")
def test_search_finds_a_page_that_is_opened_as_a_file(site, tmp_path):
    with running(find(), tmp_path) as browser:
        browser.open(site / "index.html")
        browser.js("document.querySelector('label[for=__search]').click()")
        box = "document.querySelector('.md-search__input')"
        browser.js(
            f"{box}.focus(); {box}.value = 'quadrature'; {box}.dispatchEvent(new Event('keyup', {{bubbles: true}}))"
        )
        found = "[...document.querySelectorAll('.md-search-result__link')].map(link => link.getAttribute('href'))"
        deadline = time.monotonic() + 60
        while not browser.js(f"{found}.length") and time.monotonic() < deadline:
            time.sleep(0.2)
        assert any("docs/method.html" in link for link in browser.js(found))
        assert [url for url in browser.requests if not url.startswith(("file:", "blob:", "about:"))] == []


def test_a_broken_link_stops_the_build(tmp_path):
    """So that the strict build can fail at all: the site of a copy whose page has a wrong anchor."""
    for name in ("docs", "experiments", "src/faig_lab/pretrained", "notebooks"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs").unlink()
    (tmp_path / "docs" / "site").mkdir(parents=True)
    for path in [*(ROOT / "docs" / "site").iterdir(), *(ROOT / "docs").glob("*.md")]:
        if path.is_file():
            (tmp_path / path.relative_to(ROOT)).write_bytes(path.read_bytes())
    (tmp_path / "docs" / "pictures").symlink_to(ROOT / "docs" / "pictures")
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "pyproject.toml", "mkdocs.yml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    page = tmp_path / "docs" / "glossary.md"
    page.write_text(page.read_text(encoding="utf-8") + "\n[nowhere](method.md#no-such-part)\n", encoding="utf-8")
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    assert "no-such-part" in done.stdout + done.stderr
