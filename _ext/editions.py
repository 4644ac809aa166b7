"""Editions in other languages. A page belongs to an edition when its catalogue, in
locale/LANGUAGE/LC_MESSAGES, translates at least one of its messages; links to all other
pages lead to the English ones. tools/languages.py makes the catalogues and builds the
editions. What the site says around its pages is in locale/LANGUAGE/site.po.
"""

import re
from functools import cache
from html import escape
from pathlib import Path

from babel.messages import pofile
from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx_exercise.nodes import exercise_subtitle, exercise_title

NAMES = {"en": "English", "ja": "日本語"}
SHARES = {
    "ja": "このページは {done} % が翻訳されています。翻訳のない部分は英語のままです。",
}
PLACE = '<p class="languages" hidden></p>'
HEAD = re.compile(r"(?=</head>)")
# Where the words of the theme and of the extensions stand in a page.
AROUND = re.compile(
    r"(?P<before><(?:p|summary)\b[^>]*>\s*|<span>|"
    r'\s(?:aria-label|title|placeholder|data-bs-title)=")'
    r"(?P<words>[A-Z][^<>\"]*?)(?P<after>\s*</(?:p|summary|span)>|\")"
)
# Sphinx makes a function of a text, which the site's policy forbids: it is one already.
PLURAL = re.compile(r'"plural_expr": "([^"]*)"')
FUNCTION = re.compile(r"new Function\(.*?\);", re.S)


def catalogue(root, language, page):
    return Path(root, "locale", language, "LC_MESSAGES", f"{page}.po")


def site_words(root, language):
    return Path(root, "locale", language, "site.po")


def messages(path):
    """A catalogue's messages in force (not the obsolete ones), its head left out."""
    with path.open("rb") as file:
        return [message for message in pofile.read_po(file) if message.id]


def share(path):
    """The share of a catalogue that is translated, by length, from 0 to 1."""
    found = messages(path)
    done = sum(len(m.id) for m in found if m.string and not m.fuzzy)
    return done / max(1, sum(len(m.id) for m in found))


@cache
def words_of(path):
    """A catalogue's translations as a dict; empty where there is none."""
    found = messages(path) if path.exists() else []
    return {m.id: m.string for m in found if m.string and not m.fuzzy}


def words(root, language, page):
    return words_of(catalogue(root, language, page))


def translated(root, language):
    """The pages of an edition, each with the share that is translated."""
    folder = Path(root, "locale", language, "LC_MESSAGES")
    shares = {
        path.relative_to(folder).with_suffix("").as_posix(): share(path)
        for path in sorted(folder.rglob("*.po"))
    }
    return {page: done for page, done in shares.items() if done > 0}


def languages(root):
    """The languages that have an edition beside the English one."""
    return sorted(path.name for path in Path(root, "locale").glob("*") if path.is_dir())


def switch(hrefs, note=""):
    """The paragraph above a page: the same page in other languages, by language."""
    links = " ".join(
        f'<a href="{href}" hreflang="{code}" lang="{code}">{NAMES[code]}</a>'
        for code, href in hrefs.items()
    )
    return f'<p class="languages">{links}{" " * bool(note)}{escape(note)}</p>'


def alternates(address, page, codes):
    """For search engines: all editions of a page, which want whole addresses. Nothing
    where the book has none.
    """
    if not address:
        return ""
    folders = {code: "" if code == "en" else f"{code}/" for code in ["en", *codes]}
    return "".join(
        f'<link rel="alternate" hreflang="{code}" href="{address}/{at}{page}.html"/>\n'
        for code, at in [*folders.items(), ("x-default", "")]
    )


def join(text, page, codes, address=""):
    """An English page's HTML with links to the same page in other languages."""
    if PLACE not in text:
        return text
    up = "../" * page.count("/")
    text = text.replace(PLACE, switch({c: f"{up}{c}/{page}.html" for c in codes}))
    return HEAD.sub(alternates(address, page, codes), text, count=1)


def to_english(app, pagename):
    """From a page of an edition to the English page of the same name."""
    return "../" * (pagename.count("/") + 1) + f"{pagename}.html"


def place(app, pagename, templatename, context, doctree):
    """English pages keep a place for the switch; those of an edition have it."""
    if doctree is None or not context.get("body") or app.builder.name != "html":
        return
    language = app.config.language
    if language == "en":
        context["body"] = PLACE + context["body"]
        return
    href = to_english(app, pagename)
    done = int(100 * app.edition[pagename])
    note = SHARES[language].format(done=done) if done < 100 else ""
    context["body"] = switch({"en": href}, note) + context["body"]
    site = app.config.html_baseurl.rstrip("/").removesuffix(f"/{language}")
    links = alternates(site, pagename, [language])
    context["metatags"] = context.get("metatags", "") + links


