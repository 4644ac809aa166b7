"""Formulas are typeset while the site is built: a picture for the eye, MathML for the
ear, and no script in the page.

MathJax runs in V8 (mini-racer). Its pictures are SVG, so that nothing shifts when a
font arrives, and every glyph is in a page once, however often the page uses it.
"""

import json
import math
import re
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from py_mini_racer import MiniRacer
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

import spoken

PARTS = """loader core adaptors/liteDOM input/tex-full output/svg
output/svg/fonts/tex""".split()

# The palette of the figures, as classes: book.css gives each a shade for either theme.
INKS = {"#0072b2": "query", "#d55e00": "key", "#009e73": "value", "#cc79a7": "output"}
COLOUR = re.compile(r'fill="(#[0-9a-fA-F]{6})" stroke="\1"')
GLYPH = re.compile(r'<path id="MJX-\d+-([^"]*)" d="([^"]*)"></path>')
OUTER = re.compile(
    r'<svg style="vertical-align: (-?[\d.]+)(?:ex)?;".*?width="([\d.]+)ex" '
    r'height="([\d.]+)ex".*?viewBox="([^"]*)".*?>(?:<defs>(.*?)</defs>)?(.*)</svg>',
    re.S,
)
DEEPEST = 60  # tenths of an ex: below any formula in a line
WIDE = 24  # ex: about two thirds of a phone

glyphs = {}  # name -> outline, of all formulas so far
log = logging.getLogger(__name__)


@cache
def engine():
    package = Path(find_spec("sphinx-mathjax-offline").submodule_search_locations[0])
    v8 = MiniRacer()
    v8.eval("var MathJax = {startup: {typeset: false, ready() {}}, loader: {load: []}}")
    for part in PARTS:
        v8.eval((package / "static/mathjax" / f"{part}.js").read_text(encoding="utf-8"))
    v8.eval(Path(__file__).with_name("typeset.js").read_text(encoding="utf-8"))
    return v8


@cache
def typeset(tex, display=False):
    """The HTML of a formula. Raises: ValueError, with what MathJax says of it."""
    svg, mml = json.loads(engine().call("typeset", tex, display))
    if wrong := re.search(r'<merror[^>]*data-mjx-error="([^"]*)"', mml):
        raise ValueError(wrong[1])
    return picture(svg) + f'<span class="formula-words">{short(mml)}</span>'


def short(mml):
    """MathML as short as it goes."""
    mml = re.sub(r'\s(data-[\w-]+|class|mathcolor)="[^"]*"', "", mml)
    return re.sub(r">\s+<", "><", mml)


def picture(svg):
    """The picture, its glyphs taken out and its foot on a grid of tenths of an ex.

    How far it hangs below the line is then a class: the site's policy allows no style
    attribute.
    """
    align, width, height, box, paths, inner = OUTER.fullmatch(svg).groups()
    glyphs.update(GLYPH.findall(paths or ""))
    left, top, wide, high = map(float, box.split())
    foot = min(DEEPEST, max(0, math.ceil(round(-float(align) * 10, 3))))
    grown = max(0.0, foot / 10 + float(align))  # ex
    unit = high / float(height) if float(height) else 0
    inner = re.sub(r'(?:xlink:)?href="#MJX-\d+-', 'href="#g-', inner)
    inner = COLOUR.sub(ink, inner).replace("></use>", "/>").replace("></rect>", "/>")
    box = f"{left:g} {top:g} {wide:g} {high + grown * unit:.6g}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="formula d{foot}" '
        f'width="{width}ex" height="{float(height) + grown:.4g}ex" viewBox="{box}" '
        f'aria-hidden="true" focusable="false">{inner}</svg>'
    )


def ink(match):
    if name := INKS.get(match[1].lower()):
        return f'class="ink-{name}" {match[0]}'
    return match[0]


