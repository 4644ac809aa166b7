"""Draw the map of the chapters into book/_static/map.svg and book/index.md.

The map is read off the book: the order from _toc.yml, each title from the notebook's
first heading, the links from its metadata {"attnbook": {"needs": [slugs]}} (the chapter
before it, where that is missing), the modules from its cells.

    python tools/book_map.py [--check]      --check changes nothing and fails if stale
"""

import argparse
import io
import json
import re
import sys
from pathlib import Path

import matplotlib
import yaml

matplotlib.use("Agg")

import notebooks  # noqa: E402
from attnbook import draw  # noqa: E402
from attnbook.draw import book_map  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
QUOTE = re.compile(r"^# source: attnbook/(\w+)(?:/\w+)*\.py::", re.M)
BLOCK = re.compile(r"(<!-- map: [^\n]*-->\n).*?(<!-- /map -->)", re.S)
LEFT_OUT = {"draw", "check"}  # in every chapter: they would tell nothing


def files_of(toc):
    """Every file that a table of contents names, in order."""
    for entry in toc.get("parts", []) + toc.get("chapters", []):
        if "file" in entry:
            yield entry["file"]
        yield from files_of({k: v for k, v in entry.items() if k != "file"})


def chapters(root=ROOT):
    """The numbered notebooks of the book, as `attnbook.draw.book_map.plot` wants them.

    Raises: ValueError if a chapter has no title or needs one that is not before it.
    """
    found = []
    for file in files_of(
        yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    ):
        slug = Path(file).name
        if not re.match(r"\d\d_", slug):
            continue
        notebook = json.loads((root / f"{file}.ipynb").read_text(encoding="utf-8"))
        cells = [(c["cell_type"], "".join(c["source"])) for c in notebook["cells"]]
        heads = [re.search(r"^# (.+)", s, re.M) for kind, s in cells if kind != "code"]
        heads = [head[1].strip() for head in heads if head]
        if not heads:
            raise ValueError(f"{slug}: got no heading, expected one '# Title'")
        before = [c["slug"] for c in found]
        needs = notebook["metadata"].get("attnbook", {}).get("needs", before[-1:])
        if not set(needs) <= set(before):
            raise ValueError(f"{slug}: needs {needs}, expected some of {before}")
        code = [source for kind, source in cells if kind == "code"]
        quotes = {name for source in code for name in QUOTE.findall(source)}
        found.append(
            {
                "slug": slug,
                "number": len(found) + 1,
                "title": heads[0],
                "needs": list(needs),
                "quotes": sorted(quotes - LEFT_OUT),
            }
        )
    if not found:
        raise ValueError("_toc.yml: got no numbered chapter, expected NN_slug")
    return found


def svg(found):
    """The map as SVG text, the same on every run."""
    draw.use_style()
    figure = book_map.plot(found)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    return "\n".join(lines) + "\n"


def page(text, found):
    """index.md with the map's block filled: the figure, its alt text, its caption."""
    block = f"""```{{figure}} _static/map.svg
:name: fig-map
:width: 460px
:alt: {book_map.describe(found)}

The chapters, read off their notebooks. An arrow leads from a chapter to one that stands
on it; squares mark the modules of `attnbook` that a chapter shows and explains.
```
"""
    if not BLOCK.search(text):
        raise ValueError("index.md: got no map block, expected <!-- map: ... -->")
    return BLOCK.sub(lambda m: m[1] + "\n" + block + "\n" + m[2], text)


def main(root=ROOT, check=False):
    """Write what is stale, or with `check` only name it. Returns: the exit status."""
    found = chapters(root)
    index = root / "book" / "index.md"
    wanted = {
        root / "book" / "_static" / "map.svg": svg(found),
        index: page(index.read_text(encoding="utf-8"), found),
    }
    return notebooks.refresh(wanted, root, check)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    sys.exit(main(check=parser.parse_args().check))
