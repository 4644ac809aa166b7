"""What _ext/ does to a page, piece by piece and without a browser."""

import re
from pathlib import Path

import pytest

import audit
import figures
import folds
import formulas
import icons
import plain_code
import policy
import scripts
import spoken
import styles

STATIC = Path(__file__).resolve().parent.parent / "book" / "_static"


# --- formulas -------------------------------------------------------------------------


def test_a_formula_is_a_picture_and_words():
    html = formulas.typeset(r"{\color{#0072B2} q}_i^2 / \sqrt{D}")
    assert html.count("<svg") == 1 and "style=" not in html and "data-" not in html
    assert 'class="ink-query"' in html and 'aria-hidden="true"' in html
    words = re.search(r'<span class="formula-words">(<math.*</math>)</span>', html)[1]
    assert "<msubsup>" in words and "<msqrt><mi>D</mi></msqrt>" in words
    assert "#0072B2" not in words


@pytest.mark.parametrize("tex", ["q", r"\frac{a}{b}", r"\sum_{i=1}^n x_i", "g_y"])
def test_the_line_of_a_formula_is_kept(tex):
    """What is added below to reach a whole tenth of an ex is added to the picture."""
    raw = formulas.json.loads(formulas.engine().call("typeset", tex, False))[0]
    align, width, height, box, *_ = formulas.OUTER.fullmatch(raw).groups()
    html = formulas.typeset(tex)
    found = re.search(r"formula d(\d+).*?height=\"([\d.]+)ex\" viewBox=\"(.*?)\"", html)
    foot, tall = int(found[1]) / 10, float(found[2])
    assert foot - tall == pytest.approx(-float(align) - float(height), abs=2e-3)
    old, new = ([float(x) for x in b.split()] for b in (box, found[3]))
    assert new[:3] == old[:3]
    assert new[3] / old[3] == pytest.approx(tall / float(height), rel=1e-3)


def test_a_wrong_formula_is_an_error():
    with pytest.raises(ValueError, match="Undefined control sequence"):
        formulas.typeset(r"\nothing")


def test_each_glyph_is_once_in_a_page():
    body = formulas.typeset("a + a") + formulas.typeset("a^2", True)
    page = formulas.share(body)
    assert page.count("<path") == len(set(re.findall(r'href="#([^"]+)"', body)))
    assert formulas.share(page) == page
    assert formulas.share("<p>none</p>") == "<p>none</p>"


def test_brackets_and_stops_stay_with_their_formula():
    inside = formulas.typeset("q")
    formula = f'<span class="math notranslate">{inside}</span>'
    named = f'<span class="named" tabindex="0">{formula}</span>'
    for one in (formula, named):
        kept = f'<p>so <span class="kept">({one}),</span> and {one} is</p>'
        assert formulas.keep(f"<p>so ({one}), and {one} is</p>") == kept
    two = formulas.keep(f"{formula}, {formula}.")
    assert two.count('class="kept"') == 2
    wide = formula.replace("notranslate", "notranslate wide d3")
    assert formulas.keep(f"{wide}.") == f"{wide}."


def test_lines_and_parts_are_stacked():
    assert formulas.stack("a") == "a"
    assert formulas.stack("a\\\\b") == r"\begin{split}a\\b\end{split}"
    both = formulas.stack("a\n\nb")
    assert both == r"\begin{align}\begin{aligned}a\\b\end{aligned}\end{align}"
    assert "<svg" in formulas.typeset(both, True)


def test_a_fold_named_by_a_formula_has_a_name_in_words():
    math = f'<span class="math">{formulas.typeset("D")}</span>'
    named = formulas.name_summaries(f"<summary>{math}</summary>")
    assert named.startswith('<summary aria-label="D">')
    text = f"<summary>The width {math}</summary>"
    assert formulas.name_summaries(text) == text


@pytest.mark.parametrize(
    "inner, words",
    [
        ("<msqrt><mi>D</mi></msqrt>", "the square root of D"),
        ("<mfrac><mn>1</mn><mi>n</mi></mfrac>", "1 over n"),
        ("<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>", "x sub i to the 2"),
        ("<mi>a</mi><mo>≤</mo><mi>b</mi>", "a at most b"),
    ],
)
def test_formulas_in_words(inner, words):
    assert spoken.speak(f'<math xmlns="x"><mrow>{inner}</mrow></math>') == words


