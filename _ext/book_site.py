"""What the site needs beyond its theme. Each idea has a module of its own; this one
says when each has its turn, and mends what the theme's templates write.
"""

import re
from html import escape
from pathlib import Path

from docutils import nodes

import figures
import folds
import formulas
import icons
import plain_code
import policy
import scripts
import styles

# Found by axe: names that differ from what is seen, a logo outside every landmark,
# roles that ARIA has withdrawn, ids given twice, a heading without words. Then what the
# site's policy forbids: scripts and styles in attributes, a style in the page.
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
    (r'<section id="(?:exercise|solution)-content">', "<section>"),
    (r"<th\b([^>]*)>(?:<p></p>)?</th>", r"<td\1></td>"),  # a table's empty corner
    (r'(<meta name="viewport"[^>]*>)(.*?)\s*<meta name="viewport"[^>]*>', r"\1\2"),
    (r'(<meta name="viewport"[^>]*>)(.*?)\s*<meta name="viewport"[^>]*>', r"\1\2"),
    (r'\n\s*<meta name="docsearch:[^>]*>', ""),
    (r' onclick="(?:window\.)?(\w+)\(\)"', r' data-does="\1"'),
    (r"<noscript>\s*<style>\s*\.pst-js-only.*?</noscript>", ""),
    (r'(<t[^>]*?) style="width: \d+%[^"]*"', r"\1"),
    (r'<div id="ethical-ad-placement".*?</div>', ""),
]
REPAIRS = [(re.compile(wrong, re.S), right) for wrong, right in REPAIRS]

SITES = ("html", "dirhtml")
NUMBER = re.compile(r"(?<=\d) (?=(?:%|[KMGT]?i?B)(?!\w))")
LITERAL = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)


def description(doctree, title):
    """A page's first paragraph of some length, for search engines and link previews."""
    for paragraph in doctree.findall(nodes.paragraph):
        if len(text := " ".join(paragraph.astext().split())) > 60:
            text = text if len(text) <= 160 else text[:157].rsplit(" ", 1)[0] + " …"
            return f'<meta name="description" content="{escape(text)}"/>'
    return f'<meta name="description" content="{escape(title)}"/>'


def keep_units(app, doctree, docname):
    """A line does not end between a number and its unit."""
    if app.builder.format != "html":
        return
    for node in list(doctree.findall(nodes.Text)):
        if not isinstance(node.parent, LITERAL) and NUMBER.search(node):
            kept = nodes.Text(NUMBER.sub("\u00a0", node))
            node.parent.replace(node, kept)


def finish_body(app, pagename, templatename, context, doctree):
    """The part of a page that the book wrote."""
    context["theme_navbar_persistent"] = []  # a second search field above the page
    tags = context.get("metatags", "")
    if 'name="description"' not in tags:
        title = context.get("title") or pagename.capitalize()
        title = f"{title}: {app.config.html_title}"
        doctree = doctree or nodes.Element()  # a page that Sphinx makes
        context["metatags"] = tags + description(doctree, title)
    if context.get("body"):
        body = figures.two_themes(context["body"], app.builder)
        body = formulas.keep(formulas.name_summaries(folds.fold(body)))
        context["body"] = formulas.share(body)


def mend(page, name=""):
    """A whole page, as the theme's template left it; doing it twice changes nothing."""
    for wrong, right in REPAIRS:
        page = wrong.sub(right, page)
    return scripts.choose(page, name)


def finish_site(app, exception):
    """All pages are written: what is about all of them, or about a whole page."""
    if exception or app.builder.name not in SITES:
        return
    out, static = Path(app.outdir), Path(app.outdir, "_static")
    paths = [p for p in out.rglob("*.html") if static not in p.parents]
    pages = {p: mend(p.read_text(encoding="utf-8"), p.name) for p in paths}
    quiet = plain_code.plain((static / "pygments.css").read_text(encoding="utf-8"))
    pages = {path: plain_code.unmark(page, quiet) for path, page in pages.items()}
    listed = next(filter(None, map(unbundled, pages.values())), None)
    if listed:
        names = {s for page in pages.values() for s in scripts.loaded(page)}
        found = filter(Path.is_file, (static / name for name in sorted(names)))
        code = [path.read_text(encoding="utf-8") for path in found]
        css = styles.bundle(pages.values(), code, listed, static)
        css = icons.shrink(css, static)
        (static / styles.NAME).write_text(css, encoding="utf-8")
        pages = {path: styles.link(page, css) for path, page in pages.items()}
    for path, page in pages.items():
        path.write_text(policy.protect(page), encoding="utf-8")
    theme = static / "scripts" / "pydata-sphinx-theme.js"
    theme.write_text(scripts.calm(theme.read_text(encoding="utf-8")), encoding="utf-8")
    for source_map in static.rglob("*.map"):  # no page loads them
        source_map.unlink()


def unbundled(page):
    """The style sheets of a page that has not got the one of styles.py yet."""
    listed = styles.sheets(page)
    return listed if listed and styles.NAME not in listed else None


def write_entrance(app, exception):
    """The site's own address leads to the landing page: a whole page, not a line."""
    if exception or app.builder.name not in SITES:
        return
    target = f"{app.config.root_doc}.html"
    title = escape(app.config.html_title or app.config.project)
    Path(app.outdir, "index.html").write_text(
        f'<!DOCTYPE html>\n<html lang="{app.config.language}">\n<head>\n'
        f'<meta charset="utf-8"/>\n<title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f'<meta name="description" content="{title}: the way in."/>\n'
        f'<meta http-equiv="refresh" content="0; url={target}"/>\n'
        f'<link rel="icon" href="_static/favicon.svg"/>\n</head>\n'
        f'<body><main><h1><a href="{target}">{title}</a></h1></main></body>\n</html>\n',
        encoding="utf-8",
    )


def setup(app):
    formulas.setup(app)
    app.add_css_file("page.css", priority=900)  # after the theme's
    app.add_js_file("site.js")
    app.connect("doctree-resolved", keep_units)
    app.connect("html-page-context", finish_body, priority=900)
    app.connect("build-finished", write_entrance, priority=400)  # or others do
    app.connect("build-finished", finish_site, priority=900)  # others bring styles
    return {"parallel_read_safe": True, "parallel_write_safe": True}
