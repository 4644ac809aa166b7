"""Numbers and names in words, as the command line and the cards print them."""


def human(amount):
    """Bytes in the unit that suits them; None is "unknown"."""
    if amount is None:
        return "unknown"
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if amount >= size:
            return f"{amount / size:.2f} {unit}"
    return f"{amount:g} B"


def number(value):
    """A whole number with commas, or the word unknown."""
    return "unknown" if value is None else f"{value:,}"


def short(count):
    """A number of parameters: 124.4M, 8.03B, 671.0B, 1.57T; None is "unknown"."""
    if count is None:
        return "unknown"
    for letter, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            digits = 1 if count >= 10 * size else 2
            return f"{count / size:.{digits}f}{letter}"
    return f"{count:g}"


def clean(words, most=120):
    """Words that can be printed: no control characters, no line that never ends."""
    words = " ".join(str(words).split())
    words = "".join(c for c in words if c.isprintable())
    return words if len(words) <= most else words[: most - 1] + "…"
