"""What the site needs beyond its theme: figures for light and dark, maths served by the
book itself, each script once, and repairs of the theme's HTML.
"""

import re
import shutil
from html import escape
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes

import figures

# What tex-chtml.js fetches when a page asks for it: fonts, TeX macros, the menu's aids.
MATHJAX = ["output/chtml/fonts/woff-v2", "input/tex/extensions", "ui", "a11y", "sre"]

# Found by axe: names that differ from what is seen, a logo outside every landmark,
# roles that ARIA has withdrawn.
REPAIRS = [
    (r'(search-button-field[^>]*?) title="Search" aria-label="Search"', r"\1"),
    (r'(<i class="theme-switch [^>]*?) title="[^"]*"', r"\1"),
    (
        r'<div id="pst-primary-sidebar" (?!role)',
        '<div id="pst-primary-sidebar" role="region" aria-label="The book" ',
    ),
    (r'<div role="list" class="citation-list">', '<div class="citation-list">'),
    (r' role="doc-biblioentry"', ""),
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
]


def serve_mathjax(app):
    """Copy MathJax from the installed package into the site."""
    package = Path(find_spec("sphinx-mathjax-offline").submodule_search_locations[0])
    source = package / "static" / "mathjax"
    target = Path(app.outdir, "_static", "mathjax")
    for folder in MATHJAX:
        shutil.copytree(source / folder, target / folder, dirs_exist_ok=True)
    shutil.copy(source / "tex-chtml.js", target)


def once(scripts):
    """Jupyter Book loads thebe on every page, and MathJax twice: each script once."""
    seen = set()
    for script in scripts:
        attributes = getattr(script, "attributes", {})
        key = str((getattr(script, "filename", script), attributes.get("body")))
        if key not in seen and "thebe" not in key.lower():
            yield script
        seen.add(key)


def description(doctree):
    """A page's first paragraph of some length, for search engines and link previews."""
    for paragraph in doctree.findall(nodes.paragraph):
        if len(text := " ".join(paragraph.astext().split())) > 60:
            text = text if len(text) <= 160 else text[:157].rsplit(" ", 1)[0] + " …"
            return f'<meta name="description" content="{escape(text)}"/>'
    return ""


def finish_page(app, pagename, templatename, context, doctree):
    context["script_files"] = list(once(context.get("script_files", [])))
    context["theme_navbar_persistent"] = []  # a second search field above the page
    tags = context.get("metatags", "")
    if doctree is not None and 'name="description"' not in tags:
        context["metatags"] = tags + description(doctree)
    if context.get("body"):
        context["body"] = figures.two_themes(context["body"], app.builder)


def repair(app, exception):
    """Mend what the templates wrote, and drop source maps, which no page loads."""
    if exception or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        before = after = page.read_text(encoding="utf-8")
        for wrong, right in REPAIRS:
            after = re.sub(wrong, right, after)
        if after != before:
            page.write_text(after, encoding="utf-8")
    for source_map in Path(app.outdir, "_static").rglob("*.map"):
        source_map.unlink()


def setup(app):
    app.connect("builder-inited", serve_mathjax)
    app.connect("html-page-context", finish_page, priority=900)
    app.connect("build-finished", repair)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
