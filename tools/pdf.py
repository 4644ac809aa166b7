"""Print the built site as one PDF: the whole book on A4, without LaTeX.

    python tools/pdf.py [--site _build/html] [--out _build/attention.pdf]

Needs the site (`make book`) and Chromium. The pages of _toc.yml become one HTML page,
_build/print/print.html: a title page, contents, then each page of the book, with all
folds open, one of each figure's two twins, and links that lead inside. Chromium prints
it twice: the first time to learn where everything is, then with page numbers in the
contents.
"""

import argparse
import base64
import json
import math
import os
import re
import sys
import tempfile
from html import escape
from pathlib import Path

import yaml
from lxml import etree, html
from pypdf import PdfReader, PdfWriter
from pypdf.generic import NameObject, TextStringObject

ROOT = Path(__file__).resolve().parent.parent
for folder in ("_ext", "tests"):
    if str(ROOT / folder) not in sys.path:
        sys.path.append(str(ROOT / folder))

import browser  # noqa: E402  the tests' client of DevTools

import cover  # noqa: E402
import spoken  # noqa: E402

MISSING = "pdf: no Chromium on this machine: install it, or name one in CHROMIUM"
PATIENCE = 1200  # seconds that Chromium may take to print
WIDTH = 642  # CSS pixels between the margins of print.css: 170 mm
LONG = 28  # lines of code that may be torn apart; fewer stay on one page
SHORT = 16  # lines of a cell that stays with its output
TALL = 800  # CSS pixels: a figure that is not taller is drawn smaller on paper

# What a page of the site has and paper has no use for. The whole cards of the gallery
# would be a book of their own.
DROPPED = """script|link|style|form|noscript|button|template
.headerlink|.only-dark|.cite|.kv|.ex|.kv-without|.ex-without|.gc-result|.gc-without|.gc-status|.gc-more
.formula-glyphs|.d-print-none|.toctree-wrapper|.languages|.without-scripts"""
CONTROLS = ("kv", "ex", "gc-form")
NOTE = "Here the site has controls, which a printed page cannot have."
LISTS = ("aria-labelledby", "aria-describedby", "for", "headers", "aria-controls")
IN_STYLE = re.compile(r"url\(#([^)]+)\)")

# Wider than the text: a formula, a table or a figure is drawn smaller until it fits.
FIT = """(() => {
  const found = document.querySelectorAll(
    "div.math > svg, table, pre, .bd-article svg, .bd-article img");
  let fitted = 0;
  for (const one of found) {
    if (one.closest("table") && one.localName !== "table") continue;
    const room = one.parentElement.getBoundingClientRect();
    const right = Math.min(room.right, document.body.getBoundingClientRect().right);
    const left = one.getBoundingClientRect().left;
    const wide = Math.max(one.scrollWidth || 0, one.getBoundingClientRect().width);
    if (wide > right - left + 1) {
      one.style.zoom = Math.max(0.4, (right - left) / wide * 0.995);
      fitted += 1;
    }
  }
  return fitted;
})()"""
WAIT = """Promise.all([...document.images].map((image) => image.decode().then(
  () => "", () => image.getAttribute("src")))).then((all) => all.filter(Boolean))"""


def contents(root):
    """The pages of _toc.yml in order: a list of (caption of their part, page)."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    found = [("", toc["root"])]
    for part in toc.get("parts", [{"chapters": toc.get("chapters", [])}]):
        caption = part.get("caption", "")
        found += [(caption, page["file"]) for page in part["chapters"]]
    return found


def about(root):
    """What stands on a title page: title, author, version, language and url, a dict."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    cff = root / "CITATION.cff"
    cited = yaml.safe_load(cff.read_text(encoding="utf-8")) if cff.exists() else {}
    return {
        "title": config["title"],
        "author": config.get("author", "unknown"),
        "version": str(cited.get("version", "0")),
        "language": config.get("sphinx", {}).get("config", {}).get("language", "en"),
        "url": config.get("html", {}).get("baseurl") or "",
    }


