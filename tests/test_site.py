"""The site as a browser gets it: built from stored outputs, without a warning."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import built
import pytest

import notebooks
import policy


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
    return built.site(tmp_path_factory)


@pytest.fixture(scope="module")
def pages(site):
    """All pages but those that frames show, which have a policy of their own."""
    found = sorted(site.rglob("*.html"))
    return {path: Page(path) for path in found if "_static" not in path.parts}


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


def test_scripts_are_few_and_hold_nothing_up(site, pages):
    never = "fontawesome bootstrap togglebutton thebe mathjax".split()
    for path, page in pages.items():
        scripts = [tag for tag in page.all("script") if tag.get("src")]
        names = [Path(urlsplit(tag["src"]).path).name.lower() for tag in scripts]
        assert len(names) == len(set(names)), path.name
        assert all("defer" in tag for tag in scripts), path.name
        assert not [n for n in names if any(word in n for word in never)], path.name
        searches = path.name == "search.html"
        assert ("searchindex.js" in names) == searches, path.name
        head = path.read_text(encoding="utf-8").partition("</head>")[0]
        entrance = path.name == "index.html" and path.parent.name != "book"
        assert head.count('rel="stylesheet"') == (not entrance), path.name
    assert not list(site.rglob("*.map"))


def test_the_policy_allows_the_books_own_files_alone(pages):
    """No script or style in an attribute, and no inline script but by its hash."""
    for path, page in pages.items():
        html = path.read_text(encoding="utf-8")
        metas = [m["content"] for m in page.all("meta")
                 if m.get("http-equiv") == "Content-Security-Policy"]  # fmt: skip
        assert metas == [policy.policy(html)], path.name
        assert "unsafe" not in metas[0] and "http" not in metas[0]
        assert html.index("Content-Security-Policy") < html.index("<title>")
        assert len(policy.INLINE.findall(html)) <= 1, path.name
        for tag, attributes in page.tags:
            wrong = [n for n in attributes if n == "style" or n.startswith("on")]
            assert not wrong and tag != "style", f"{path.name}: {tag} {attributes}"
            assert not (attributes.get("href") or "").startswith("javascript:")


def test_formulas_and_folds_need_no_script(pages):
    for path, page in pages.items():
        html = path.read_text(encoding="utf-8")
        drawn = [s for s in page.all("svg") if "formula " in (s.get("class") or "")]
        assert len(drawn) == len(page.all("math")), path.name
        shared = {p["id"] for p in page.all("path") if "id" in p}
        assert {u["href"][1:] for u in page.all("use")} <= shared, path.name
        folds = [d for d in page.all("details") if "dropdown" in (d.get("class") or "")]
        assert len(folds) == html.count('class="admonition-title">') - len(
            [d for d in page.all("p") if d.get("class") == "admonition-title"]
        ), path.name
        assert not [d for d in page.all("div") if "dropdown admonition" in
                    (d.get("class") or "")], path.name  # fmt: skip


def test_links_and_anchors_resolve(site, pages):
    for path, page in pages.items():
        for link in page.all("a"):
            url = urlsplit(link.get("href") or "")
            if url.scheme or url.netloc or not (url.path or url.fragment):
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            assert target.exists(), f"{path.name}: {link['href']}"
            state = "=" in url.fragment  # what a page shows, such as #model=x
            if url.fragment and not state and target in pages:
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
