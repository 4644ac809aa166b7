"""Make an EPUB of the whole book: _build/attention.epub, EPUB 3, no script in it.

    python tools/epub.py [--out _build/attention.epub]

Sphinx writes the pages with the settings of _config.yml; this tool makes a book of them
that holds no more than it needs. Formulas are pictures (SVG) with MathML beside them,
figures are SVG; forms and buttons stay on the site.
"""

import argparse
import datetime
import posixpath
import re
import shutil
import sys
import uuid
import zipfile
from html import escape
from pathlib import Path

from lxml import etree

from languages import sphinx
from pdf import NOTE, ROOT, about, classes, contents, name_of, remove, text_of

XHTML = "{http://www.w3.org/1999/xhtml}"
KEPT = ("pygments.css", "epub.css", "formulas.css", "sphinx-design.min.css",
        "page.css", "book.css", "gallery.css", "calculator.css")  # fmt: skip
TYPES = {
    ".xhtml": "application/xhtml+xml", ".css": "text/css", ".svg": "image/svg+xml",
    ".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif",
}  # fmt: skip
# What the theme's variables would say, and what a page has beside its text.
STYLE = """
html {
  --pst-color-border: #8a8a8a; --pst-color-text-base: currentColor;
  --pst-color-text-muted: #5a5a5a; --pst-color-accent: #0072b2;
  --pst-color-surface: transparent; --pst-color-success: #007c5a;
  --pst-color-danger: #b54f00;
}
body { margin: 0 2%; }
img, svg { max-width: 100%; }
img { height: auto; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.8em; }
.highlight, pre { background: #f3f4f5 !important; }
summary .expanded { display: none; }
.cell_output > .output > .highlight pre { border-left: 0.2em solid #8a8a8a; }
.cell_input > .highlight pre, .cell_input pre { border-left: 0.2em solid #007c5a; }
.admonition { margin: 1em 0; padding: 0 0.8em; border: 1px solid #8a8a8a; }
.admonition-title { font-weight: 600; }
.named { border: 0; cursor: auto; }
table { border-collapse: collapse; font-size: 0.85em; }
th, td { padding: 0.2em 0.5em; border-bottom: 1px solid #8a8a8a; }
.controls { font-style: italic; }
"""
CONTAINER = """<?xml version="1.0" encoding="UTF-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="content.opf"
media-type="application/oebps-package+xml"/></rootfiles></container>
"""
# Written by hand into pages as HTML, which is no XML: gone before it is read.
RAW = re.compile(
    r"<(script|form|noscript)\b.*?</\1>|<link\b[^>]*?>"
    r'|<section class="gc-result".*?</section>',
    re.S,
)
BARE = re.compile(r"(<a\b[^<>]*?)\sdownload(?=[\s/>])")
BARE_SVG = re.compile(r"<svg\b(?![^>]*\sxmlns=)")
ROLES = ("doc-biblioentry", "list", "note")
ONCE = ("exercise-content", "solution-content")
DROPPED = """.headerlink|.only-dark|.cite|.kv-without|.ex-without|.gc-without|.gc-status
.d-print-none"""


def build(root, out):
    """The pages as Sphinx writes them for an EPUB. Raises: RuntimeError if it warns."""
    said = about(root)
    sphinx(
        "epub",
        out,
        root,
        project=said["title"],
        version=said["version"],
        epub_show_urls="no",
        epub_use_index=False,
        epub_exclude_files=["_static/reader/reader.html"],
        nitpicky=True,
    )


def without_controls(text):
    """A page's text without what is HTML and no XML, and without the tools."""
    import folds

    for name in ("kv", "ex"):
        start = text.find(f'<div class="{name}" id="{name}">')
        if start >= 0:
            end = folds.end_of(text, start) + len("</div>")
            text = text[:start] + f'<p class="controls">{NOTE}</p>' + text[end:]
    forms = text.count('<form class="gc-form"')
    text = RAW.sub("", text)
    text = BARE.sub(r"\1", text)
    text = BARE_SVG.sub('<svg xmlns="http://www.w3.org/2000/svg"', text)
    if forms:
        text = text.replace("<h2>", f'<p class="controls">{NOTE}</p><h2>', 1)
    return text


