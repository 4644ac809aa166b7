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

import cover
from languages import sphinx
from pdf import ROOT, about, classes, contents, name_of, remove, text_of

NOTE = "Here the site has controls, which an e-book cannot have."
XHTML = "{http://www.w3.org/1999/xhtml}"
KEPT = ("epub.css", "formulas.css", "sphinx-design.min.css", "page.css", "book.css",
        "widget.css", "gallery.css")  # fmt: skip
TYPES = {
    ".xhtml": "application/xhtml+xml", ".css": "text/css", ".svg": "image/svg+xml",
    ".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif",
}  # fmt: skip
# What the theme's variables would say, and what a page has beside its text. A reader's
# page is white, black or brown: no colour stands on a ground of its own, and each has
# 4.3 to 1 on white and on black.
STYLE = """
:root {
  --pst-color-border: #8a8a8a; --pst-color-text-base: currentColor;
  --pst-color-text-muted: #767676; --pst-color-accent: #0079bc;
  --pst-color-surface: transparent; --pst-color-success: #00825f;
  --pst-color-danger: #bf5600; --sd-color-card-border: #8a8a8a;
  --ink-query: #0079bc; --ink-key: #bf5600; --ink-value: #00825f;
  --ink-output: #a06084;
}
body { margin: 0 2%; overflow-wrap: break-word; }
a:link, a:visited { color: #0079bc; }
img, svg { max-width: 100%; }
img, div.math > .formula { height: auto; }
div.math { overflow: visible; }
div.math > .formula { flex: 0 1 auto; min-width: 0; }
figure { margin: 1em 0; }
figcaption { font-size: 0.9em; }
dd { margin-left: 1.5em; }
pre {
  margin: 0.5em 0; padding: 0.2em 0.5em; border-left: 0.2em solid #8a8a8a;
  font-size: 0.8em; line-height: 1.25; white-space: pre-wrap; overflow-wrap: anywhere;
}
.cell_input pre { border-left-color: #00825f; }
.highlight [class^="c"] { color: #767676; font-style: italic; }
.highlight [class^="m"], .highlight [class^="s"] { color: #8562c9; }
.highlight [class^="k"], .highlight .ow { color: #00825f; font-weight: 600; }
summary .expanded, details[open] > summary .collapsed { display: none; }
details[open] > summary .expanded { display: inline; }
div.admonition, details.admonition {
  margin: 1em 0; padding: 0 0.8em; border: 1px solid #8a8a8a;
}
.admonition-title { font-weight: 600; }
div.admonition > p.admonition-title { margin: 0.6em 0; }
details.admonition > summary { padding: 0.6em 0; }
details.admonition > summary.admonition-title ~ * { margin-left: 0; margin-right: 0; }
details.admonition > summary.admonition-title::after {
  display: inline-block; margin-left: 0.7em; vertical-align: 0.15em;
}
.named { border: 0; cursor: auto; }
table { border-collapse: collapse; font-size: 0.85em; }
div.body th, div.body td { padding: 0.25em 0.4em; border-bottom: 1px solid #8a8a8a; }
th p, td p { margin: 0; }
.citation .label { font-weight: 600; }
.citation p { margin-top: 0; }
caption, figcaption { text-align: left; }
div.body .text-right { text-align: right; }
td.text-right { white-space: nowrap; }
.controls { font-style: italic; }
@media (max-width: 30em) {
  table { font-size: 0.75em; }
  div.body th, div.body td { padding: 0.25em 0.3em; }
  table.long { font-size: 0.6em; overflow-wrap: anywhere; }
  pre.long { font-size: 0.65em; }
}
"""
CONTAINER = """<?xml version="1.0" encoding="UTF-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="content.opf"
media-type="application/oebps-package+xml"/></rootfiles></container>
"""
COVER = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"
lang="{language}" xml:lang="{language}"><head><title>{title}</title>
<style>body {{ margin: 0; text-align: center; }}
img {{ max-width: 100%; max-height: 100vh; }}</style></head>
<body epub:type="cover"><img src="cover.svg" alt="{words}"/></body></html>
"""
# Written by hand into pages as HTML, which is no XML: gone before it is read.
RAW = re.compile(
    r"<(script|form|noscript)\b.*?</\1>|<link\b[^>]*?>"
    r'|<section\b[^>]*\sid="gc-result".*?</section>',
    re.S,
)
TOOL = re.compile(r'<div\b[^>]*\sid="(?:kv|ex)">')
WITHOUT = re.compile(r'<p class="without-scripts">.*?</p>', re.S)
BARE = re.compile(r"(<a\b[^<>]*?)\sdownload(?=[\s/>])")
BARE_SVG = re.compile(r"<svg\b(?![^>]*\sxmlns=)")
LONG = 60  # characters of a line of output that a phone breaks
ROLES = ("doc-biblioentry", "list", "note")
ONCE = ("exercise-content", "solution-content")
DROPPED = """.headerlink|.only-dark|.cite|.kv-without|.ex-without|.gc-without|.gc-status
.gc-links|.d-print-none"""


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

    while tool := TOOL.search(text):
        end = folds.end_of(text, tool.start()) + len("</div>")
        text = text[: tool.start()] + text[end:]
    text = WITHOUT.sub(f'<p class="controls">{NOTE}</p>', RAW.sub("", text))
    text = BARE.sub(r"\1", text)
    return BARE_SVG.sub('<svg xmlns="http://www.w3.org/2000/svg"', text)


class Page:
    """One page of the book. root, its element; title, headings, images (paths)."""

    def __init__(self, folder, page, known):
        """Args: folder, Sphinx's; page, as in _toc.yml; known, the names of all."""
        self.page, self.known = page, known
        text = (folder / f"{page}.xhtml").read_text(encoding="utf-8")
        self.root = etree.fromstring(without_controls(text).encode())
        self.body = self.root.find(f"{XHTML}body")
        self.body.set("class", "bd-article")  # as on the site: gallery.css asks for it
        self.head()
        self.drop()
        self.mend()
        self.fit()
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
            if summary.get("aria-label") == "Toggle hidden content":
                del summary.attrib["aria-label"]
            for paragraph in list(summary.iter(f"{XHTML}p")):
                paragraph.tag = f"{XHTML}span"
        for link in self.body.xpath(classes(".sd-btn")):
            del link.attrib["class"]

    def fit(self):
        """Wide tables and outputs get a class: on a phone they are set smaller."""
        for table in self.body.iter(f"{XHTML}table"):
            if max(map(len, table.iter(f"{XHTML}tr"))) > 5:
                table.set("class", f"{table.get('class')} long")
        for output in self.body.xpath(classes(".cell_output")):
            for pre in output.iter(f"{XHTML}pre"):
                lines = "".join(pre.itertext()).splitlines()
                if sum(len(line) > LONG for line in lines) > 2:  # a table of text
                    pre.set("class", "long")

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


