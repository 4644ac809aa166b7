"""What the tools share: where the chapters are, and one way to write a notebook.

A notebook is always written whole, through a temporary file, in one normal form, so
that a diff shows what its author changed and nothing else.

    python tools/notebooks.py FILE    prints a notebook as text: for git diff
"""

import hashlib
import os
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
BOOK, CODE = ROOT / "book", ROOT / "code"
INSTALL = "# install: filled by tools/address.py"

# What every kernel of the book runs under, here and in the tests: sums of floats
# depend on the number of threads, so a trained model does as well. One thread each:
# the models are small, and the tests run two chapters side by side.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm, where there are no widgets
    "KERAS_BACKEND": "torch",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}


def find(names=()):
    """Notebooks for names: a path, a folder, or a chapter's name (default: book)."""
    found = []
    for name in names or [BOOK]:
        tries = [Path(name), BOOK / name, BOOK / f"{name}.ipynb"]
        path = next((path for path in tries if path.exists()), None)
        if path is None:
            raise FileNotFoundError(f"no chapter {name}")
        found += sorted(path.glob("*.ipynb")) if path.is_dir() else [path]
    return found


def read(path):
    return nbformat.read(path, as_version=4)


def text(notebook):
    """The notebook in its normal form."""
    _normalise(notebook)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def refresh(wanted, root, check=False):
    """Write the generated files that are stale, or with `check` only name them.

    Args: wanted, dict of path to text; root, the folder that names are relative to.
    Returns: int, the exit status: 1 if something is stale and was left so.
    """
    stale = [
        path
        for path, new in wanted.items()
        if not path.exists() or path.read_text(encoding="utf-8") != new
    ]
    for path in stale:
        if not check:
            path.write_text(wanted[path], encoding="utf-8")
        print(f"{'stale' if check else 'wrote'}: {path.relative_to(root)}")
    return int(check and bool(stale))


def write(path, notebook):
    """Replace a notebook in one step; True if a byte changed."""
    new = text(notebook).encode()
    if path.exists() and path.read_bytes() == new:
        return False
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".ipynb")
    with os.fdopen(handle, "wb") as file:
        file.write(new)
    os.chmod(name, 0o644)
    os.replace(name, path)
    return True


def is_install(cell):
    return cell.source.startswith(INSTALL)


def _normalise(notebook):
    kept = notebook.metadata.get("attnbook")
    notebook.metadata = nbformat.from_dict(METADATA)
    if kept:
        notebook.metadata["attnbook"] = kept
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen = Counter()
    for cell in notebook.cells:
        cell.source = cell.source.strip("\n")
        allowed = ("tags", "mystnb")
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in allowed and v}
        # An id of the cell alone: what is inserted elsewhere changes no other.
        digest = hashlib.sha256((cell.cell_type + cell.source).encode()).hexdigest()
        digest = digest[:10]
        seen[digest] += 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        if is_install(cell):
            cell.id = "install"
        for output in cell.get("outputs", []):
            if svg := output.get("data", {}).get("image/svg+xml"):
                output.data["image/svg+xml"] = compact(svg)


def compact(svg):
    """A drawing as Matplotlib wrote it, in fewer bytes: coordinates to 1/100 point,
    one element a line, no prologue and no comments.
    """
    svg = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"\s+", " ", svg)
    svg = re.sub(r' (?=/?>|"[ />])', "", svg).replace("> <", ">\n<").strip()

    def rounded(match):
        number = f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
        return "0" if number == "-0" else number

    def numbers(match):
        return re.sub(r"-?\d+\.\d+", rounded, match[0])

    svg = re.sub(r' (d|x|y|x1|x2|y1|y2)="[^"]*"|translate\([^)]*\)', numbers, svg)
    svg = re.sub(r' d="[^"]*"', lambda d: re.sub(r" ?([MLQCz]) ?", r"\1", d[0]), svg)
    return svg + "\n"


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def compared(cell):
    """True if nbval compares text that this cell printed or returned."""
    if {"nbval-ignore-output", "nbval-skip"} & set(cell.metadata.get("tags", [])):
        return False
    texts = [
        output.get("text", output.get("data", {}).get("text/plain", ""))
        for output in cell.outputs
        if output.get("name") != "stderr"
    ]
    return any(text and not text.startswith("<Figure") for text in texts)


def shown(notebook):
    """A notebook as text: cells with their tags, and what they printed, no pictures."""
    for cell in notebook.cells:
        tags = " ".join(cell.metadata.get("tags", []))
        yield f"--- {cell.cell_type} {tags}".rstrip()
        yield cell.source
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            words = output.get("text", data.get("text/plain", ""))
            yield "> " + words.rstrip().replace("\n", "\n> ")
        yield ""


if __name__ == "__main__":
    print("\n".join(shown(read(sys.argv[1]))))