def classes(*names):
    """XPath for elements with one of these classes, or of these kinds."""
    tests = []
    for name in names:
        if name.startswith("."):
            tests.append(f'contains(concat(" ", @class, " "), " {name[1:]} ")')
        else:
            tests.append(f"self::{name}")
    return f".//*[{' or '.join(tests)}]"


def remove(node):
    """Take an element out; the text behind it stays."""
    before, parent = node.getprevious(), node.getparent()
    if node.tail:
        if before is None:
            parent.text = (parent.text or "") + node.tail
        else:
            before.tail = (before.tail or "") + node.tail
    parent.remove(node)


SVG = "{http://www.w3.org/2000/svg}"
HATCHED = re.compile(r"fill: url\(#([^)]+)\)")


def unhatch(root):
    """Hatching in a figure as lines in a clip: Chromium prints patterns as pixels.

    Args: root, the element of a figure by Matplotlib; it is changed.
    """
    patterns = {one.get("id"): one for one in root.iter(f"{SVG}pattern")}
    paths = [p for p in root.iter(f"{SVG}path") if HATCHED.search(p.get("style", ""))]
    for i, path in enumerate(paths):
        pattern = patterns.get(HATCHED.search(path.get("style"))[1])
        if pattern is None or path.get("transform"):
            continue
        numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", path.get("d"))]
        wide, high = float(pattern.get("width")), float(pattern.get("height"))
        group = etree.Element(f"{SVG}g")
        if path.get("clip-path"):
            group.set("clip-path", path.get("clip-path"))
        clip = etree.SubElement(group, f"{SVG}clipPath", id=f"hatched-{i}")
        etree.SubElement(clip, f"{SVG}path", d=path.get("d"))
        lines = etree.SubElement(group, f"{SVG}g")
        lines.set("clip-path", f"url(#hatched-{i})")
        for x in steps(numbers[0::2], wide):
            for y in steps(numbers[1::2], high):
                tile = etree.SubElement(lines, f"{SVG}g")
                tile.set("transform", f"translate({x:g} {y:g})")
                tile.extend(etree.fromstring(etree.tostring(c)) for c in pattern)
        style = HATCHED.sub("fill: none", path.get("style"))
        path.addprevious(group)
        path.set("style", style)
    return bool(paths)


def steps(numbers, width):
    """Where tiles of this width start that cover all numbers."""
    first, last = (math.floor(edge(numbers) / width) for edge in (min, max))
    return [n * width for n in range(first, last + 1)]


def name_of(page):
    """What the page is called in the printed whole."""
    return page.rsplit("/", 1)[-1]


