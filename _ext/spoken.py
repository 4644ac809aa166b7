"""A formula in words, where a name must be plain text; elsewhere MathML says it."""

from xml.etree import ElementTree

SIGNS = {
    "−": "minus", "-": "minus", "+": "plus", "=": "equals", "⋅": "times",
    "×": "times", "/": "over", "≤": "at most", "≥": "at least", "<": "less than",
    ">": "more than", "≈": "about", "∑": "sum", "⊤": "transposed", "⊙": "times",
    "∈": "in", "→": "to", "←": "becomes", "…": "and so on", "⌊": "floor of",
    "⌋": "", "\u2061": "", "\u2062": "", "(": "(", ")": ")",
}  # fmt: skip
TWO = {
    "mfrac": "{} over {}",
    "msub": "{} sub {}",
    "munder": "{} below {}",
    "msup": "{} to the {}",
    "mover": "{} with {} above",
}
THREE = {
    "msubsup": "{} sub {} to the {}",
    "munderover": "{} from {} to {}",
}


def speak(mml):
    """The words for a formula in MathML."""
    return " ".join(words(ElementTree.fromstring(mml)).split())


def words(node):
    kind = node.tag.rpartition("}")[2]
    parts = [words(child) for child in node]
    if kind == "msqrt":
        return f"the square root of {' '.join(parts)}"
    if kind in TWO and len(parts) == 2:
        return TWO[kind].format(*parts)
    if kind in THREE and len(parts) == 3:
        return THREE[kind].format(*parts)
    text = (node.text or "").strip()
    return " ".join([SIGNS.get(text, text), *parts])
