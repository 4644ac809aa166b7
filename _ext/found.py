"""How a page is found and cited: previews for links, a sitemap and canonical addresses
where the book has an address, names of formulas for the search, and a citation.
"""

from html import escape
from pathlib import Path

import yaml
from docutils import nodes


def announce(app):
    """Previews and a sitemap hold whole addresses: nothing without the book's own."""
    site = app.config.html_baseurl
    if not site:
        return
    for extension in ("sphinxext.opengraph", "sphinx_sitemap"):
        app.setup_extension(extension)
    app.config.ogp_site_url = site
    app.config.ogp_enable_meta_description = False  # ours is shorter
    app.config.ogp_social_cards = {"line_color": "#0072B2"}
    app.config.sitemap_url_scheme = "{link}"
    app.config.sitemap_excludes = ["search.html", "genindex.html"]


def name_formulas(app, doctree):
    """A formula has no words to search for; its label has: eq-self-rope."""
    labels = {node.get("label") for node in doctree.findall(nodes.math_block)} - {None}
    words = sorted({w for each in labels for w in each.removeprefix("eq-").split("-")})
    if words:
        doctree += nodes.meta("", name="keywords", content=",".join(words))


def citation(app, pagename, title):
    """BibTeX for one page, from CITATION.cff."""
    book = yaml.safe_load(Path(app.srcdir, "CITATION.cff").read_text(encoding="utf-8"))
    fields = {
        "author": "{" + book["authors"][0]["name"] + "}",
        "title": title,
        "booktitle": book["title"],
        "year": book["preferred-citation"]["year"],
        "note": f"Version {book['version']}",
    }
    if app.config.html_baseurl:
        address = app.builder.get_target_uri(pagename)
        fields["url"] = app.config.html_baseurl.rstrip("/") + "/" + address
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@incollection{{attnbook:{Path(pagename).name},\n{lines}}}"


def cite(app, pagename, templatename, context, doctree):
    """A folded citation at the foot of each page of the book."""
    if doctree is None or not context.get("body") or pagename == app.config.root_doc:
        return
    title = app.env.titles[pagename].astext()
    text = escape(citation(app, pagename, title))
    context["body"] += (
        '<details class="cite"><summary>Cite this page</summary>'
        f'<pre tabindex="0">{text}</pre></details>\n'
    )


def setup(app):
    announce(app)
    app.connect("doctree-read", name_formulas)
    app.connect("html-page-context", cite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
