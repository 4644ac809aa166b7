"""One way to refuse bad input: say which argument, what came, and what was expected."""


def expect(ok, name, got, expected):
    """Raise ValueError unless `ok`.

    Args: ok, a truth value; name, the argument's name; got, the offending value or
    shape; expected, in words or numbers.
    Raises: ValueError, "NAME: got GOT, expected EXPECTED".
    """
    if not ok:
        got = tuple(got) if isinstance(got, tuple) else got
        raise ValueError(f"{name}: got {got}, expected {expected}")
