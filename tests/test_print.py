"""The printed book and the EPUB, on sites of two pages."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import browser
import pytest
from lxml import etree
from pypdf import PdfReader

import epub
import notebooks
import pdf

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
    assert "A small book" in pages[0] and "Somebody" in pages[0]
    assert re.search(r"Contents.*Cover 3.*1\. Chapter 4.*A place 4", pages[1])
    assert len(pages) == 4
    assert "Thirty-nine" in pages[3] and "Yes: because" in pages[3]
    assert pages[3].startswith("1. Chapter")  # what the paper's head says
    assert "end" in pages[3].split("wide")[1]  # a long line of code is broken, not cut
    assert "Press" not in pages[2]
    width, height = reader.pages[0].mediabox[2:]
    assert (round(width), round(height)) == (595, 842)
    titles = [entry["/Title"] for entry in reader.outline if isinstance(entry, dict)]
    assert "1. Chapter" in titles
    assert reader.trailer["/Root"]["/MarkInfo"]["/Marked"]
    inside = [
        str(link.get_object().get("/Dest", "")).removeprefix("/")
        for page in reader.pages
        for link in page.get("/Annots", [])
    ]
    assert "one--there" in inside
    assert pdf.places(site / "_build" / "attention.pdf")["one--there"] == 4


SMALL = """# Cover

A formula $q = {\\color{#0072B2} k}$ and {doc}`one`.

```{raw} html
<form class="gc-form" id="gc-form"><input disabled><button>Press</button></form>
<script defer src="nothing.js"></script>
<p><a href="file.zip" download>file</a>
<svg viewBox="0 0 1 1"><path d="M0 0"/></svg></p>
```

## More
"""
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


def test_an_epub_is_valid_xml_with_its_formulas(tmp_path):
    book = tmp_path / "book"
    book.mkdir()
    shutil.copytree(
        ROOT / "_ext", tmp_path / "_ext", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "_toc.yml").write_text(TOC)
    (tmp_path / "_config.yml").write_text(CONFIG)
    (book / "index.md").write_text(SMALL)
    (book / "one.md").write_text(CHAPTER)
    tool = [sys.executable, ROOT / "tools" / "epub.py", "--root", tmp_path]
    done = subprocess.run(tool, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    with zipfile.ZipFile(tmp_path / "_build" / "attention.epub") as archive:
        names = archive.namelist()
        assert names[0] == "mimetype"
        assert archive.infolist()[0].compress_type == zipfile.ZIP_STORED
        files = {name: archive.read(name) for name in names}
    assert files["mimetype"] == b"application/epub+zip"
    texts = [n for n in names if n.endswith((".xhtml", ".opf", ".xml"))]
    trees = {name: etree.fromstring(files[name]) for name in texts}
    package = trees["content.opf"]
    listed = {str(href) for href in package.xpath("//@href")}
    assert listed == set(names) - {"mimetype", "META-INF/container.xml", "content.opf"}
    said = package.xpath("//*[contains(@properties, 'mathml svg')]/@href")
    assert said == ["book/index.xhtml", "book/one.xhtml"]
    nav = trees["nav.xhtml"].xpath("//@href")
    assert nav == ["book/index.xhtml", "book/index.xhtml#more", "book/one.xhtml"]
    for name in ("book/index.xhtml", "book/one.xhtml"):
        page = trees[name]
        assert page.xpath("//*[local-name() = 'math']")
        assert page.xpath("//*[local-name() = 'svg' and @class]")
        kinds = {etree.QName(n).localname for n in page.iter(etree.Element)}
        assert not kinds & {"script", "form", "input", "button"}
        ids = page.xpath("//@id")
        assert len(ids) == len(set(ids))
    assert trees["book/index.xhtml"].xpath("//*[@href = 'one.xhtml']")
    assert not trees["book/index.xhtml"].xpath("//*[contains(@href, 'zip')]")
