"""One way to refuse bad input: say which argument, what came, and what was expected."""

from numbers import Integral


def expect(ok, name, got, expected):
    """Raise ValueError unless `ok`.

    Args: ok, a truth value; name, the argument's name; got, the offending value or
    shape; expected, in words or numbers.
    Raises: ValueError, "NAME: got GOT, expected EXPECTED".
    """
    if not ok:
        got = tuple(got) if isinstance(got, tuple) else got
        raise ValueError(f"{name}: got {got}, expected {expected}")


def expect_sizes(**sizes):
    """Raise ValueError unless each named size is an integer of at least 1.

    Args: sizes, as in expect_sizes(T=T, D=D).
    """
    for name, size in sizes.items():
        ok = isinstance(size, Integral) and not isinstance(size, bool) and size > 0
        expect(ok, name, size, "a positive integer")
