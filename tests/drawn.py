"""What the tests of figures share: a figure as SVG text, and the words in it."""

import io


def svg(fig):
    """The SVG file of a figure, as text."""
    file = io.StringIO()
    fig.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def texts(fig):
    """The texts inside the axes of a figure."""
    return [text.get_text() for ax in fig.axes for text in ax.texts]
