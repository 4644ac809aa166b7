"""The printed book and the EPUB, on sites of two pages."""

import io
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import browser
import matplotlib.pyplot as plt
import numpy as np
import pytest
from lxml import etree
from matplotlib.image import imread
from pypdf import PdfReader

import cover
import epub
import notebooks
import pdf
from attnbook.draw import cover as drawn_cover

ROOT = Path(notebooks.ROOT)
TOC = """format: jb-book
root: book/index
parts:
  - caption: First part
    chapters:
      - file: book/one
"""
CONFIG = """title: A small book
author: Somebody
only_build_toc_files: true
parse:
  myst_enable_extensions: [amsmath, colon_fence, dollarmath]
sphinx:
  extra_extensions: [sphinx_exercise]
  local_extensions:
    book_site: _ext
    questions: _ext
  config:
    html_math_renderer: book
    language: en
"""
FORMULA = (
    '<span class="math"><svg class="formula d0" width="1ex" height="1ex" viewBox='
    '"0 0 9 9" aria-hidden="true"><use href="#g-A"/></svg><span class="formula-words">'
    "<math><mi>q</mi><mo>=</mo><mn>2</mn></math></span></span>"
)
INDEX = f"""<article class="bd-article"><svg class="formula-glyphs"><defs>
<path id="g-A" d="M0 0L9 9"/></defs></svg><section id="top"><h1>Cover<a
class="headerlink" href="#top">#</a></h1><p id="here">Go to <a href="one.html#there">the
place</a>, {FORMULA}.</p><img class="only-dark" src="nothing.svg"/>
<form id="gc-form"><button>Press</button></form></section></article>"""
ONE = """<article class="bd-article"><section id="one"><h1><span class="section-number">
1. </span>Chapter</h1><section id="there"><h2>A place</h2><p id="here">Below.</p>
<details class="solution dropdown admonition"><summary class="admonition-title">Solution
</summary><p>Thirty-nine</p></details><details class="answer" name="q"><summary>Two
</summary><p>Yes: because</p></details><a href="../_static/file.zip">files</a>
<pre>MANY</pre></section></section></article>"""
PAGES = {"index": INDEX, "one": ONE.replace("MANY", "wide " + "abcdef " * 40 + "end")}


@pytest.fixture
def site(tmp_path):
    """Two pages as the site has them; the folder with _toc.yml."""
    folder = tmp_path / "_build" / "html" / "book"
    folder.mkdir(parents=True)
    for name, body in PAGES.items():
        page = f"<!DOCTYPE html><html><body><main>{body}</main></body></html>"
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    style = tmp_path / "book" / "_static" / "print.css"
    style.parent.mkdir(parents=True)
    shutil.copy(ROOT / "book/_static/print.css", style)
    (tmp_path / "_toc.yml").write_text(TOC)
    (tmp_path / "_config.yml").write_text("title: A small book\nauthor: Somebody\n")
    return tmp_path


def bound(site):
    text = pdf.bind(site / "_build/html", site, site)
    return text, etree.HTML(text)


def test_the_order_is_that_of_the_table_of_contents(site):
    assert pdf.contents(site) == [("", "book/index"), ("First part", "book/one")]


def test_links_lead_inside_and_no_identifier_is_there_twice(site):
    text, page = bound(site)
    names = page.xpath("//@id")
    assert len(names) == len(set(names))
    targets = [href for href in page.xpath("//a/@href")]
    assert "#one--there" in targets
    assert {t[1:] for t in targets} <= set(names)
    assert "file.zip" not in text


def test_folds_are_open_and_controls_are_gone(site):
    text, page = bound(site)
    folds = page.xpath("//details")
    assert len(folds) == 2
    assert all(f.get("open") is not None and not f.get("name") for f in folds)
    assert not page.xpath("//form | //button | //*[@class='headerlink']")
    assert "only-dark" not in text
    assert pdf.NOTE in text


def test_a_formula_is_a_picture_that_says_itself(site):
    _, page = bound(site)
    (picture,) = page.xpath("//svg[@role='img']")
    assert picture.get("aria-label") == "q equals 2"
    assert page.xpath("//path[@id='g-A']")
    assert not page.xpath("//math")


def test_contents_have_a_space_behind_the_number(site):
    _, page = bound(site)
    lines = [pdf.text_of(li) for li in page.xpath("//nav//li")]
    assert lines == ["Cover", "First part", "1. Chapter", "A place"]


