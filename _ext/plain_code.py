"""Code without the marks that change nothing.

The highlighter marks every name, comma and blank, and both of its styles show these in
the colour of all text: two of three elements of a chapter, which a phone lays out.
"""

import re

CODE = re.compile(r'(<div class="highlight"><pre>)(.*?)(</pre>)', re.S)
BASE = re.compile(r'data-theme="(\w+)"\] \.highlight \{[^}]*\bcolor: (#\w+) \}')
RULE = re.compile(r'data-theme="(\w+)"\] \.highlight \.(\w+) \{ (.*?) \}')


def plain(css):
    """The classes that look like the text around them in each theme."""
    base = dict(BASE.findall(css))
    same, other = set(), set()
    for theme, name, rule in RULE.findall(css):
        same_here = rule.lower() == f"color: {base[theme]}".lower()
        (same if same_here else other).add(name)
    return same - other


def unmark(page, classes):
    """The page's HTML without the elements of these classes in its code."""
    marks = re.compile(rf'<span class="(?:{"|".join(sorted(classes))})">([^<]*)</span>')
    return CODE.sub(lambda code: code[1] + marks.sub(r"\1", code[2]) + code[3], page)