class Page:
    """One page of the book. root, its element; title, headings, images (paths)."""

    def __init__(self, folder, page, known):
        """Args: folder, Sphinx's; page, as in _toc.yml; known, the names of all."""
        self.page, self.known = page, known
        text = (folder / f"{page}.xhtml").read_text(encoding="utf-8")
        self.root = etree.fromstring(without_controls(text).encode())
        self.body = self.root.find(f"{XHTML}body")
        self.head()
        self.drop()
        self.mend()
        self.send()
        heading = next(self.body.iter(f"{XHTML}h1"))
        self.title = text_of(heading)
        self.headings = [
            (node.getparent().get("id"), text_of(node))
            for node in self.body.iter(f"{XHTML}h2")
            if node.getparent().get("id")
        ]
        self.properties = [
            name
            for name, tag in (
                ("mathml", "{http://www.w3.org/1998/Math/MathML}math"),
                ("svg", "{http://www.w3.org/2000/svg}svg"),
            )
            if next(self.body.iter(tag), None) is not None
        ]

    def up(self):
        """The way from the page to the root of the book."""
        return "../" * self.page.count("/")

    def head(self):
        head = self.root.find(f"{XHTML}head")
        for node in list(head):
            name = etree.QName(node).localname
            if name == "link" or (name == "meta" and node.get("name") == "viewport"):
                remove(node)
        for name in (*KEPT, "ebook.css"):
            link = etree.SubElement(head, f"{XHTML}link", rel="stylesheet")
            link.set("type", "text/css")
            link.set("href", f"{self.up()}_static/{name}")

    def drop(self):
        for node in self.body.xpath(classes(*DROPPED.replace("\n", "|").split("|"))):
            if node.getparent() is not None:
                remove(node)
        for node in list(self.body.iter(f"{XHTML}button")):
            remove(node)

    def mend(self):
        """What a checker finds, and what only a browser with scripts has a use for."""
        for node in self.body.iter(etree.Element):
            for key in ("tabindex", "data-says", "loading", "decoding"):
                node.attrib.pop(key, None)
            if node.get("role") in ROLES and node.tag.startswith(XHTML):
                del node.attrib["role"]
            if node.get("id") in ONCE:
                del node.attrib["id"]
        for summary in self.body.iter(f"{XHTML}summary"):
            for paragraph in list(summary.iter(f"{XHTML}p")):
                paragraph.tag = f"{XHTML}span"

    def send(self):
        """Links lead to pages of the book; files beside them are left."""
        for node in self.body.iter(f"{XHTML}a"):
            href = node.get("href", "")
            if not href or href.startswith("#") or re.match(r"[a-z]+:", href):
                continue
            path = href.partition("#")[0]
            target = Path(self.page).parent / path
            if (target.suffix != ".xhtml") or name_of(
                str(target)[:-6]
            ) not in self.known:
                for key in ("href", "download"):
                    node.attrib.pop(key, None)

    def images(self):
        found = [node.get("src") for node in self.body.iter(f"{XHTML}img")]
        return [(Path(self.page).parent / src).as_posix() for src in found]

    def text(self):
        return b"<!DOCTYPE html>\n" + etree.tostring(self.root, encoding="utf-8")


def flat(path):
    """a/b/../c as a/c."""
    return posixpath.normpath(path)


def navigation(title, language, pages):
    """nav.xhtml. Args: pages, (caption, Page) each."""
    lines, part, opened = [], "", False
    for caption, page in pages:
        if caption != part:
            lines += ["</ol></li>"] * opened
            lines.append(f"<li><span>{escape(caption)}</span><ol>")
            part, opened = caption, True
        own = f"{page.page}.xhtml"
        inner = "".join(
            f'<li><a href="{own}#{escape(where)}">{escape(text)}</a></li>'
            for where, text in page.headings
        )
        inner = f"<ol>{inner}</ol>" if inner else ""
        lines.append(f'<li><a href="{own}">{escape(page.title)}</a>{inner}</li>')
    lines += ["</ol></li>"] * opened
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html>\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" '
        f'xmlns:epub="http://www.idpf.org/2007/ops" lang="{language}" '
        f'xml:lang="{language}"><head><title>{escape(title)}</title></head><body>'
        '<nav epub:type="toc" id="toc" role="doc-toc"><h1>Contents</h1>'
        f"<ol>{''.join(lines)}</ol></nav></body></html>\n"
    )


