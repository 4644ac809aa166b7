"""The gallery page's cards, made when the book is built: nothing of them is committed.

`{gallery} cards` and `{gallery} legend` put them into the page (card_page.py makes the
HTML). When the page is part of the book, three things are written beside it: the data
to compare two models (_static/gallery_data.js), each card as a file, as `attnbook card`
draws it (_static/cards/ID.svg; an ID never changes), and the poster of the gallery, as
`make poster` draws it (_static/cards/poster.pdf). The files are kept under _build/cards
and drawn anew only when their code or their data changed.
"""

import hashlib
import shutil
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT / "code") not in sys.path:
    sys.path.insert(0, str(ROOT / "code"))

PAGE = "book/gallery"
TITLE = "Attention in modern LLMs"


class Gallery(Directive):
    """The cards, or what their letters mean, as HTML."""

    required_arguments = 1

    def run(self):
        import card_page

        makers = {"cards": card_page.cards, "legend": card_page.legend}
        if self.arguments[0] not in makers:
            raise self.error(f"gallery: {self.arguments[0]}, expected cards or legend")
        env = self.state.document.settings.env
        for path in inputs():
            env.note_dependency(str(path))
        html = makers[self.arguments[0]]()
        return [nodes.raw("", html, format="html")]


def inputs():
    """The files that cards are made from: code and data."""
    package = ROOT / "code" / "attnbook"
    drawn = ["card", "card_words", "pair", "poster", "sheet", "__init__"]
    return [
        *sorted((package / "models").glob("*.*")),
        *(package / "draw" / f"{name}.py" for name in drawn),
        package / "draw" / "book.mplstyle",
        *sorted(p for p in (package / "data/gallery").rglob("*") if p.is_file()),
        Path(__file__).with_name("card_page.py"),
    ]


def fingerprint():
    """A hash of all that the drawn files depend on."""
    import matplotlib

    found = hashlib.sha256(matplotlib.__version__.encode())
    for path in inputs()[:-1]:  # the page's HTML is no part of them
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def draw(folder, only=None):
    """Draw what the folder lacks: the card of each model, and the poster.

    Args: folder; only, ids, for less than all. A bar shows how far it is.
    """
    import matplotlib.pyplot as plt

    import card_page
    from attnbook.draw import card, card_words, poster, sheet

    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for row in card_page.rows() if only is None or row.id in only]
    missing = [row for row in rows if not (folder / f"{row.id}.svg").exists()]
    sheets = only is None and not (folder / "poster.pdf").exists()
    if not (missing or sheets):
        return
    with plt.rc_context():
        plt.switch_backend("agg")
        plt.style.use("attnbook.draw.book")
        for row in tqdm(missing, desc="cards", disable=None, leave=False):
            a = row.architecture
            figure = card.plot(a, row)
            said = card_words.describe(a, row)
            sheet.save(figure, folder / f"{row.id}.svg", f"Card of {a.name}", said)
            plt.close(figure)
        if sheets:
            bar = tqdm(poster_models(), desc="poster", disable=None, leave=False)
            figures = poster.poster(list(bar), "A1", TITLE)
            poster.save_poster(figures, folder / "poster.pdf", TITLE)


def poster_models():
    """(architecture, row) of the models on the poster, as on the command line."""
    from attnbook.__main__ import models_of

    return models_of(None, True)


def write(app, exception):
    """Write the page's files, if the page is in the book."""
    if exception or app.builder.format != "html" or PAGE not in app.env.found_docs:
        return
    import card_page

    static = Path(app.outdir, "_static")
    (static / "gallery_data.js").write_text(card_page.data(), encoding="utf-8")
    kept = Path(app.srcdir, "_build", "cards", fingerprint())
    for old in kept.parent.glob("*"):
        if old != kept and old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
    draw(kept, app.config.gallery_only)
    shutil.rmtree(static / "cards", ignore_errors=True)
    hidden = shutil.ignore_patterns(".*")  # what another build is writing
    shutil.copytree(kept, static / "cards", ignore=hidden, dirs_exist_ok=True)


def setup(app):
    app.add_config_value("gallery_only", None, "", [list, type(None)])
    app.add_directive("gallery", Gallery)
    app.connect("build-finished", write, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
