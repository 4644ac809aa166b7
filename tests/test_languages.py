"""Translations keep what is not language: formulas, roles, code, links, figures."""

import re
from collections import Counter
from html.parser import HTMLParser

import nbformat
import pytest
from markdown_it import MarkdownIt

import editions
import notebooks

ROOT = notebooks.ROOT
PAGES = [
    (language, page)
    for language in editions.languages(ROOT)
    for page in editions.translated(ROOT, language)
]
KEPT = {
    "code": re.compile(r"(?<![`}])(`+)(?!`)(.+?)\1(?!`)", re.S),
    "role": re.compile(r"\{([\w:-]+)\}`([^`]*)`"),
    "formula": re.compile(r"\$[^$]+\$"),
    "link": re.compile(r"\]\(([^)\s]+)\)"),
    "address": re.compile(r"<https?://[^>]+>"),
    "tag": re.compile(r"</?[a-z][^>]*>"),
    "number": re.compile(r"\d+(?:,\d{3})+|\d+\.\d+"),
}


def kept(text):
    """What a translation must keep, with how often each comes; a role's words may
    differ, its target may not.
    """
    found = Counter()
    for role, inside in KEPT["role"].findall(text):
        target = re.fullmatch(r".*<([^<>]+)>", inside, re.S)
        found["role", role, target[1] if target else inside] += 1
    text = KEPT["role"].sub("", text)
    if not re.search(r"[$?]", text) and re.search(r"\\(begin|[a-z]+\{|qquad)", text):
        found["formula", re.sub(r"\\text\{[^{}]*\}", r"\\text{}", text)] += 1
        return found
    found.update(("number", number) for number in KEPT["number"].findall(text))
    for kind in ("formula", "code", "link", "address", "tag"):
        for match in KEPT[kind].finditer(text):
            whole = match[1] if kind == "link" else match[0]
            found[kind, " ".join(whole.split())] += 1
        text = KEPT[kind].sub("", text)
    return found


def test_kept_sees_what_is_lost():
    text = "a $x$, `c`, {term}`head`, [here](there), {cite:t}`one,two`, <https://a.b>"
    same = (
        "ア $x$ `c` {term}`ヘッド <head>` [ここ](there) {cite:t}`one,two` <https://a.b>"
    )
    assert kept(text) == kept(same)
    for lost in ("$x$", "`c`", "{term}`head`", "](there)", "two", "<https://a.b>"):
        assert kept(text) != kept(text.replace(lost, "", 1)), lost
    assert kept("{term}`head`") != kept("{term}`key`")
    assert kept("17.82 of 1,000") != kept("17.28 of 1,000")
    formula = r"\begin{aligned} x &= 2 && \text{the word} \end{aligned}"
    assert kept(formula) == kept(formula.replace("the word", "言葉"))
    assert kept(formula) != kept(formula.replace("2", "3"))


def test_there_is_a_japanese_edition_and_its_pages_say_their_share():
    shares = editions.translated(ROOT, "ja")
    for page, share in shares.items():
        print(f"ja {page}: {share:.1%}")
    assert shares.keys() >= {"book/index", "book/notation", "book/glossary"}
    assert min(shares["book/notation"], shares["book/glossary"]) > 0.9


@pytest.mark.parametrize(("language", "page"), PAGES)
def test_translations_keep_formulas_roles_code_and_links(language, page):
    path = editions.catalogue(ROOT, language, page)
    wrong = {}
    for message in editions.messages(path):
        if message.string and not message.fuzzy:
            old, new = kept(message.id), kept(message.string)
            more = [one for one in new - old if one[0] != "number"]  # 億, 100 million
            if old - new or more:
                wrong[message.id[:60]] = [*(old - new), "became", *more]
    assert not wrong, wrong


def emphasis(text):
    """How often a text is emphasised, and the asterisks that CommonMark leaves over."""
    text = KEPT["formula"].sub("x", KEPT["role"].sub("x", text))
    tokens = [t for t in MarkdownIt().parseInline(text)[0].children or []]
    left = "".join(token.content for token in tokens if token.type == "text")
    return sum(t.type in ("em_open", "strong_open") for t in tokens), left.count("*")


@pytest.mark.parametrize(("language", "page"), PAGES)
def test_emphasis_stays_and_closes(language, page):
    """Between a Japanese full stop and a letter, ** does not close."""
    assert emphasis("**文。**文") == (0, 4)
    wrong = [
        message.string
        for message in editions.messages(editions.catalogue(ROOT, language, page))
        if message.string and emphasis(message.string) != emphasis(message.id)
    ]
    assert not wrong, wrong


class Parts(HTMLParser):
    """How many pictures, formulas, code blocks and tables a page has."""

    def __init__(self, html):
        super().__init__()
        self.found = Counter()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        classes = (dict(attrs).get("class") or "").split()
        if tag in ("img", "table", "figure", "li", "pre", "details", "h1", "h2", "h3"):
            self.found[tag] += 1
        self.found.update({"math", "cell", "highlight"} & set(classes))


CATALOGUE = """msgid ""
msgstr "Content-Type: text/plain; charset=utf-8\\n"

msgid "Two"
msgstr "二"

msgid "A sentence with $x^2$, `code` and {ref}`a link <two>`."
msgstr "文。$x^2$、`code`、{ref}`リンク <two>`。"

msgid "What the picture shows."
msgstr "図の説明。"

msgid "A square."
msgstr "四角。"

msgid "By hand"
msgstr "手計算で"
"""
WORDS = """msgid ""
msgstr "Content-Type: text/plain; charset=utf-8\\n"

msgid "Link to this heading"
msgstr "見出しへのリンク"
"""
EXERCISE = """
```{exercise} By hand
:label: ex-hand
What is it?
```
```{solution} ex-hand
It is four.
```
"""


