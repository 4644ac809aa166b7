"""Execute chapters and store them in normal form; --check only lists the stale ones.

A chapter is stale when its code, or a module of the package or a data file that it
uses, changed since it was executed (comments and docstrings do not count). Outputs
that depend on the machine (tag nbval-ignore-output) are kept while a chapter is not
stale, so that a second run changes no byte; --fresh replaces them as well.

    python tools/run_book.py [--check | --fresh] [chapter ...]   (default: stale ones)
"""

import argparse
import ast
import hashlib
import json
import os
import re
import subprocess
import sys

import ipykernel.kernelspec
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

import notebooks

WIDGET = "application/vnd.jupyter.widget-view+json"
PROGRESS = re.compile(r"^.*(\d+%\||\d+(it|s) ?\[|\[A).*$", re.M)


# --- is it stale? ---------------------------------------------------------------------


def python_of(cell):
    """A cell's Python, its %magic and !shell lines left out."""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", cell.source, flags=re.M)


def module_file(name):
    """The file of a module of the package, or None."""
    path = notebooks.CODE.joinpath(*name.split("."))
    tries = [path / "__init__.py", path.with_suffix(".py")]
    return next((path for path in tries if path.is_file()), None)


def imports(tree, package=""):
    """Dotted names of everything of attnbook that a syntax tree imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "attnbook")


def meaning(node):
    """A syntax tree as plain data: no positions, comments, docstrings or version."""
    if isinstance(node, list):
        return [meaning(item) for item in node if not _idle(item)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {k: meaning(v) for k, v in ast.iter_fields(node) if v not in (None, [])}
    return [type(node).__name__, fields]


def _idle(node):
    if isinstance(node, ast.Assign):
        return getattr(node.targets[0], "id", None) == "__version__"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def fingerprint(notebook):
    """A hash of what the outputs depend on."""
    cells = [
        c
        for c in notebook.cells
        if c.cell_type == "code" and not notebooks.is_install(c)
    ]
    waiting = [name for cell in cells for name in imports(ast.parse(python_of(cell)))]
    files = {}
    while waiting:
        name = waiting.pop()
        parents = [name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1)]
        waiting += [parent for parent in parents if parent not in files]
        path = module_file(name)
        if name in files or path is None:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        files[name] = meaning(tree.body)
        inner = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting += imports(tree, inner)
        if path.name == "__init__.py":  # data and style files that the package reads
            for data in sorted(path.parent.iterdir()):
                if data.is_file() and data.suffix not in (".py", ".md"):
                    files[f"{name}/{data.name}"] = hashlib.sha256(
                        data.read_bytes()
                    ).hexdigest()
    inputs = [[cell.source for cell in cells], sorted(files.items())]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]


def is_stale(notebook):
    return notebook.metadata.get("attnbook", {}).get("fingerprint") != fingerprint(
        notebook
    )


# --- execute and store ----------------------------------------------------------------


class RunError(Exception):
    """A cell that failed."""


class ThisPython(KernelSpecManager):
    """Every kernel is the interpreter that runs this file, whatever is installed."""

    def get_kernel_spec(self, kernel_name):
        return KernelSpec(**ipykernel.kernelspec.get_kernel_dict())


class Kernel(AsyncKernelManager):
    def __init__(self, **settings):
        super().__init__(kernel_spec_manager=ThisPython(), **settings)


def execute(path, notebook):
    """Run all cells in place, in a fresh kernel, with a progress bar."""
    reached = 0

    def start(cell_index, **_):
        nonlocal reached
        reached = cell_index
        bar.update(cell_index - bar.n)

    client = NotebookClient(
        notebook,
        kernel_name="python3",
        kernel_manager_class=Kernel,
        resources={"metadata": {"path": str(path.parent)}},
        timeout=900,
        record_timing=False,
        coalesce_streams=True,
        on_cell_start=start,
    )
    with tqdm(total=len(notebook.cells), desc=path.stem, unit="cell") as bar:
        try:
            # The kernel's own stderr says only that it runs over TCP.
            environment = {**os.environ, **notebooks.ENVIRONMENT}
            client.execute(env=environment, stderr=subprocess.DEVNULL)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise RunError(f"{path.name}, cell {reached}: {error}") from None
        bar.update(bar.total - bar.n)


def clean(cell, count):
    """Number a cell and drop from its outputs what no reader of the page needs."""
    cell.execution_count = count
    kept = []
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            lines = PROGRESS.sub("", output.text.replace("\r", "\n")).splitlines()
            output.text = "".join(f"{line}\n" for line in lines if line.strip())
            if not output.text:
                continue
        if "execution_count" in output:
            output.execution_count = count
        if WIDGET not in output.get("data", {}):
            kept.append(output)
    cell.outputs = kept


def run(path, fresh=False):
    """Execute one chapter and replace its file; True if a byte changed."""
    notebook = notebooks.read(path)
    old = None if fresh or is_stale(notebook) else notebooks.read(path)
    execute(path, notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, 1):
        clean(cell, count)
    if old is not None:
        for cell, before in zip(notebook.cells, old.cells, strict=True):
            if "nbval-ignore-output" in cell.metadata.get("tags", []):
                cell.outputs = before.outputs
    notebook.metadata.setdefault("attnbook", {})["fingerprint"] = fingerprint(notebook)
    return notebooks.write(path, notebook)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*")
    parser.add_argument(
        "--check", action="store_true", help="list stale chapters, run none"
    )
    parser.add_argument("--fresh", action="store_true", help="replace timings as well")
    options = parser.parse_args(arguments)
    try:
        paths = notebooks.find(options.chapters)
        stale = [path for path in paths if is_stale(notebooks.read(path))]
    except (FileNotFoundError, SyntaxError) as error:
        print(f"run_book: {error}", file=sys.stderr)
        return 2
    if options.check:
        print(
            *(f"stale: {path.name}" for path in stale),
            sep="\n",
            end="\n" if stale else "",
        )
        return 1 if stale else 0
    for path in paths if options.chapters else stale:
        try:
            changed = run(path, options.fresh)
        except RunError as error:
            print(f"run_book: {error}\n{path.name} is left as it was", file=sys.stderr)
            return 1
        print(f"{path.name}: {'stored' if changed else 'no byte changed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
