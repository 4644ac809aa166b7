"""Fill the quoted cells of the chapters from the package; --check only compares.

A quoted cell opens with a mark, `# source: attnbook/attention.py::softmax`; each mark
in it is followed by that function, class or constant as the package has it, docstrings
left out. Edit the .py, never the quotation.

    python tools/quote.py [--check] [chapter or folder ...]
"""

import argparse
import ast
import re
import sys
import textwrap

import notebooks

MARK = re.compile(r"# source: (attnbook/[\w/]+\.py)::(\w+(?:\.\w+)*)")


class QuoteError(Exception):
    """A mark that names nothing."""


def docstrings(node):
    """Every docstring expression below a node, with the body that it stands in."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
    for inner in ast.walk(node):
        if isinstance(inner, kinds) and ast.get_docstring(inner, False) is not None:
            yield inner.body[0], inner.body


def named(body, name):
    """The last statement of a body that defines a name."""
    for node in reversed(body):
        targets = getattr(node, "targets", [getattr(node, "target", node)])
        if name in {getattr(t, "name", getattr(t, "id", None)) for t in targets}:
            return node
    return None


def source_of(file, name):
    """The lines that define `name` in code/`file`, without docstrings."""
    path = notebooks.CODE / file
    if not path.is_file():
        raise QuoteError(f"code/{file} does not exist")
    text = path.read_text(encoding="utf-8")
    body = ast.parse(text).body
    for part in name.split("."):
        node = named(body, part)
        if node is None:
            raise QuoteError(f"code/{file} defines no {name}")
        body = getattr(node, "body", [])
    lines = text.splitlines()
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    dropped = set()
    for docstring, siblings in docstrings(node):
        dropped |= set(range(docstring.lineno, docstring.end_lineno + 1))
        if len(siblings) == 1:  # nothing but a docstring
            lines[docstring.lineno - 1] = " " * docstring.col_offset + "pass"
            dropped.remove(docstring.lineno)
            continue
        after = docstring.end_lineno + 1
        while after <= node.end_lineno and not lines[after - 1].strip():
            dropped.add(after)
            after += 1
    kept = [lines[i - 1] for i in range(first, node.end_lineno + 1) if i not in dropped]
    return textwrap.dedent("\n".join(kept))


def fill(cell):
    """The cell's text as it should be, or None if it quotes nothing."""
    marks = [
        line for line in cell.splitlines() if line.startswith("# source: attnbook")
    ]
    if not marks:
        return None
    if not cell.startswith(marks[0]):
        raise QuoteError(f"a quoted cell must open with its mark: {marks[0]}")
    blocks = []
    for mark in marks:
        match = MARK.fullmatch(mark.strip())
        if not match:
            raise QuoteError(
                f"expected '# source: attnbook/FILE.py::NAME', got: {mark}"
            )
        blocks.append(f"{match[0]}\n{source_of(*match.groups())}")
    return "\n\n\n".join(blocks)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", help="chapters or folders (default: book)")
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(arguments)

    chapters, stale = {}, []
    try:
        for path in notebooks.find(options.paths):
            chapters[path] = notebooks.read(path)
            for number, cell in enumerate(chapters[path].cells):
                where = f"{path.name}, cell {number}"
                try:
                    text = fill(cell.source) if cell.cell_type == "code" else None
                except QuoteError as error:
                    raise QuoteError(f"{where}: {error}") from None
                if text is not None and text != cell.source:
                    stale.append(f"{where}: {cell.source.splitlines()[0]}")
                    cell.source = text
    except (QuoteError, FileNotFoundError, SyntaxError) as error:
        print(f"quote: {error}", file=sys.stderr)
        return 2
    print(*stale, sep="\n", end="\n" if stale else "")
    if options.check:
        return 1 if stale else 0
    changed = [
        path.name
        for path, chapter in chapters.items()
        if notebooks.write(path, chapter)
    ]
    print(f"{len(stale)} cells filled; written: {', '.join(changed) or 'nothing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