class Page:
    """One page of the site: its title, and its body as it is printed.

    body, an element; title; headings, (identifier, text) of its second level; glyphs,
    the outlines that its formulas use.
    """

    def __init__(self, site, page, known, folder):
        """Args: site, a folder; page, as in _toc.yml; known, the names of all pages;
        folder, for what must be changed before it is printed."""
        self.site, self.page, self.known, self.folder = site, page, known, folder
        self.name = name_of(page)
        whole = html.parse(
            str(site / f"{page}.html"), html.HTMLParser(encoding="utf-8")
        )
        self.body = whole.getroot().xpath(
            '//article[contains(concat(" ", @class, " "), " bd-article ")]'
        )[0]
        self.glyphs = {
            path.get("id"): path.get("d")
            for path in self.body.xpath('.//*[@class="formula-glyphs"]//path')
        }
        self.say_formulas()
        self.drop()
        self.flatten()
        self.rename()
        self.open_folds()
        self.mark()
        self.send()
        self.title = text_of(self.body.xpath(".//h1")[0])
        self.headings = [
            (node.get("id"), text_of(node))
            for node in self.body.xpath(".//section/h2[@id]")
        ]
        self.body.set("id", self.name)
        self.body.set("class", "bd-article printed")
        self.body.set("style", f"page: {paper(self.name)}")

    def say_formulas(self):
        """A formula's MathML becomes the name of its picture."""
        for words in self.body.xpath(classes(".formula-words")):
            picture = words.getprevious()
            mml = etree.tostring(words[0], encoding="unicode", with_tail=False)
            picture.set("role", "img")
            picture.set("aria-label", spoken.speak(mml))
            for hidden in ("aria-hidden", "focusable"):
                picture.attrib.pop(hidden, None)
            remove(words)

    def drop(self):
        for name in CONTROLS:
            for node in self.body.xpath(f'.//*[@id="{name}"]'):
                node.addprevious(html.fromstring(f'<p class="controls">{NOTE}</p>'))
        names = [name for line in DROPPED.split() for name in line.split("|")]
        for node in self.body.xpath(classes(*names)):
            if node.getparent() is not None:
                remove(node)

    def rename(self):
        """Each identifier and all that refers to it carries the page's name."""
        own = set(self.body.xpath(".//@id"))

        def renamed(name):
            return f"{self.name}--{name}" if name in own else name

        for node in self.body.iter(etree.Element):
            for key, value in node.attrib.items():
                if key == "id":
                    node.set(key, renamed(value))
                elif key in LISTS:
                    node.set(key, " ".join(map(renamed, value.split())))
                elif "url(#" in value:
                    node.set(key, IN_STYLE.sub(
                        lambda m: f"url(#{renamed(m[1])})", value))  # fmt: skip
                elif key.endswith("href") and value.startswith("#"):
                    node.set(key, f"#{renamed(value[1:])}" if value[1:] else "#")

    def open_folds(self):
        for fold in self.body.iter("details"):
            fold.attrib.pop("name", None)
            fold.set("open", "")
        for image in self.body.iter("img"):
            image.attrib.pop("loading", None)
        for node in self.body.xpath(".//*[@tabindex]"):
            del node.attrib["tabindex"]
        for part in self.body.xpath(classes(".cell_input", ".cell_output")):
            if part.text_content().count("\n") > LONG:
                part.set("class", f"{part.get('class')} long")
        for cell in self.body.xpath(classes(".cell")):
            short = cell.text_content().count("\n") <= SHORT
            if short and not cell.xpath(".//img | .//details | .//table"):
                cell.set("class", f"{cell.get('class')} whole")
        for image in self.body.xpath(".//figure//img[@height]"):
            if float(image.get("height")) <= TALL:
                image.set("style", "zoom: 0.85")

    def mark(self):
        """A section's name goes to its heading: the section may begin at the foot of
        the page before, and its page number would be one too small.
        """
        for section in self.body.xpath(".//section[@id]"):
            heads = section.xpath("h1 | h2 | h3 | h4 | h5 | h6")
            if heads and not heads[0].get("id"):
                heads[0].set("id", section.attrib.pop("id"))

    def flatten(self):
        """Patterns become pictures in a PDF: a light shade of their colour instead."""
        for pattern in self.body.xpath(".//pattern[@id]"):
            inks = pattern.xpath(".//@fill | .//@stroke")
            for node in self.body.xpath(f'.//*[@fill="url(#{pattern.get("id")})"]'):
                node.set("fill", inks[-1])
                node.set("fill-opacity", "0.3")

    def send(self):
        """Links within the book lead to its pages here; files beside them are left."""
        folder = Path(self.page).parent
        for node in self.body.xpath(".//img[@src]"):
            target = Path(os.path.normpath(self.site / folder / node.get("src")))
            node.set("src", self.figure(target).as_uri())
        for node in self.body.xpath(".//a[@href]"):
            href = node.get("href")
            node.attrib.pop("title", None)
            if href.startswith("#") or re.match(r"[a-z]+:", href):
                continue
            path, _, anchor = href.partition("#")
            target = os.path.normpath(folder / path).removesuffix(".html")
            if Path(target).as_posix() in self.known:
                place = name_of(target)
                node.set("href", f"#{place}--{anchor}" if anchor else f"#{place}")
            else:
                del node.attrib["href"]

    def figure(self, path):
        """The figure without patterns, written beside the whole, if it has some."""
        if path.suffix != ".svg" or b"<pattern" not in path.read_bytes():
            return path
        tree = etree.parse(str(path))
        if not unhatch(tree.getroot()):
            return path
        changed = self.folder / path.name
        tree.write(str(changed), encoding="utf-8")
        return changed