def on_white(svg):
    """A figure with a ground of its own: its ink is made for a white page."""
    ground = r'\g<0><rect width="100%" height="100%" fill="#fff"/>'
    return re.sub(r"<svg\b[^>]*>", ground, svg, count=1)


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
        f'xml:lang="{language}"><head><title>{escape(title)}</title>'
        "<style>ol { list-style: none; }</style></head><body>"
        '<nav epub:type="toc" id="toc" role="doc-toc"><h1>Contents</h1>'
        f"<ol>{''.join(lines)}</ol></nav></body></html>\n"
    )


def package(said, pages, files):
    """content.opf. Args: said, from about; files, paths of all but the pages."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = f"{said['url'] or said['title']} {said['version']}"
    items = ['<item id="nav" href="nav.xhtml" properties="nav" '
             'media-type="application/xhtml+xml"/>',
             '<item id="cover" href="cover.xhtml" '
             'media-type="application/xhtml+xml"/>']  # fmt: skip
    for _, page in pages:
        inside = f' properties="{" ".join(page.properties)}"' * bool(page.properties)
        items.append(
            f'<item id="{identifier(page.page)}" href="{page.page}.xhtml" '
            f'media-type="application/xhtml+xml"{inside}/>'
        )
    items += [
        f'<item id="{identifier(path)}" href="{path}" '
        f'media-type="{TYPES[Path(path).suffix]}"'
        + ' properties="cover-image"' * (path == "cover.png")
        + "/>"
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
        f'<meta name="cover" content="{identifier("cover.png")}"/>\n'
        '<meta property="schema:accessMode">textual</meta>\n'
        '<meta property="schema:accessMode">visual</meta>\n'
        '<meta property="schema:accessModeSufficient">textual</meta>\n'
        '<meta property="schema:accessibilityFeature">alternativeText</meta>\n'
        '<meta property="schema:accessibilityFeature">MathML</meta>\n'
        '<meta property="schema:accessibilityHazard">none</meta>\n'
        f"</metadata>\n<manifest>\n{lines}\n</manifest>\n"
        '<spine><itemref idref="cover"/><itemref idref="nav"/>'
        f"{spine}</spine>\n</package>\n"
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
    words = cover.save(said["title"], said["author"], folder)
    title, language = escape(said["title"]), said["language"]
    first = COVER.format(language=language, title=title, words=escape(words))
    files = [f"cover.{kind}" for kind in cover.KINDS]
    files += [f"_static/{name}" for name in (*KEPT, "ebook.css")]
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
        book.writestr("cover.xhtml", first)
        book.writestr("nav.xhtml", navigation(said["title"], said["language"], pages))
        for _, page in pages:
            book.writestr(f"{page.page}.xhtml", page.text())
        for path in files:
            if path.startswith("_images/") and path.endswith(".svg"):
                svg = (folder / path).read_text(encoding="utf-8")
                book.writestr(path, on_white(svg))
            else:
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