def package(said, pages, files):
    """content.opf. Args: said, from about; files, paths of all but the pages."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = f"{said['url'] or said['title']} {said['version']}"
    items = ['<item id="nav" href="nav.xhtml" properties="nav" '
             'media-type="application/xhtml+xml"/>']  # fmt: skip
    for _, page in pages:
        inside = f' properties="{" ".join(page.properties)}"' * bool(page.properties)
        items.append(
            f'<item id="{identifier(page.page)}" href="{page.page}.xhtml" '
            f'media-type="application/xhtml+xml"{inside}/>'
        )
    items += [
        f'<item id="{identifier(path)}" href="{path}" '
        f'media-type="{TYPES[Path(path).suffix]}"/>'
        for path in files
    ]
    spine = "".join(f'<itemref idref="{identifier(p.page)}"/>' for _, p in pages)
    lines = "\n".join(items)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" '
        f'xml:lang="{said["language"]}" unique-identifier="book">\n'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">\n'
        f'<dc:identifier id="book">urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}'
        f"</dc:identifier>\n<dc:title>{escape(said['title'])}</dc:title>\n"
        f"<dc:creator>{escape(said['author'])}</dc:creator>\n"
        f"<dc:language>{said['language']}</dc:language>\n"
        f'<meta property="dcterms:modified">{now}</meta>\n'
        '<meta property="schema:accessMode">textual</meta>\n'
        '<meta property="schema:accessMode">visual</meta>\n'
        '<meta property="schema:accessModeSufficient">textual</meta>\n'
        '<meta property="schema:accessibilityFeature">alternativeText</meta>\n'
        '<meta property="schema:accessibilityFeature">MathML</meta>\n'
        '<meta property="schema:accessibilityHazard">none</meta>\n'
        f"</metadata>\n<manifest>\n{lines}\n</manifest>\n"
        f'<spine><itemref idref="nav"/>{spine}</spine>\n</package>\n'
    )


def identifier(path):
    return "id-" + re.sub(r"[^\w-]", "-", path)


def bind(folder, root, out):
    """The EPUB of the pages in a folder. Returns: the number of pages in it.

    Args: folder, what Sphinx wrote; root, the source; out, the file.
    """
    order = contents(root)
    known = {name_of(page) for _, page in order}
    pages = [(caption, Page(folder, page, known)) for caption, page in order]
    said = about(root)
    static = folder / "_static"
    (static / "ebook.css").write_text(STYLE, encoding="utf-8")
    for name in KEPT:
        if not (static / name).exists():
            (static / name).write_text("", encoding="utf-8")
    files = [f"_static/{name}" for name in (*KEPT, "ebook.css")]
    for name in KEPT:
        css = (static / name).read_text(encoding="utf-8")
        urls = re.findall(r"url\([\"']?(?!data:|#)([^)\"']+)", css)
        files += [f"_static/{u}" for u in urls if (static / u).exists()]
    files += [flat(path) for _, page in pages for path in page.images()]
    files = list(dict.fromkeys(files))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as book:
        book.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        book.writestr("META-INF/container.xml", CONTAINER)
        book.writestr("content.opf", package(said, pages, files))
        book.writestr("nav.xhtml", navigation(said["title"], said["language"], pages))
        for _, page in pages:
            book.writestr(f"{page.page}.xhtml", page.text())
        for path in files:
            book.write(folder / path, path)
    return len(pages)


def arguments():
    parser = argparse.ArgumentParser(description="Make an EPUB of the whole book.")
    parser.add_argument("--root", type=Path, default=ROOT, help="where _toc.yml is")
    parser.add_argument("--out", type=Path, help="the file (_build/attention.epub)")
    return parser


def main(argv=None):
    args = arguments().parse_args(argv)
    root = args.root.resolve()
    out = (args.out or root / "_build" / "attention.epub").resolve()
    folder = out.parent / "epub"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    build(root, folder)
    pages = bind(folder, root, out)
    print(f"{out}: {pages} pages, {out.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    sys.exit(main())