def small_book(root):
    """A notebook and a page; the notebook has a catalogue, the page has none."""
    new = nbformat.v4
    square = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    image = {"image/svg+xml": square, "text/plain": "a square"}
    picture = new.new_code_cell(
        "draw()",
        outputs=[new.new_output("display_data", data=image)],
        metadata={
            "mystnb": {
                "figure": {"caption": "What the picture shows."},
                "image": {"alt": "A square."},
            }
        },
    )
    text = "(two)=\n# Two\n\nA sentence with $x^2$, `code` and {ref}`a link <two>`.\n"
    text += "\n$$e = m c^2$$\n\nNot translated, see {doc}`other`.\n"
    text += EXERCISE
    cells = [new.new_markdown_cell(text), new.new_code_cell("1 + 1"), picture]
    (root / "book").mkdir()
    notebook = new.new_notebook(cells=cells, metadata=notebooks.METADATA)
    nbformat.write(notebook, root / "book" / "two.ipynb")
    (root / "book" / "other.md").write_text("# Other\n\nSee {doc}`two`.\n")
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/two\nchapters: [{file: book/other}]\n"
    )
    static = ROOT / "book" / "_static" / "languages.css"
    (root / "_static").mkdir()
    (root / "_static" / static.name).write_text(static.read_text())
    (root / "_config.yml").write_text(
        "title: Small\nexecute: {execute_notebooks: 'off'}\n"
        "only_build_toc_files: true\nhtml: {baseurl: 'https://example.org/small/'}\n"
        "sphinx:\n  extra_extensions: [sphinx_exercise]\n"
        "  local_extensions: {editions: '%s'}\n"
        "  config:\n    language: en\n    html_static_path: [_static]\n"
        "    nb_mime_priority_overrides: [[gettext, image/svg+xml, 0]]\n"
        % (ROOT / "_ext")
    )
    po = editions.catalogue(root, "ja", "book/two")
    po.parent.mkdir(parents=True)
    po.write_text(CATALOGUE, encoding="utf-8")
    editions.site_words(root, "ja").write_text(WORDS, encoding="utf-8")
    return po


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The small book in English, its edition, and its catalogue, brought up to date."""
    import languages

    root = tmp_path_factory.mktemp("small")
    po = small_book(root)
    html = root / "_build" / "html"
    languages.sphinx("html", html, root)
    assert languages.update(root) == 0
    languages.build(root)
    return root, html, po


def test_an_edition_loses_nothing_and_links_lead_both_ways(built):
    _, html, _ = built
    english = (html / "book" / "two.html").read_text(encoding="utf-8")
    japanese = (html / "ja" / "book" / "two.html").read_text(encoding="utf-8")
    for page in (english, japanese):
        body = page.partition("<article")[2].partition("</article>")[0]
        parts = Parts(body).found
        assert (parts["img"], parts["figure"], parts["cell"]) == (1, 1, 2), parts
        assert parts["math"] == 2
    assert 'lang="ja"' in japanese.partition("<head>")[0]
    assert "リンク" in japanese
    assert "図の説明" in japanese
    assert "Not translated" in japanese
    assert re.search(r"このページは \d+ % が翻訳", japanese)
    assert 'href="../ja/book/two.html" hreflang="ja" lang="ja">日本語' in english
    assert 'href="../../book/two.html" hreflang="en" lang="en">English' in japanese
    at = 'href="https://example.org/small/'
    for page in (english, japanese):
        for code, folder in (("en", ""), ("ja", "ja/"), ("x-default", "")):
            link = f'hreflang="{code}" {at}{folder}book/two.html"'
            assert page.count(f'<link rel="alternate" {link}/>') == 1


def test_what_is_no_paragraph_is_translated_too(built):
    """A picture's description, an exercise's title there and above its solution, and
    the words of the theme; code stays.
    """
    _, html, po = built
    ids = {message.id for message in editions.messages(po)}
    assert {"A square.", "By hand"} <= ids
    english = (html / "book" / "two.html").read_text(encoding="utf-8")
    japanese = (html / "ja" / "book" / "two.html").read_text(encoding="utf-8")
    assert english.count("By hand") == japanese.count("手計算で") == 2
    assert 'alt="四角。"' in japanese
    assert 'title="Link to this heading"' in english
    assert (
        'title="見出しへのリンク"' in japanese and "Link to this head" not in japanese
    )
    code = '<span class="n">Main</span> <p>Main</p>'
    assert editions.around(code, {"Main": "主"}) == code.replace("<p>Main", "<p>主")


def test_a_page_without_catalogue_stays_english_and_links_say_so(built):
    _, html, _ = built
    assert not (html / "ja" / "book" / "other.html").exists()
    japanese = (html / "ja" / "book" / "two.html").read_text(encoding="utf-8")
    assert re.search(r'<a hreflang="en"[^>]*href="../../book/other.html"', japanese)
    other = (html / "book" / "other.html").read_text(encoding="utf-8")
    assert "日本語" not in other


def test_a_changed_message_is_fuzzy_and_a_new_one_is_english(built):
    import languages

    root, _, po = built
    assert languages.update(root, check=True) == 0
    path = root / "book" / "two.ipynb"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("A sentence with", "One sentence with"))
    assert languages.update(root, check=True) == 1
    assert languages.update(root) == 0
    found = {message.id: message for message in editions.messages(po)}
    changed = found["One sentence with $x^2$, `code` and {ref}`a link <two>`."]
    assert changed.fuzzy
    assert changed.string.startswith("文。")
    assert not found["Not translated, see {doc}`other`."].string