def text_of(node):
    """The words of an element, on one line; of a formula, what it says."""
    parts = [node.text or ""]
    for child in node:
        if isinstance(child.tag, str):
            parts.append(
                child.get("aria-label") or text_of(child) + " " * spaced(child)
            )
        parts.append(child.tail or "")
    return " ".join("".join(parts).split())


def spaced(node):
    return "section-number" in (node.get("class") or "")


def paper(name):
    """The name of a page's kind of paper in the style sheet."""
    return "of-" + re.sub(r"\W", "-", name)


def quoted(text):
    """A string for a style sheet."""
    return json.dumps(text, ensure_ascii=False)


def entry(level, target, text):
    return (
        f'<li class="{level}"><a href="#{target}"><span>{escape(text)}</span>'
        f'<span class="at" data-at="{target}"></span></a></li>'
    )


def front(said, pages, folder):
    """Cover, title page and contents, as HTML.

    Args: said, from about; pages, (caption, Page) each; folder, for the cover.
    """
    title, author = said["title"], said["author"]
    words = cover.save(title, author, folder, ["svg"])
    lines, part = [], ""
    for caption, page in pages:
        if caption != part:
            lines.append(f'<li class="part">{escape(caption)}</li>')
            part = caption
        lines.append(entry("chapter", page.name, page.title))
        if part == pages[1][0] or page.title[:1].isdigit():
            lines += [entry("section", *heading) for heading in page.headings]
    return (
        f'<div class="cover-page"><img src="cover.svg" alt="{escape(words)}"/></div>'
        f'<header class="title-page"><p class="book">{escape(title)}</p>'
        f'<p class="author">{escape(author)}</p>'
        f"<p>Version {escape(said['version'])}</p></header>"
        f'<nav class="book-contents"><h1>Contents</h1><ul>{"".join(lines)}</ul></nav>'
    )


def bind(site, root, folder):
    """The whole book as one HTML page.

    Args: site, the built one; root, the source; folder, where the page will be.
    """
    said, order = about(root), contents(root)
    known = {page for _, page in order}
    pages = [(caption, Page(site, page, known, folder)) for caption, page in order]
    glyphs = {}
    for _, page in pages:
        glyphs |= page.glyphs
    outlines = "".join(f'<path id="{n}" d="{d}"/>' for n, d in sorted(glyphs.items()))
    heads = "\n".join(
        f"@page {paper(page.name)} {{ @top-left {{ content: {quoted(page.title)} }} }}"
        for _, page in pages
    )
    static = (site / "_static").resolve()
    sheets = [static / name for name in ("site.css", "pygments.css", "print.css")]
    if (root / "book/_static/print.css").exists():  # newer than the site's
        sheets[-1] = (root / "book/_static/print.css").resolve()
    for name in ("gallery.css", "calculator.css"):
        sheets.insert(2, static / name)
    links = "".join(
        f'<link rel="stylesheet" href="{sheet.as_uri()}"/>\n'
        for sheet in sheets
        if sheet.exists()
    )
    bodies = "\n".join(
        etree.tostring(page.body, encoding="unicode", method="html", with_tail=False)
        for _, page in pages
    )
    return (
        f'<!DOCTYPE html>\n<html lang="{said["language"]}" data-theme="light" '
        f'data-mode="light">\n<head><meta charset="utf-8"/>\n'
        f"<title>{escape(said['title'])}</title>\n"
        f'<meta name="author" content="{escape(said["author"])}"/>\n{links}'
        f"<style>{heads}</style>\n</head>\n"
        f'<body class="bound"><svg class="formula-glyphs" width="0" height="0" '
        f'aria-hidden="true"><defs>{outlines}</defs></svg>\n'
        f"{front(said, pages, folder)}\n"
        f'<main class="bd-content">\n{bodies}\n</main></body>\n</html>\n'
    )


def places(pdf):
    """Where each target of a link is: a dict of name to page, from 1."""
    reader = PdfReader(pdf)
    numbers = {
        page.indirect_reference.idnum: i for i, page in enumerate(reader.pages, 1)
    }
    found = {}
    for name, target in reader.named_destinations.items():
        page = target.get("/Page")
        if hasattr(page, "idnum") and page.idnum in numbers:
            found[name.removeprefix("/")] = numbers[page.idnum]
    return found