def test_hatching_becomes_lines_in_a_clip():
    root = etree.fromstring(
        '<svg xmlns="http://www.w3.org/2000/svg"><defs><pattern id="h" width="72" '
        'height="72"><path d="M 0 0 L 9 9"/></pattern></defs><path d="M 10 -5 L 100 -5 '
        'L 100 60 L 10 60 z" style="fill: url(#h); stroke: #000"/></svg>'
    )
    assert pdf.unhatch(root)
    shown = etree.tostring(root, encoding="unicode")
    assert "fill: url" not in shown and "stroke: #000" in shown
    moves = re.findall(r'transform="translate\((\S+) (\S+)\)"', shown)
    assert moves == [("0", "-72"), ("0", "0"), ("72", "-72"), ("72", "0")]
    assert not pdf.unhatch(root)


def test_without_a_browser_or_a_site_it_says_so(site, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="index.html is not in .*make book"):
        monkeypatch.setattr(browser, "find", lambda: "chromium")
        pdf.main(["--root", str(site), "--site", str(site)])
    monkeypatch.setattr(browser, "find", lambda: None)
    with pytest.raises(SystemExit) as ended:
        pdf.main(["--root", str(site)])
    assert ended.value.code == pdf.MISSING  # a message: the exit status is 1
    assert "CHROMIUM" in pdf.MISSING
    for tool in (pdf, epub):
        with pytest.raises(SystemExit) as ended:
            tool.main(["--nonsense"])
        assert ended.value.code == 2


@browser.needed
def test_the_printed_pages_hold_everything(site):
    pdf.main(["--root", str(site)])
    reader = PdfReader(site / "_build" / "attention.pdf")
    pages = [" ".join(page.extract_text().split()) for page in reader.pages]
    assert len(pages) == 5
    cover, title, listed, first, chapter = pages
    assert "A small" in cover and "Somebody" in cover
    assert "A small book" in title and "Somebody" in title
    assert re.search(r"Contents.*Cover 4.*1\. Chapter 5.*A place 5", listed)
    assert "Thirty-nine" in chapter and "Yes: because" in chapter
    assert chapter.startswith("1. Chapter")  # what the paper's head says
    assert "end" in chapter.split("wide")[1]  # a long line of code is broken, not cut
    assert "Press" not in first
    width, height = reader.pages[0].mediabox[2:]
    assert (round(width), round(height)) == (595, 842)
    titles = [entry["/Title"] for entry in reader.outline if isinstance(entry, dict)]
    assert "1. Chapter" in titles
    assert reader.metadata.author == "Somebody"
    assert reader.trailer["/Root"]["/MarkInfo"]["/Marked"]
    inside = [
        str(link.get_object().get("/Dest", "")).removeprefix("/")
        for page in reader.pages
        for link in page.get("/Annots", [])
    ]
    assert "one--there" in inside
    assert pdf.places(site / "_build" / "attention.pdf")["one--there"] == 5


