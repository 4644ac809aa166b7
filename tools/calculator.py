"""Write what the calculator page shows: its models, and the table of all of them.

The numbers come from `attnbook.models`, words and colours of the cards from
`attnbook.draw`; the page multiplies, adds and draws. The models go to
book/_static/calculator_data.js (a script, since a page opened from a folder may not
load JSON), the table goes to book/calculator.md. What reads a pasted config.json is
put beside them when the book is built (_ext/reader.py).

    python tools/calculator.py [--check]    --check changes nothing and fails if stale
"""

import argparse
import json
import re
import sys
from pathlib import Path

from matplotlib.colors import to_rgba

import notebooks
from attnbook import models
from attnbook.draw import QUERY, label_on, page
from attnbook.draw.card import FILL, PARTS
from attnbook.models.architecture import MIXERS
from attnbook.models.ledger import BITS, LONGEST
from attnbook.models.read import LARGEST
from attnbook.models.words import human

ROOT = Path(__file__).resolve().parent.parent
CONTEXT = 131_072
TABLE = re.compile(r"(<!-- models: [^\n]*-->\n).*?(<!-- /models -->)", re.S)
HEAD = "// Made by tools/calculator.py from attnbook.models; do not edit.\n"


def compact(value):
    """JSON without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def data():
    """The script that holds the models, one a line, and what all of them share."""
    rows = [
        dict(id=row.id) | page.page(row.architecture, row)
        for row in sorted(models.gallery(), key=lambda row: row.name.lower())
    ]
    lines = ",\n".join(map(compact, rows))
    beside = compact(shared())
    return f"{HEAD}globalThis.attnbook = {{...{beside}, models: [\n{lines}\n]}};\n"


def shared():
    """Limits, colours, and what the reader says of files that it need not open."""
    mixers = {
        name: dict(letter=letter, fill=FILL[name], ink=on(FILL[name]))
        for name, (letter, _) in MIXERS.items()
    }
    limits = dict(bits=BITS, longest=LONGEST, batch=2**30, largest=LARGEST)
    wrong = dict(large=b" " * (LARGEST + 1), bytes=b"\xff")
    return dict(
        limits=limits,
        mixers=mixers,
        query=QUERY,
        parts={name: colour for name, (colour, _) in PARTS.items()},
        wrong={
            name: json.loads(page.answer(raw))["wrong"] for name, raw in wrong.items()
        },
    )


def on(fill):
    """The colour of a letter on a cell; None where the cell has no ground."""
    return None if fill == "none" else label_on(to_rgba(fill))


def table():
    """All models at one context, in bf16, as a table in Markdown."""
    rows = [
        f"```{{table}} One text of {CONTEXT:,} tokens in bf16",
        ":name: table-calculator",
        ":align: left",
        "",
        "| Model | In all | Grows | All | Fixed |",
        "|:--|--:|--:|--:|--:|",
    ]
    for row in sorted(models.gallery(), key=lambda row: row.name.lower()):
        bill = models.ledger(row.architecture, CONTEXT)
        parts = (bill.window_bytes_max, bill.state_bytes)
        fixed = None if None in parts else sum(parts)
        limit = row.architecture.context
        mark = "\\*" if limit is not None and limit < CONTEXT else ""
        cells = [
            bill.total_bytes, bill.bytes_per_token_growing,
            bill.bytes_per_token_all_layers, fixed,
        ]  # fmt: skip
        rows.append(f"| {row.name}{mark} | {' | '.join(map(human, cells))} |")
    return "\n".join([*rows, "```"]) + "\n"


def filled(text):
    """calculator.md with its table filled. Raises: ValueError if it has no place."""
    if not TABLE.search(text):
        raise ValueError("calculator.md: got no table, expected <!-- models: ... -->")
    return TABLE.sub(lambda m: f"{m[1]}\n{table()}\n{m[2]}", text)


def main(root=ROOT, check=False):
    """Write what is stale, or with `check` only name it. Returns: the exit status."""
    source = root / "book" / "calculator.md"
    wanted = {
        root / "book" / "_static" / "calculator_data.js": data(),
        source: filled(source.read_text(encoding="utf-8")),
    }
    return notebooks.refresh(wanted, root, check)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    sys.exit(main(check=parser.parse_args().check))