def bookmarks(node):
    """All entries of an outline below one, in order."""
    one = node.get("/First")
    while one is not None:
        one = one.get_object()
        yield one
        yield from bookmarks(one)
        one = one.get("/Next")


def entitle(out, page, author):
    """Chromium says a heading at the top of a page twice in the outline, and glues the
    lines of a long one together: each gets its words again, and the file its author.

    Args: out, the PDF, which is changed; page, the HTML that was printed; author.
    """
    parser = html.HTMLParser(encoding="utf-8", huge_tree=True)
    root = html.parse(str(page), parser).getroot()
    said = [text_of(node) for node in root.xpath("//h1|//h2|//h3|//h4|//h5|//h6")]
    writer = PdfWriter(out, incremental=True)
    marks = list(bookmarks(writer.root_object["/Outlines"].get_object()))
    if len(marks) != len(said):
        print(f"pdf: {len(marks)} bookmarks, {len(said)} headings", file=sys.stderr)
        return
    for mark, words in zip(marks, said, strict=True):
        if mark["/Title"] != words:
            mark[NameObject("/Title")] = TextStringObject(words)
    writer.add_metadata({"/Author": author})
    writer.write(out)


def print_page(page, out):
    """Print an HTML file. Returns: the number of pages.

    Args: page, out: paths.
    """

    def save(chrome):
        done = chrome.call(
            "Page.printToPDF", preferCSSPageSize=True, printBackground=True,
            generateTaggedPDF=True, generateDocumentOutline=True,
            transferMode="ReturnAsStream",
        )  # fmt: skip
        with open(out, "wb") as file:  # piece by piece: a message has its limits
            end = False
            while not end:
                part = chrome.call("IO.read", handle=done["stream"], size=2**22)
                file.write(base64.b64decode(part["data"]))
                end = part["eof"]

    browser.PATIENCE = PATIENCE
    profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # still written
    with profile as folder, browser.Browser(Path(folder)) as c:
        c.call("Emulation.setEmulatedMedia", media="print")
        c.size(WIDTH)
        c.open(page.as_uri())
        if lost := c.run(WAIT):
            raise ValueError(f"pictures that do not load: {', '.join(lost[:5])}")
        c.run(FIT)
        c.call("Emulation.clearDeviceMetricsOverride")
        save(c)
        at = {name: str(number) for name, number in places(out).items()}
        blanks = c.run(
            f"""(() => {{ const at = {json.dumps(at)}; let blank = 0;
            for (const one of document.querySelectorAll("[data-at]")) {{
              one.textContent = at[one.dataset.at] ?? "";
              blank += !one.textContent;
            }} return blank; }})()"""
        )
        if blanks:
            print(f"pdf: {blanks} lines of the contents have no page", file=sys.stderr)
        save(c)
    return len(PdfReader(out).pages)


def arguments():
    parser = argparse.ArgumentParser(
        description="Print the built site as one PDF (needs Chromium)."
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="where _toc.yml is")
    parser.add_argument("--site", type=Path, help="the built site (_build/html)")
    parser.add_argument("--out", type=Path, help="the file (_build/attention.pdf)")
    return parser


def main(argv=None):
    args = arguments().parse_args(argv)
    root = args.root.resolve()
    site = (args.site or root / "_build" / "html").resolve()
    out = args.out or root / "_build" / "attention.pdf"
    if browser.find() is None:
        sys.exit(MISSING)
    lacking = [p for _, p in contents(root) if not (site / f"{p}.html").exists()]
    if lacking:
        sys.exit(
            f"pdf: {lacking[0]}.html is not in {site}: build the site, `make book`"
        )
    bound = out.parent.resolve() / "print" / "print.html"
    bound.parent.mkdir(parents=True, exist_ok=True)
    bound.write_text(bind(site, root, bound.parent), encoding="utf-8")
    pages = print_page(bound, out.resolve())
    entitle(out.resolve(), bound, about(root)["author"])
    print(f"{out}: {pages} pages, {out.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
