"""Catalogues of the book's text and the editions in other languages made from them.

    python tools/languages.py                 bring the catalogues up to date
    python tools/languages.py --check         only name those that are not
    python tools/languages.py book/07_window  begin the translation of a page
    python tools/languages.py --build         the editions, into _build/html/LANGUAGE
    python tools/languages.py --build --into FOLDER       ... into another built book

A catalogue is locale/LANGUAGE/LC_MESSAGES/PAGE.po. A message that has changed keeps its
old translation, marked fuzzy: the page shows English there until somebody has looked.
"""

import argparse
import io
import os
import shutil
import sys
from pathlib import Path

import yaml
from babel.messages import pofile
from jupyter_book.sphinx import build_sphinx
from sphinx import locale
from sphinx_intl import catalog

import notebooks

sys.path.insert(0, str(notebooks.ROOT / "_ext"))
import editions

ROOT = notebooks.ROOT


def sphinx(builder, out, root=ROOT, **settings):
    """Run Sphinx with the book's configuration. Raises: RuntimeError on a warning."""
    toc = str(Path(root, "_toc.yml"))
    locale.translators.clear()  # those of a build before this one
    settings |= {"external_toc_path": toc, "latex_individualpages": False}
    status = build_sphinx(
        root,
        out,
        noconfig=True,
        path_config=Path(root, "_config.yml"),
        confoverrides=settings,
        doctreedir=out.with_name(f".{out.name}"),
        builder=builder,
        warningiserror=True,
        keep_going=True,
        quiet=True,
    )
    if status:
        raise RuntimeError(f"{builder}: Sphinx ended with {status}, expected 0")


def extract(root=ROOT):
    """The book's messages, a .pot for each page. Returns: their folder."""
    out = Path(root, "_build", "gettext")
    sphinx("gettext", out, root, gettext_compact=False)
    return out


def pages(root, language, wanted=()):
    """Pages whose catalogue is kept: those that have one, and those asked for."""
    folder = Path(root, "locale", language, "LC_MESSAGES")
    kept = [p.relative_to(folder).with_suffix("") for p in folder.rglob("*.po")]
    return sorted({path.as_posix() for path in kept} | set(wanted))


def merged(po, pot, language):
    """The text of a catalogue that has the template's messages and its translations."""
    new = catalog.load_po(pot)
    new.creation_date = new.revision_date = None
    old = catalog.load_po(po, locale=language) if po.exists() else None
    if old is None:
        old, new.locale = new, language
    else:
        catalog.update_with_fuzzy(old, new)
    for message in old:
        message.locations = [(name, None) for name, _ in message.locations[:1]]
    old.fuzzy = False
    old.header_comment = f"# {language}: translation of the book, CC BY 4.0."
    file = io.BytesIO()
    pofile.write_po(file, old, width=88, no_location=True, omit_header=False)
    lines = file.getvalue().decode("utf-8").splitlines()
    dated = ('"POT-Creation-Date', '"PO-Revision-Date', '"Generated-By', '"Project-Id')
    return "\n".join(x for x in lines if not x.startswith(dated)) + "\n"


def update(root=ROOT, wanted=(), check=False):
    """Write what is stale, or with `check` only name it. Returns: the exit status."""
    pots, texts = extract(root), {}
    for language in editions.languages(root):
        for page in pages(root, language, wanted):
            po, pot = editions.catalogue(root, language, page), pots / f"{page}.pot"
            if not pot.exists():
                raise FileNotFoundError(f"no page {page}: is it in _toc.yml?")
            texts[po] = merged(po, pot, language)
            po.parent.mkdir(parents=True, exist_ok=True)
    return notebooks.refresh(texts, root, check)


def build(root=ROOT, html=None):
    """Each edition, into the built book; and links to it on the English pages.

    Args: root, the book's folder; html, the built book's, or None for the usual one.
    """
    html = Path(html or Path(root, "_build", "html"))
    site = yaml.safe_load(Path(root, "_config.yml").read_text(encoding="utf-8"))
    address = (site.get("html", {}).get("baseurl") or "").rstrip("/")
    made = {}
    for language in editions.languages(root):
        out = html.parent / "editions" / language
        settings = {"html_baseurl": f"{address}/{language}/"} if address else {}
        folder = str(Path(root, "locale"))
        settings |= {"locale_dirs": [folder], "gettext_compact": False}
        sphinx("html", out, root, language=language, nitpicky=True, **settings)
        shutil.rmtree(html / language, ignore_errors=True)
        tools = shutil.ignore_patterns("cards", "reader")  # of English pages alone
        shutil.copytree(out, html / language, ignore=tools)
        made[language] = editions.translated(root, language)
    for page in {page for each in made.values() for page in each}:
        path = html / f"{page}.html"
        codes = [language for language, found in made.items() if page in found]
        text = path.read_text(encoding="utf-8")
        text = editions.join(text, page, codes, address)
        path.write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", help="pages to begin, such as book/index")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--build", action="store_true", help="build the editions")
    parser.add_argument("--into", help="the built book that the editions go into")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.build:
        return build(html=options.into)
    return update(ROOT, options.pages, options.check)


if __name__ == "__main__":
    sys.exit(main())