def test_inks_are_read_on_every_ground():
    """4.5 to 1 on the page, on an exercise and on an output, in either theme."""
    css = (STATIC / "page.css").read_text(encoding="utf-8")
    grounds = {"light": ["#ffffff", "#ecf3ff"], "dark": ["#14181e", "#29313d"]}
    blocks = re.findall(r"^html(\[.*?\])? \{(.*?)\}", css, re.S | re.M)
    found = [(dict(re.findall(r"--ink-(\w+): (#\w+)", body)), theme)
             for theme, body in blocks if "--ink" in body]  # fmt: skip
    assert len(found) == 2
    for inks, theme in found:
        assert set(inks) == set(formulas.INKS.values())
        for ground in grounds["dark" if "dark" in theme else "light"]:
            for name, ink in inks.items():
                assert figures.contrast(ink, ground) >= 4.5, (name, ink, ground)


# --- folds ----------------------------------------------------------------------------


def test_folds_keep_what_is_in_them():
    inner = '<div class="cell"><div>a</div></div><p>b</p>'
    note = (
        '<div class="dropdown admonition" id="x">\n<p class="admonition-title">Why'
        f'<a href="#e"> here</a>?</p>\n{inner}</div>'
    )
    page = folds.fold(f"<div>{note}{note}<p>after</p></div>")
    assert page.count("</details>") == 2 and page.endswith("<p>after</p></div>")
    assert page.count("<div") == page.count("</div>") and inner in page
    assert '<details class="dropdown admonition" id="x">' in page
    assert '<summary class="admonition-title">Why here?</summary>' in page
    assert folds.fold(page) == page


def test_folds_within_folds():
    note = '<div class="admonition dropdown"><p class="admonition-title">T</p>%s</div>'
    page = folds.fold(note % (note % "in"))
    assert page.count("<details") == page.count("</details>") == 2
    assert "<div" not in page


def test_a_fold_that_never_ends_is_an_error():
    with pytest.raises(ValueError, match="without an end"):
        folds.fold('<div class="dropdown admonition"><p class="admonition-title">T</p>')


# --- scripts and the policy -----------------------------------------------------------

PAGE = """<html data-theme="auto"><head><meta charset="utf-8"/><title>T</title>
<script>DOCUMENTATION_OPTIONS.pagename = 'x';</script>
<script src="../_static/scripts/fontawesome.js?digest=1"></script>
<script src="../_static/doctools.js?v=1"></script>
<script src="../_static/doctools.js?v=1"></script>
<script src="../_static/copybutton.js?v=1"></script>
<script src="../searchindex.js"></script>
<script type="application/ld+json">{"a": 1}</script>
</head><body>%s</body></html>"""


def test_scripts_are_chosen_by_what_the_page_has():
    page = scripts.choose(PAGE % "")
    assert page.count("<script defer") == 1 and scripts.loaded(page) == ["doctools.js"]
    assert "ld+json" in page and 'data-theme="auto"' not in page
    assert page.count(scripts.THEME) == 1 and scripts.choose(page) == page
    page = scripts.choose(PAGE % '<div class="highlight">')
    assert scripts.loaded(page) == ["doctools.js", "copybutton.js"]
    assert "searchindex.js" in scripts.choose(PAGE % '<div id="search-results">')


def test_an_unknown_inline_script_is_named(monkeypatch):
    said = []
    monkeypatch.setattr(scripts.log, "warning", lambda *args: said.append(args))
    page = scripts.choose(PAGE % "<script>alert(1)</script>", "x.html")
    assert "alert" not in page and said[0][1:] == ("x.html", "alert(1)")


def test_a_theme_that_has_changed_is_named(monkeypatch):
    said = []
    monkeypatch.setattr(scripts.log, "warning", said.append)
    old = 'a(["pre",".nboutput > .output_area",".x"].join(", "))'
    calm = scripts.calm(old)
    assert calm == 'a(["none"].join(", "))' and scripts.calm(calm) == calm and not said
    assert scripts.calm("b()") == "b()" and len(said) == 1


def test_the_policy_has_each_inline_scripts_hash():
    page = policy.protect(scripts.choose(PAGE % ""))
    assert policy.protect(page) == page
    inline = policy.INLINE.findall(page)
    assert len(inline) == 1 and policy.digest(inline[0]) in page
    # The known hash of an empty string, from the standard's own examples.
    empty = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    assert policy.digest("") == empty