def narrow(app):
    """An edition writes its own pages; links to others lead to the English book."""
    if app.config.language == "en" or app.builder.format != "html":
        return
    app.edition = translated(app.srcdir, app.config.language)
    title = app.config.html_title
    found = words(app.srcdir, app.config.language, app.config.root_doc)
    app.config.html_title = found.get(title, title)
    address, write = app.builder.get_target_uri, app.builder.write

    def target(docname, typ=None):
        inside = docname in app.edition or docname not in app.env.all_docs
        return address(docname, typ) if inside else f"../{address(docname, typ)}"

    def write_some(build_docnames, updated_docnames, method="update"):
        write(sorted(app.edition), updated_docnames, "specific")  # not those read

    app.builder.get_target_uri, app.builder.write = target, write_some
    app.builder.load_indexer = lambda docnames: None  # all its pages are written anew


def find_term(app, env, node, contnode):
    """A glossary's headwords are translated; references name the English ones."""
    if node.get("reftype") != "term" or app.config.language == "en":
        return None
    found = words(app.srcdir, app.config.language, "book/glossary")
    word = found.get(node["reftarget"], node["reftarget"]).lower()
    terms = env.get_domain("std")._terms
    if word not in terms:
        return None
    docname, anchor = terms[word]
    address = app.builder.get_relative_uri(node["refdoc"], docname)
    link = nodes.reference("", "", contnode, internal=True)
    link["refuri"] = f"{address}#{anchor}"
    return link


def caption(app, doctree):
    """The parts of the contents, which come into a page after Sphinx's own turn."""
    if app.config.language == "en":
        return
    found = words(app.srcdir, app.config.language, app.config.root_doc)
    for tree in doctree.findall(addnodes.toctree):
        if tree.get("caption"):
            tree["caption"] = found.get(tree["caption"], tree["caption"])


class Subtitles(SphinxTransform):
    """The words of an exercise's title are translated as those of a section are."""

    default_priority = 10  # before Sphinx's own, which takes what has a source

    def apply(self, **kwargs):
        for node in list(self.document.findall(exercise_subtitle)):
            words = node.rawsource = node.astext()
            node.source, node.line = self.document["source"], 1
            if self.app.builder.name == "gettext":  # meets no such title
                copy = nodes.paragraph(words, words)
                copy.source, copy.line = node.source, node.line
                node.parent.parent += copy


def solve(app, doctree):
    """A solution shows the title of its exercise: the translated one."""
    for title in doctree.findall(exercise_title):
        found = app.env.sphinx_exercise_registry.get(title.parent.get("label"))
        if found:
            found["node"] = title.parent.deepcopy()


def around(page, found):
    """A page with the words that the theme and the extensions put around its text."""

    def one(match):
        words = found.get(match["words"])
        return match["before"] + words + match["after"] if words else match[0]

    return AROUND.sub(one, page)


def mark(app, exception):
    """Links out of an edition say that they lead to English; the site around the pages
    speaks its language.
    """
    if exception or app.config.language == "en" or app.builder.format != "html":
        return
    out, found = Path(app.outdir), words_of(site_words(app.srcdir, app.config.language))
    for path in [*out.glob("*.html"), *out.glob("book/*.html")]:
        up = "../" * len(path.relative_to(out).parts)
        page = path.read_text(encoding="utf-8")
        page = re.sub(
            rf'<a (?![^>]*hreflang)(?=[^>]*href="{re.escape(up)}book/)',
            '<a hreflang="en" ',
            page,
        )
        path.write_text(around(page, found), encoding="utf-8")
    rewrite(out / "_static" / "site.js", lambda text: speak(text, found))
    rewrite(
        out / "_static" / "doctools.js",
        lambda text: FUNCTION.sub("catalog.plural_expr;", text),
    )
    rewrite(
        out / "_static" / "translations.js",
        lambda text: PLURAL.sub(r'"plural_expr": (n) => (\1)', text),
    )


def speak(script, found):
    """A script whose texts, each a literal, are translated."""
    for english, other in found.items():
        script = script.replace(f'"{english}"', f'"{other}"')
    return script


def rewrite(path, change):
    if path.exists():
        text = path.read_text(encoding="utf-8")
        path.write_text(change(text), encoding="utf-8")


def setup(app):
    app.add_css_file("languages.css", priority=900)
    app.connect("builder-inited", narrow)
    app.add_transform(Subtitles)
    app.connect("doctree-read", caption, priority=900)
    app.connect("doctree-read", solve)
    app.connect("html-page-context", place)
    app.connect("missing-reference", find_term)
    app.connect("build-finished", mark, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
