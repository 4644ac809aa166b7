"""Self-check questions: several answers, each of which says, once opened, why it is
right or wrong.

    :::{question} How many keys does a token store with 8 query heads in 2 groups?
    - 8

      No: the four query heads of a group share one key.
    - 2

      Yes: one a group.
    :::

The fence is of colons, since one of backticks could not hold code in its first line. An
answer is a `details` element. It opens by touch, by keyboard and without any script,
and those of one question share a name, so that a browser keeps one of them open.
"""

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LOG = logging.getLogger(__name__)
VERDICTS = ("Yes", "No")


class question(nodes.General, nodes.Element):
    """Its children: the paragraph that asks, then an `answer` each."""


class answer(nodes.General, nodes.Element):
    """Its children: a paragraph, the answer itself, and what is said about it."""


class QuestionDirective(SphinxDirective):
    required_arguments, final_argument_whitespace, has_content = 1, True, True

    def run(self):
        asked, messages = self.state.inline_text(self.arguments[0], self.lineno)
        paragraph = nodes.paragraph(self.arguments[0], "", *asked)
        paragraph.source, paragraph.line = self.get_source_info()
        body = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, body)
        items = [item for found in body.findall(nodes.bullet_list) for item in found]
        items = [item for item in items if isinstance(item.parent.parent, type(body))]
        if fault := fault_of(body, items):
            LOG.warning("question: %s", fault, location=self.get_location())
        number = self.env.new_serialno("question")
        result = question("", paragraph, name=f"question-{number}")
        for item in items:
            right = len(item) > 1 and item[1].astext().startswith("Yes")
            result += answer("", *item.children, right=right)
        return [result, *messages]


def fault_of(body, items):
    """What is wrong with a question, or None."""
    if len(body) != 1 or len(items) < 2:
        return "wants one list of at least two answers"
    said = [item[1].astext().startswith(VERDICTS) if len(item) > 1 else False
            for item in items]  # fmt: skip
    if not all(said):
        return "each answer wants a paragraph below it that opens with Yes or No"
    if sum(item[1].astext().startswith("Yes") for item in items) != 1:
        return "wants one right answer"
    return None


def open_question(self, node):
    self.body.append('<div class="question" role="group" aria-label="Question">')


def close_question(self, node):
    self.body.append("</div>\n")


def open_answer(self, node):
    """The answer itself is the summary; what is said about it opens below."""
    epub = self.builder.name == "epub"  # whose checker knows no name of details
    name = "" if epub else f' name="{node.parent["name"]}"'
    kind = "right" if node["right"] else "wrong"
    self.body.append(f'<details class="answer {kind}"{name}>')
    first = node[0]
    self.body.append("<summary>")
    for child in first.children:
        child.walkabout(self)
    self.body.append("</summary>\n")
    for child in node[1:]:
        child.walkabout(self)
    self.body.append("</details>\n")
    raise nodes.SkipNode


def nothing(self, node):
    """Other writers print the children as they stand."""


def setup(app):
    app.add_directive("question", QuestionDirective)
    app.add_node(
        question,
        html=(open_question, close_question),
        **{writer: (nothing, nothing) for writer in ("latex", "text", "man")},
    )
    app.add_node(
        answer,
        html=(open_answer, nothing),
        **{writer: (nothing, nothing) for writer in ("latex", "text", "man")},
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
