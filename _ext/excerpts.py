"""Search results show an excerpt of each page, which the browser fetches. From a file
it may not: there it loads one script that holds the words of all pages.
"""

import json
from html import escape
from pathlib import Path

from lxml import html
from sphinx.util import logging

NAME = "excerpts.js"
SILENT = {"script", "style", "svg", "nav", "button"}
APART = {"p", "li", "pre", "div", "td", "th", "dd"}
FETCH = """fetch(requestUrl)
      .then((responseData) => responseData.text())"""
READ = """
// Of a site that is opened as files no page can be fetched.
let excerpts;
function textOf(docName, url) {
  if (location.protocol !== "file:") return fetch(url).then((page) => page.text());
  excerpts ??= new Promise((done) => {
    const script = document.createElement("script");
    script.src = `${document.documentElement.dataset.content_root}_static/excerpts.js`;
    script.onload = () => done(Search.pages);
    document.head.append(script);
  });
  return excerpts.then((pages) => pages[docName]);
}
"""
log = logging.getLogger(__name__)


def words(node):
    """An element's text, in sections that have the ids of those of the page."""
    if not isinstance(node.tag, str) or node.tag in SILENT:
        return ""
    if "headerlink" in node.get("class", ""):
        return ""
    inside = [escape(node.text or "", quote=False)]
    for child in node:
        inside += [words(child), escape(child.tail or "", quote=False)]
    text = " ".join("".join(inside).split())
    if node.tag in ("section", "dt") and node.get("id"):
        return f' <section id="{node.get("id")}">{text}</section> '
    return f" {text} " if node.tag in APART else text


def summary(page):
    """What a search needs of a page: its text, by section; empty without an article."""
    article = html.fromstring(page).find(".//article")
    return "" if article is None else f'<div role="main">{words(article)}</div>'


def write(app, exception):
    if exception or app.builder.name != "html":
        return
    static = Path(app.outdir, "_static")
    tools = static / "searchtools.js"
    code = tools.read_text(encoding="utf-8")
    if READ not in code:
        if code.count(FETCH) != 1:
            log.warning("Sphinx's search has changed: see _ext/excerpts.py, FETCH")
        code = code.replace(FETCH, "textOf(docName, requestUrl)") + READ
        tools.write_text(code, encoding="utf-8")
    found = {}
    for name in sorted(app.env.found_docs):
        path = Path(app.builder.get_outfilename(name))
        if path.exists():
            found[name] = summary(path.read_text(encoding="utf-8"))
    pages = json.dumps(found, ensure_ascii=False)
    (static / NAME).write_text(f"Search.pages = {pages};\n", encoding="utf-8")


def setup(app):
    app.connect("build-finished", write, priority=910)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
