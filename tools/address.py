"""Fill what depends on the book's public address; --check only compares.

The address stands in one place, repository.url in _config.yml. From it come the launch
buttons, the site's own address, the first cell of each chapter and the badges of
README.md. While it is empty there are no buttons, no badges and no links that lead
nowhere.

    python tools/address.py [--check]
"""

import argparse
import re
import sys

import notebooks

COLAB = "https://colab.research.google.com"
BINDER = "https://mybinder.org"
BADGES = re.compile(r"(<!-- badges: .*? -->\n).*?(<!-- /badges -->)", re.S)

LOCAL = f"""\
{notebooks.INSTALL}
try:
    import attnbook
except ModuleNotFoundError as error:
    raise SystemExit("Install the package first: pip install .") from error"""

COLAB_CELL = """\
{install}
try:
    import attnbook
except ModuleNotFoundError:
    %pip install -q --no-deps "attnbook @ git+{url}@v{version}"
"""


def version():
    text = (notebooks.CODE / "attnbook" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.M)[1]


def first_cell(url, extras):
    """The install cell: the package from its tag, then what else the chapter needs."""
    if not url:
        return LOCAL
    cell = COLAB_CELL.format(install=notebooks.INSTALL, url=url, version=version())
    more = f"    %pip install -q {' '.join(extras)}" if extras else ""
    return (cell + more).rstrip("\n")


def pages(url):
    """Where the site of a GitHub repository stands, or nothing."""
    match = re.fullmatch(r"https://github\.com/([^/]+)/([^/]+)", url)
    return f"https://{match[1].lower()}.github.io/{match[2]}/" if match else ""


def config(text, url):
    """_config.yml with buttons if the address has a web page, and none if not."""
    web = url.startswith("https://")
    hosted = url.startswith("https://github.com/")
    for key, value in {
        "colab_url": COLAB if hosted else "",
        "binderhub_url": BINDER if hosted else "",
        "baseurl": pages(url),
    }.items():
        text = re.sub(rf'(?m)^(  {key}:) "[^"]*"', rf'\1 "{value}"', text)
    return re.sub(r"(?m)^(  use_\w+_button:).*$", rf"\1 {str(web).lower()}", text)


def readme(text, url):
    """README.md with badges between its markers, or nothing between them."""
    badges = ""
    if url.startswith("https://github.com/"):
        badge = "[![{0}]({1}/actions/workflows/{0}.yml/badge.svg)]({1}/actions)\n"
        chapter = sorted(notebooks.BOOK.glob("[0-9]*.ipynb"))[0].name
        page = f"{COLAB}/github/{url.removeprefix('https://github.com/')}"
        badges = badge.format("test", url) + badge.format("book", url)
        badges += (
            f"[Open the first chapter in Colab]({page}/blob/main/book/{chapter})\n"
        )
    return BADGES.sub(lambda match: match[1] + badges + match[2], text)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(arguments)

    settings = notebooks.ROOT / "_config.yml"
    before = settings.read_text(encoding="utf-8")
    url = re.search(r'(?m)^  url: *"?([^"\s]*)"?', before)[1].rstrip("/")
    wanted = {settings: config(before, url)}
    front = notebooks.ROOT / "README.md"
    wanted[front] = readme(front.read_text(encoding="utf-8"), url)

    stale = [path for path, text in wanted.items() if path.read_text("utf-8") != text]
    for path in notebooks.find():
        chapter = notebooks.read(path)
        first = chapter.cells[0]
        if not notebooks.is_install(first):
            print(f"address: {path.name} does not open with its install cell")
            return 2
        extras = chapter.metadata.get("attnbook", {}).get("colab", [])
        text = first_cell(url, extras)
        if first.source != text:
            first.source = text
            stale.append(path)
            wanted[path] = chapter

    for path in stale:
        print(f"{'stale' if options.check else 'filled'}: {path.name}")
        if options.check:
            continue
        if path.suffix == ".ipynb":
            notebooks.write(path, wanted[path])
        else:
            path.write_text(wanted[path], encoding="utf-8")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