SMALL = """# Cover

A formula $q = {\\color{#0072B2} k}$ and {doc}`one`.

```{raw} html
<p class="without-scripts">The controls need scripts.</p>
<form class="gc-form widget" id="gc-form"><input disabled><button>Press</button></form>
<div class="kv widget" id="kv"><div><textarea disabled></textarea></div></div>
<section class="gc-result widget" id="gc-result" hidden></section>
<script defer src="nothing.js"></script>
<div class="cell_output"><pre>ROWS</pre><pre>ROW</pre></div>
<p><a href="file.zip" download>file</a>
<svg viewBox="0 0 1 1"><path d="M0 0"/></svg></p>
```

| 1 | 2 | 3 | 4 | 5 | 6 |
|---|---|---|---|---|---|
| a | b | c | d | e | f |

## More
""".replace("ROWS", 3 * f"{61 * 'x'}\n").replace("ROW", 61 * "x")
CHAPTER = """# Chapter

$$a = \\frac{1}{2}$$ (eq-half)

```{exercise} Two
:label: two
Say two.
```

```{solution} two
:class: dropdown
It is 2: {eq}`eq-half`.
```

:::{question} How many?
- 1

  No: more.
- 2

  Yes: two.
:::
"""


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """An EPUB of two pages: its files by their names, and the XML ones as trees."""
    folder = tmp_path_factory.mktemp("volume")
    book = folder / "book"
    book.mkdir()
    shutil.copytree(
        ROOT / "_ext", folder / "_ext", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "_toc.yml").write_text(TOC)
    (folder / "_config.yml").write_text(CONFIG)
    (book / "index.md").write_text(SMALL)
    (book / "one.md").write_text(CHAPTER)
    tool = [sys.executable, ROOT / "tools" / "epub.py", "--root", folder]
    done = subprocess.run(tool, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    with zipfile.ZipFile(folder / "_build" / "attention.epub") as archive:
        assert archive.infolist()[0].compress_type == zipfile.ZIP_STORED
        files = {name: archive.read(name) for name in archive.namelist()}
    texts = [n for n in files if n.endswith((".xhtml", ".opf", ".xml"))]
    return files, {name: etree.fromstring(files[name]) for name in texts}


def test_an_epub_is_valid_xml_with_its_formulas(volume):
    files, trees = volume
    assert next(iter(files)) == "mimetype"
    assert files["mimetype"] == b"application/epub+zip"
    package = trees["content.opf"]
    listed = {str(href) for href in package.xpath("//@href")}
    assert listed == set(files) - {"mimetype", "META-INF/container.xml", "content.opf"}
    said = package.xpath("//*[contains(@properties, 'mathml svg')]/@href")
    assert said == ["book/index.xhtml", "book/one.xhtml"]
    nav = trees["nav.xhtml"].xpath("//@href")
    assert nav == ["book/index.xhtml", "book/index.xhtml#more", "book/one.xhtml"]
    for name in ("book/index.xhtml", "book/one.xhtml"):
        page = trees[name]
        assert page.xpath("//*[local-name() = 'math']")
        assert page.xpath("//*[local-name() = 'svg' and @class]")
        kinds = {etree.QName(n).localname for n in page.iter(etree.Element)}
        assert not kinds & {"script", "form", "input", "button", "textarea"}
        ids = page.xpath("//@id")
        assert len(ids) == len(set(ids))
    assert trees["book/index.xhtml"].xpath("//*[@href = 'one.xhtml']")
    assert not trees["book/index.xhtml"].xpath("//*[contains(@href, 'zip')]")


def test_an_epub_says_where_the_site_has_controls(volume):
    page = volume[0]["book/index.xhtml"].decode()
    assert page.count(epub.NOTE) == 1 and "need scripts" not in page


def test_what_is_wide_is_set_smaller_on_a_phone(volume):
    page = volume[1]["book/index.xhtml"]
    wide = page.xpath("//*[contains(concat(' ', @class, ' '), ' long ')]")
    assert [etree.QName(node).localname for node in wide] == ["pre", "table"]


def test_an_epub_opens_with_its_cover(volume):
    files, trees = volume
    package = trees["content.opf"]
    items = {one.get("id"): one for one in package.xpath("//*[@media-type]")}
    (declared,) = package.xpath("//*[@properties = 'cover-image']")
    assert declared.get("href") == "cover.png"
    assert package.xpath("//*[@name = 'cover']/@content") == [declared.get("id")]
    first = package.xpath("//*[local-name() = 'itemref']/@idref")[0]
    (shown,) = trees[items[first].get("href")].xpath("//*[local-name() = 'img']")
    assert shown.get("src") == "cover.svg"
    assert shown.get("alt").startswith("A small book. Somebody. ")
    assert len(files["cover.png"]) < 200_000
    assert imread(io.BytesIO(files["cover.png"])).shape[:2] == drawn_cover.SIZE[::-1]
    texts = etree.fromstring(files["cover.svg"]).xpath("//*[local-name() = 'text']")
    words = [node.text for node in texts]
    assert words[:2] == ["A small", "book"] and words[-1] == "Somebody"


def test_the_cover_shows_how_its_title_reads_itself():
    said = pdf.about(ROOT)
    title = said["title"]
    weights = cover.reading(title)
    for t, row in enumerate(weights):
        assert title[row.argmax()].lower() == title[t].lower()  # as its words say
    (ax,) = drawn_cover.plot(weights, title, said["author"]).axes
    drawn = ax.collections[0].get_array()
    np.testing.assert_array_equal(drawn.mask, ~np.tri(len(title), dtype=bool))
    np.testing.assert_allclose(drawn.filled(0) ** 2, weights)
    words = [text.get_text() for text in ax.texts]
    assert "".join(words[-len(title) - 1 : -1]) == title and words[-1] == said["author"]
    plt.close("all")


def test_a_figure_brings_its_own_ground():
    svg = epub.on_white('<svg viewBox="0 0 1 1"><svg/></svg>')
    assert svg.startswith('<svg viewBox="0 0 1 1"><rect') and svg.count("<rect") == 1
