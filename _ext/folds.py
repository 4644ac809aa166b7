"""Folded notes and solutions as <details>: they work without a script, by keyboard, in
print, and nothing jumps when the page has loaded.
"""

import re

FOLD = re.compile(
    r'<div class="((?:[^"]* )?dropdown(?: [^"]*)?)"([^>]*)>\s*'
    r'<p class="admonition-title">(.*?)</p>',
    re.S,
)
LINK = re.compile(r"</?a\b[^>]*>")  # in what opens a fold, a second thing to press
DIV = re.compile(r"<(/?)div\b")


def end_of(html, start):
    """Where the <div> that opens at `start` closes: the place of its end tag."""
    depth = 0
    for tag in DIV.finditer(html, start):
        depth += -1 if tag[1] else 1
        if depth == 0:
            return tag.start()
    raise ValueError(f"a <div> without an end: {html[start : start + 80]}")


def fold(html):
    """The page's HTML with <details> for each admonition of the class dropdown."""
    while match := FOLD.search(html):
        classes, attributes, title = match.groups()
        if "admonition" not in classes.split():
            raise ValueError(f"dropdown, and no admonition: {classes}")
        end = end_of(html, match.start())
        opening = (
            f'<details class="{classes}"{attributes}>'
            f'<summary class="admonition-title">{LINK.sub("", title)}</summary>'
        )
        inner = html[match.end() : end]
        html = html[: match.start()] + opening + inner + "</details>" + html[end + 6 :]
    return html
