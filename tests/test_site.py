"""The site as a browser gets it: built from stored outputs, without a warning."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import notebooks

BUILD = "from jupyter_book.cli.main import main; main()"


class Page(HTMLParser):
    """The tags of one page that this test looks at."""

    def __init__(self, path):
        super().__init__()
        self.path, self.ids, self.tags = path, set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        self.tags.append((tag, attributes))

    def all(self, *tags):
        return [attributes for tag, attributes in self.tags if tag in tags]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site's folder, or a failure that shows the first warnings."""
    out = tmp_path_factory.mktemp("site")
    options = ["-W", "-n", "--keep-going", "--path-output", out]
    result = subprocess.run(
        [sys.executable, "-c", BUILD, "build", notebooks.ROOT, *options],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    log = result.stdout + result.stderr
    warnings = [line for line in log.splitlines() if "WARNING" in line]
    assert result.returncode == 0, "\n".join(warnings[:20]) or log[-2000:]
    return out / "_build" / "html"


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_page_is_there(site, pages):
    names = {path.stem for path in notebooks.BOOK.iterdir() if path.suffix != ".svg"}
    assert names - {"_static"} <= {path.stem for path in pages}
    assert (site / "index.html").exists()


def test_images_have_words(pages):
    for path, page in pages.items():
        for image in page.all("img"):
            alt = image.get("alt") or ""
            assert len(alt) > 3 and "_images" not in alt, f"{path.name}: {image}"


def test_figures_come_in_two_themes(site, pages):
    for path, page in pages.items():
        figures = [i for i in page.all("img") if "_images/" in i["src"]]
        light = [i for i in figures if i.get("class") == "only-light"]
        dark = [i for i in figures if i.get("class") == "only-dark"]
        assert len(light) == len(dark) and len(figures) == 2 * len(light), path.name
        for image in figures:
            assert image["loading"] == "lazy" and image["width"] and image["height"]
            svg = (path.parent / image["src"]).read_text(encoding="utf-8")
            assert "#7a7a7a" not in svg.lower()


def test_nothing_is_loaded_from_elsewhere(pages):
    for path, page in pages.items():
        loaded = [tag.get("src") for tag in page.all("script", "img", "iframe")]
        loaded += [
            t.get("href") for t in page.all("link") if t.get("rel") != "canonical"
        ]
        for url in filter(None, loaded):
            assert not urlsplit(url).netloc, f"{path.name}: {url}"


def test_each_script_once_and_maths_from_here(site, pages):
    for path, page in pages.items():
        scripts = [tag["src"] for tag in page.all("script") if tag.get("src")]
        assert len(scripts) == len(set(scripts)), path.name
        assert not any("thebe" in script for script in scripts), path.name
    assert (site / "_static/mathjax/tex-chtml.js").exists()
    assert list((site / "_static/mathjax/output/chtml/fonts/woff-v2").glob("*.woff"))
    assert (site / "_static/mathjax/input/tex/extensions/color.js").exists()


def test_links_and_anchors_resolve(site, pages):
    for path, page in pages.items():
        for link in page.all("a"):
            url = urlsplit(link.get("href") or "")
            if url.scheme or url.netloc or not (url.path or url.fragment):
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            assert target.exists(), f"{path.name}: {link['href']}"
            if url.fragment and target in pages:
                found = unquote(url.fragment) in pages[target].ids
                assert found, f"{path.name}: {link['href']}"


def test_no_launch_button_without_an_address(pages):
    settings = (notebooks.ROOT / "_config.yml").read_text()
    empty = re.search(r'(?m)^  url: ""$', settings) is not None
    for path, page in pages.items():
        if re.match(r"\d\d_", path.name):
            links = " ".join(a.get("href") or "" for a in page.all("a"))
            assert ("colab.research" in links) != empty, path.name


def test_pages_say_what_they_are(pages):
    for path, page in pages.items():
        if path.parent.name == "book":
            names = {meta.get("name") for meta in page.all("meta")}
            assert {"viewport", "description"} <= names, path.name
            assert any(Path(t["href"]).name == "favicon.svg" for t in page.all("link"))