# --- styles, icons, code --------------------------------------------------------------


def test_rules_without_a_match_are_left_out():
    css = """@charset "utf-8"; .a, .b:hover > .c { x: url("}{") } #here { y: 1 }
    p { z: 1 } .a:not(.no) { w: 1 } @media print { .a { v: 1 } .no { v: 2 } }
    @media screen { .no { u: 1 } } @font-face { f: 1 } .w-1\\/2 { t: 1 }"""
    out = styles.needed(css, styles.names(['<p class="a w-1/2" id="here">'], []))
    assert 'url("}{")' in out and ".c" not in out and ".no{" not in out
    for kept in (".a{", "#here{", "p{", ".a:not(.no){", "@font-face{", ".w-1\\/2{"):
        assert kept in out, kept
    assert "screen" not in out and "v: 1" in out
    assert ".c" in styles.needed(css, styles.names([], ["on('b c')"]) | {"b"})


def test_style_sheets_become_one(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "a.css").write_text("p { x: 1 } /* no */")
    (tmp_path / "in/b.css").write_text(
        '/*! mine */ @import "../a.css"; i { b: url(../f/x.png) url("data:x") }'
    )
    page = (
        '<head><title>t</title><link href="../_static/in/b.css?v=1" rel="stylesheet"/>'
        '</head><link rel="stylesheet" href="../_static/c.css">'
    )
    assert styles.sheets(page) == ["in/b.css"]
    css = styles.bundle([page], [], styles.sheets(page), tmp_path)
    assert css.startswith("/*! mine */") and "no" not in css
    assert "p{x: 1}" in css and 'url(f/x.png) url("data:x")' in css
    linked = styles.link(page, css)
    assert styles.sheets(linked) == ["site.css"] and "c.css" in linked
    assert styles.link(linked, css) == linked


def test_icons_that_the_styles_ask_for():
    css = '.a::before { content: "\\f186" } html { --pst-icon-x: "\uf105" }'
    assert icons.wanted(css) == {0xF186, 0xF105}


def test_marks_without_a_colour_go():
    css = "".join(
        f'html[data-theme="{theme}"] .highlight {{ background: #000; color: {base} }}\n'
        f'html[data-theme="{theme}"] .highlight .n {{ color: {base} }}\n'
        f'html[data-theme="{theme}"] .highlight .k {{ color: #123456 }}\n'
        f'html[data-theme="{theme}"] .highlight .x {{ color: {mixed} }}\n'
        for theme, base, mixed in (("light", "#111111", "#111111"),
                                   ("dark", "#EEEEEE", "#ffffff"))
    )  # fmt: skip
    quiet = plain_code.plain(css)
    assert quiet == {"n"}
    page = (
        '<span class="n">out</span><div class="highlight"><pre>'
        '<span class="k">if</span> <span class="n">a</span></pre></div>'
    )
    assert plain_code.unmark(page, quiet) == (
        '<span class="n">out</span><div class="highlight"><pre>'
        '<span class="k">if</span> a</pre></div>'
    )


# --- the audit ------------------------------------------------------------------------


def report(score, shift, *requests):
    items = [dict(transferSize=size, resourceType=kind) for size, kind in requests]
    return dict(
        categories={name: dict(score=score, auditRefs=[]) for name in audit.GOALS},
        audits={
            "cumulative-layout-shift": dict(numericValue=shift),
            "network-requests": dict(details=dict(items=items)),
        },
    )


def test_the_audit_counts_no_fonts_and_names_what_is_missed():
    good = audit.row(report(1, 0.01, (600_000, "Document"), (300_000, "Font")))
    assert good["kB"] == 600 and audit.failed(good) == []
    bad = audit.row(report(0.94, 0.06, (800_000, "Image")))
    assert audit.failed(bad) == [*audit.GOALS, "shift", "kB"]


def test_the_audit_says_what_it_lacks(monkeypatch, capsys):
    monkeypatch.setattr(audit.shutil, "which", lambda name: None)
    monkeypatch.delenv("CHROMIUM", raising=False)
    assert audit.main([]) == 2
    assert "Chromium" in capsys.readouterr().out
    monkeypatch.setenv("CHROMIUM", "/there")
    assert audit.main([]) == 2 and "npx" in capsys.readouterr().out
