"""The theme's nine style sheets as one, with the rules that the book uses.

The theme brings half a megabyte of styles, of which this book needs a fifth, and a
browser shows nothing before it has read them all. A rule stays if its classes and ids
are found in a page or in a script; what is not about classes and ids always stays.
"""

import hashlib
import os
import re
from pathlib import Path

NAME = "site.css"
LINK = re.compile(r'[ \t]*<link\b[^>]*?\brel="stylesheet"[^>]*>\n?')
HREF = re.compile(r'href="((?:\.\./)*)_static/([^"?]*)[^"]*"')
COMMENT = re.compile(r"(\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*')|/\*.*?\*/", re.S)
LICENCE = re.compile(r"/\*!.*?\*/", re.S)
IMPORT = re.compile(r'@import\s+(?:url\()?["\']?([^"\');]+)["\']?\)?\s*;')
URL = re.compile(r"url\((['\"]?)(?!data:|#|/|\w+:)([^'\")]+)\1\)")
NESTED = ("@media", "@supports", "@layer", "@container")


def names(pages, scripts):
    """All words that can be a class or an id on a page."""
    known = set()
    for page in pages:
        for value in re.findall(r'\b(?:class|id)="([^"]*)"', page):
            known.update(value.split())
    for script in scripts:
        known.update(re.findall(r"[\w-]+", script))
    return known


def blocks(css):
    """(what stands before the brace, what is within), of the outermost blocks."""
    depth, start, prelude = 0, 0, ""
    for token in re.finditer(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[{};]", css):
        sign = token[0]
        if sign == "{":
            if depth == 0:
                prelude, start = css[start : token.start()].strip(), token.end()
            depth += 1
        elif sign == "}":
            depth -= 1
            if depth == 0:
                yield prelude, css[start : token.start()]
                start = token.end()
        elif sign == ";" and depth == 0:  # @charset, an @import that was followed
            start = token.end()


def outside(text, separator):
    """Split at a separator that stands in no brackets."""
    part, depth, parts = "", 0, []
    for sign in text:
        depth += (sign in "([") - (sign in ")]")
        if sign == separator and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += sign
    return [*parts, part]


def used(selector, known):
    """Whether all classes and ids that the selector asks for are known."""
    while selector != (shorter := re.sub(r"\([^()]*\)|\[[^][]*\]", "", selector)):
        selector = shorter
    asked = re.findall(r"[.#]((?:\\.|[\w-])+)", selector)
    return all(re.sub(r"\\(.)", r"\1", name) in known for name in asked)


def needed(css, known):
    """The style sheet without the rules that nothing on the pages can match."""
    kept = []
    for prelude, body in blocks(css):
        if prelude.startswith(NESTED):
            if inner := needed(body, known):
                kept.append(f"{prelude}{{\n{inner}\n}}")
        elif prelude.startswith("@"):
            kept.append(f"{prelude}{{{body.strip()}}}")
        else:
            found = [s.strip() for s in outside(prelude, ",") if used(s, known)]
            if found:
                kept.append(f"{','.join(found)}{{{body.strip()}}}")
    return "\n".join(kept)


def read(path, static):
    """A style sheet with those that it imports, addresses as seen from _static."""
    css = path.read_text(encoding="utf-8")

    def follow(match):
        return read(Path(os.path.normpath(path.parent / match[1])), static)

    def address(match):
        target = os.path.normpath(path.parent / match[2].split("?")[0])
        seen = Path(os.path.relpath(target, static)).as_posix()
        return f"url({match[1]}{seen}{match[1]})"

    return IMPORT.sub(follow, URL.sub(address, css))


def sheets(page):
    """The style sheets that a page's head links to, by their paths in _static."""
    head = page.partition("</head>")[0]
    found = [HREF.search(link) for link in LINK.findall(head)]
    return [match[2] for match in found if match]


def bundle(pages, scripts, listed, static):
    """One style sheet for all pages. Args: listed, the paths in _static, in order."""
    css = "\n".join(read(Path(static, name), static) for name in listed)
    licences = "\n".join(dict.fromkeys(LICENCE.findall(css)))
    css = COMMENT.sub(lambda match: match[1] or "", css)
    return licences + "\n" + needed(css, names(pages, scripts)) + "\n"


def link(page, css):
    """The page with one link instead of its head's links to style sheets."""
    version = hashlib.sha256(css.encode()).hexdigest()[:8]
    head, end, rest = page.partition("</head>")
    root = next((m[1] for one in LINK.findall(head) if (m := HREF.search(one))), None)
    if root is None:
        return page
    one = f'<link rel="stylesheet" href="{root}_static/{NAME}?v={version}"/>\n'
    first = LINK.search(head).start()
    return head[:first] + one + LINK.sub("", head[first:]) + end + rest