def share(html):
    """The page's HTML, with the outlines of all glyphs that it uses before it."""
    used = sorted(set(re.findall(r'href="#g-([^"]+)"', html)) & glyphs.keys())
    if not used or 'class="formula-glyphs"' in html:
        return html
    paths = "".join(f'<path id="g-{name}" d="{glyphs[name]}"/>' for name in used)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" class="formula-glyphs" width="0" '
        f'height="0" aria-hidden="true" focusable="false"><defs>{paths}</defs></svg>'
        + html
    )


def name_summaries(html):
    """A fold whose title is a formula gets a name in plain words: some tools, and axe
    among them, read no MathML there."""

    def name(match):
        found = re.findall(r"<math\b.*?</math>", match[1])
        label = escape(", ".join(map(spoken.speak, found)))
        return f'<summary aria-label="{label}">{match[1]}</summary>'

    alone = (
        r'(?:<span class="math\b[^>]*>(?:(?!</summary>).)*?</math></span></span>\s*)+'
    )
    return re.sub(rf"<summary>({alone})</summary>", name, html, flags=re.S)


MATH = r'<span class="math notranslate">(?:(?!</math></span>).)*</math></span></span>'
NAMED = rf'<span class="named"[^>]*>{MATH}</span>'
TOGETHER = re.compile(rf"([(\[“‘]*)({NAMED}|{MATH})([.,;:!?)\]’”]*)", re.S)


def keep(html):
    """A formula in a line is a picture, before and after which a line may end: brackets
    and stops stay with it. (One that is too wide for a phone scrolls, and is left.)
    """

    def one(match):
        joined = match[1] or match[3]
        return f'<span class="kept">{match[0]}</span>' if joined else match[0]

    return TOGETHER.sub(one, html)


def styles():
    """How far each formula in a line hangs below it (the theme centres pictures)."""
    steps = (f".d{n}{{vertical-align:-{n / 10:g}ex}}" for n in range(DEEPEST + 1))
    return "/* Written by _ext/formulas.py. */\n" + "\n".join(steps) + "\n"


# --- Sphinx ---------------------------------------------------------------------------


def html(node, tex, display):
    try:
        return typeset(tex, display)
    except ValueError as error:
        log.warning("formula: %s: %s", error, tex, location=node)
        return f"<code>{escape(tex)}</code>"


def visit_math(self, node):
    inner = html(node, node.astext(), False)
    width = re.search(r'width="([\d.]+)ex"', inner)
    wide = width and float(width[1]) > WIDE
    # What scrolls stands on its foot: the class that hangs the picture hangs the box.
    depth = re.search(r'class="formula( d\d+)"', inner)
    classes = "math notranslate" + (f" wide{depth[1]}" if wide else "")
    self.body.append(self.starttag(node, "span", "", CLASS=classes))
    self.body.append(inner + "</span>")
    raise nodes.SkipNode


def visit_math_block(self, node):
    self.body.append(self.starttag(node, "div", CLASS="math notranslate"))
    if node["number"]:
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    tex = node.astext()
    if not node["nowrap"]:
        tex = stack(tex)
    self.body.append(html(node, tex, True) + "</div>\n")
    raise nodes.SkipNode


def stack(tex):
    r"""Sphinx's own habits: a blank line starts a new formula, `\\` a new line."""
    parts = [part for part in tex.split("\n\n") if part.strip()]
    parts = [rf"\begin{{split}}{p}\end{{split}}" if r"\\" in p else p for p in parts]
    if len(parts) == 1:
        return parts[0]
    rows = r"\\".join(parts)
    return rf"\begin{{align}}\begin{{aligned}}{rows}\end{{aligned}}\end{{align}}"


def write_styles(app):
    folder = Path(app.outdir, "_static")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "formulas.css").write_text(styles(), encoding="utf-8")


def setup(app):
    app.add_html_math_renderer("book", (visit_math, None), (visit_math_block, None))
    app.add_css_file("formulas.css")
    app.connect("builder-inited", write_styles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
