"""The names of tensors in prose say their shape, when pointed at or focused.

What they say stands in the tables of one page, the notation: a name, or several, and a
shape or a count. A chapter that gives a letter another meaning says so in the metadata
of its notebook: {"attnbook": {"names": {"S": "(D, Dv): the state", "k": null}}}, with
null for a name that is to stay quiet, and "*" for all.
"""

import json
from pathlib import Path

from docutils import nodes

PLAIN = str.maketrans({"_": "", "{": "", "}": ""})
KINDS = ("math", "literal")
QUIET = (nodes.title, nodes.table, nodes.caption, nodes.reference, nodes.term)


class named(nodes.Inline, nodes.TextElement):
    """A name, as it was written, and what is said of it."""


def key(node):
    """A name and how it is set: q in code is a whole batch, in a formula one query."""
    return type(node).__name__, spelt(node.astext())


def spelt(text):
    """One spelling for H_{kv} and Hkv."""
    return text.strip().translate(PLAIN)


def names_of(page):
    """What the tables of the notation say of each name: a dict of sentences."""
    found = {}
    for section in page.findall(nodes.section):
        if "notation-letters" in section["ids"]:
            for name, *rest in cells(section, pairs=True):
                spelling = [(kind, name) for _, name in words(name) for kind in KINDS]
                found |= dict.fromkeys(spelling, rest[0])
        if "notation-words" in section["ids"]:
            for name, shape, meaning in cells(section):
                found |= {each: f"{shape}: {meaning}" for each in words(name)}
    return found


def words(entry):
    return [key(each) for each in entry.findall(is_name)]


def is_name(node):
    return isinstance(node, (nodes.math, nodes.literal))


def cells(section, pairs=False):
    """The rows of a section's tables: the entry with the names, then texts."""
    for row in section.findall(nodes.row):
        if isinstance(row.parent, nodes.thead):
            continue
        entries = list(row)
        step = 2 if pairs else len(entries)
        for i in range(0, len(entries), step):
            name, *rest = entries[i : i + step]
            yield name, *(" ".join(entry.astext().split()) for entry in rest)


def own_names(path):
    """What a notebook says of its own letters."""
    if Path(path).suffix != ".ipynb":
        return {}
    metadata = json.loads(Path(path).read_text(encoding="utf-8"))["metadata"]
    names = metadata.get("attnbook", {}).get("names", {})
    return {(kind, spelt(k)): v for k, v in names.items() for kind in KINDS}


def annotate(app, doctree, docname):
    """Put each known name of a chapter's prose into an element that says its shape."""
    page = app.config.shapes_page
    if page not in app.env.found_docs or docname == page:
        return
    names = names_of(app.env.get_doctree(page))
    own = own_names(app.env.doc2path(docname))
    names = own if own.get(("math", "*"), "") is None else names | own
    for section in doctree.findall(nodes.section):
        seen = set()  # one stop for the keyboard, a section and name
        for node in list(section.findall(is_name)):
            name = key(node)
            if not names.get(name) or section_of(node) is not section or hidden(node):
                continue
            wrapped = named("", "", says=names[name], stop=name not in seen)
            node.replace_self(wrapped)
            wrapped += node
            seen.add(name)


def section_of(node):
    return next(up for up in ancestors(node) if isinstance(up, nodes.section))


def hidden(node):
    return any(isinstance(up, (*QUIET, named)) for up in ancestors(node))


def ancestors(node):
    while node := node.parent:
        yield node


def open_named(self, node):
    stop = ' tabindex="0"' if node["stop"] else ""
    said = self.attval(node["says"])
    self.body.append(f'<span class="named" role="note" data-says="{said}"{stop}>')


def close_named(self, node):
    self.body.append("</span>")


def nothing(self, node):
    """Other writers print the name as it stands."""


def setup(app):
    app.add_config_value("shapes_page", "book/notation", "env")
    app.add_node(
        named,
        html=(open_named, close_named),
        **{writer: (nothing, nothing) for writer in ("latex", "text", "man")},
    )
    app.connect("doctree-resolved", annotate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
