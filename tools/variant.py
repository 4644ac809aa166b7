"""Start a variant: a module, its tests, a chapter and an entry of the bench that work.

    python tools/variant.py NAME "Title of the chapter"

What is made comes from tools/template/ and passes the tests as it is. NAME is a name of
a Python module, such as `temperature`; the chapter gets the next number.
"""

import argparse
import keyword
import re
import subprocess
import sys

import notebooks

TEMPLATE = notebooks.ROOT / "tools" / "template"
RACERS = notebooks.CODE / "attnbook" / "racers.py"
CONTENTS = notebooks.ROOT / "_toc.yml"


def renamed(text, name, title):
    """A template's text with the variant's own names."""
    camel = "".join(part.capitalize() for part in name.split("_"))
    text = text.replace("Variant attention", title).replace("Variant", camel)
    return text.replace("variant", name)


def files(name, title):
    """What will be made: a dict of path to text."""
    number = 1 + max((int(p.name[:2]) for p in notebooks.find()), default=0)
    chapter = notebooks.BOOK / f"{number:02}_{name}.ipynb"
    made = {
        notebooks.CODE / "attnbook" / f"{name}.py": "variant.py",
        notebooks.ROOT / "tests" / f"test_{name}.py": "test_variant.py",
        chapter: "chapter.ipynb",
    }
    texts = {
        path: renamed((TEMPLATE / file).read_text(encoding="utf-8"), name, title)
        for path, file in made.items()
    }
    return texts | {RACERS: entered(name), CONTENTS: listed(chapter.stem)}


def entered(name):
    """racers.py with a line for the new layer among those that run alone."""
    layer = "".join(part.capitalize() for part in name.split("_")) + "Attention"
    text = RACERS.read_text(encoding="utf-8")
    above = "from attnbook.window import"
    text = text.replace(above, f"from attnbook.{name} import {layer}\n{above}")
    line = f'    "{name}": lambda: {layer}(C, H, D),\n'
    return re.sub(r"(?m)^(ALONE = \{.*\n(?:    .*\n)*)", rf"\1{line}", text)


def listed(chapter):
    """_toc.yml with the chapter at the end of the numbered part."""
    text = CONTENTS.read_text(encoding="utf-8")
    last = re.findall(r"(?m)^ +- file: book/\d\d_\w+\n", text)[-1]
    line = re.sub(r"book/\w+", f"book/{chapter}", last)
    return text.replace(last, last + line)


def run(*command):
    print("  " + " ".join(map(str, command)), flush=True)
    subprocess.run([sys.executable, *command], cwd=notebooks.ROOT, check=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("title", metavar="TITLE")
    options = parser.parse_args(arguments)
    name = options.name
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        parser.error(
            f"NAME: {name!r}, expected lower-case letters, such as temperature"
        )
    made = files(name, options.title)
    for path in made:
        if path.exists() and path not in (RACERS, CONTENTS):
            parser.error(f"NAME: {name!r}, but {path.name} exists")
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote: {path.relative_to(notebooks.ROOT)}")
    chapter = next(path for path in made if path.suffix == ".ipynb")
    python = [path for path in made if path.suffix == ".py"]
    run("-m", "ruff", "check", "--fix", "--quiet", *python)
    run("-m", "ruff", "format", "--quiet", *python)
    run("tools/quote.py", chapter)
    run("-m", "ruff", "format", "--quiet", chapter)
    run("tools/run_book.py", chapter)
    run("tools/book_map.py")
    print("Next: `tools/run_book.py --check` names the chapters that quote the bench;")
    print(f"run them, then `make test`. Replace what stands in ⟨⟩ in {chapter.name}.")


if __name__ == "__main__":
    sys.exit(main())
