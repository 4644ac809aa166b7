"""The cover of the printed book and of the EPUB: the title reads itself."""

import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

from attnbook.draw import cover, sheet  # noqa: E402

KINDS = ("svg", "png")


def reading(text):
    """How its characters attend to one another: causal weights (T, T).

    A random vector stands for each letter, and RoPE says where in the text it is.
    """
    from attnbook.attention import attention_weights_np  # PyTorch: not beside Sphinx
    from attnbook.masks import causal
    from attnbook.positions import rope_np

    letters = [letter.lower() for letter in text]
    kinds = sorted(set(letters))
    table = np.random.default_rng(0).normal(size=(len(kinds), 16))
    x = rope_np(table[[kinds.index(one) for one in letters]], np.arange(len(text)))
    return attention_weights_np(x, x, causal(len(text)))


def save(title, author, folder, kinds=KINDS):
    """Write cover.svg and cover.png into a folder. Returns: str, the cover in words."""
    words = cover.describe(title, author)
    for kind in kinds:
        with plt.rc_context():
            plt.style.use(["attnbook.draw.book", {"svg.fonttype": "none"}])
            figure = cover.plot(reading(title), title, author)
            sheet.save(figure, folder / f"cover.{kind}", title, words)
            plt.close(figure)
    return words
