"""Questions: answers that open without a script, and faults that fail the build."""

import re
from html.parser import HTMLParser

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

import notebooks

ONE = """# Page

:::{question} How many $k$ does a `token` store?
- 8

  No: a group *shares* one key.
- 2

  Yes: one a group.
:::
"""


def built(folder, text, builder="html"):
    """The page's text, and the warnings, of a site of one page."""
    folder.joinpath("conf.py").write_text(
        "extensions = ['myst_nb', 'questions']\nnb_execution_mode = 'off'\n"
        "myst_enable_extensions = ['colon_fence', 'dollarmath']\n"
        "suppress_warnings = ['epub']\n"
    )
    folder.joinpath("index.md").write_text(text)
    warnings = folder / "warnings.txt"
    with warnings.open("w") as log:
        out = folder / builder
        with docutils_namespace():  # what this Sphinx registers ends with it
            app = Sphinx(folder, folder, out, folder / "trees", builder, warning=log)
            app.build()
    (page,) = [p for p in out.iterdir() if p.stem == "index" and p.suffix != ".inv"]
    return page.read_text(), warnings.read_text()


class Answers(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "details":
            self.found.append(dict(attributes))


def test_an_answer_opens_and_says_what_it_is(tmp_path):
    page, warnings = built(tmp_path, ONE)
    assert warnings == ""
    wrong, right = Answers(page).found
    assert wrong == {"class": "answer wrong", "name": right["name"]}
    assert right["class"] == "answer right"
    assert re.search(r"<summary>8</summary>\s*<p>No: a group <em>shares</em>", page)
    assert page.index("How many") < page.index("<details")
    assert "math" in page[: page.index("<details")].split("How many")[1]


def test_a_book_to_print_shows_question_and_answers(tmp_path):
    page, _ = built(tmp_path, ONE, "text")
    assert "How many" in page and "Yes: one a group." in page


def test_an_epub_has_no_attribute_that_its_checker_refuses(tmp_path):
    page, _ = built(tmp_path, ONE, "epub")
    assert '<details class="answer right">' in page


FAULTS = {
    "one list of at least two": "- 8\n\n  Yes: so.\n",
    "one right answer": "- 8\n\n  Yes: so.\n- 9\n\n  Yes: so.\n",
    "opens with Yes or No": "- 8\n\n  Yes: so.\n- 9\n",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault, tmp_path):
    text = f"# Page\n\n:::{{question}} What?\n{FAULTS[fault]}:::\n"
    assert fault in built(tmp_path, text)[1]


def test_each_question_of_the_book_has_one_right_answer():
    """Read as text, so that a chapter's author sees it before building."""
    found = 0
    for path in notebooks.find():
        for cell in notebooks.read(path).cells:
            for block in re.findall(r":::\{question\}.*?\n:::", cell.source, re.S):
                verdicts = re.findall(r"(?m)^  (Yes|No)\b", block)
                answers = re.findall(r"(?m)^- ", block)
                assert len(verdicts) == len(answers) >= 2, f"{path.name}: {block}"
                assert verdicts.count("Yes") == 1, f"{path.name}: {block}"
                found += 1
    assert found
