"""What the reader needs of the module json, for Brython, whose own is not whole.

Brython 3.15 refuses NaN, reports errors in other words and loses letters beyond 65,535;
the standard library's is too slow there, since it searches with regular expressions.
`loads` gives what json.loads gives, or raises what it raises, in the same words; a test
compares them.
Source: json/decoder.py and json/scanner.py of Python 3.11.
"""

DEEPEST = 400  # objects and lists within each other; then RecursionError
WORDS = {
    "null": None, "true": True, "false": False,
    "NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf"),
}  # fmt: skip
ESCAPES = {
    '"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r",
    "t": "\t",
}  # fmt: skip
DIGITS = "0123456789"


class JSONDecodeError(ValueError):
    """What is wrong, and where: the line and the column, from 1."""

    def __init__(self, message, text, place):
        line = text.count("\n", 0, place) + 1
        column = place - text.rfind("\n", 0, place)
        self.place = f"line {line} column {column} (char {place})"
        super().__init__(f"{message}: {self.place}")


def loads(text):
    """The value that a JSON text holds. Raises: JSONDecodeError, RecursionError."""
    value, end = scan(text, blank(text, 0), 0)
    end = blank(text, end)
    if end != len(text):
        raise JSONDecodeError("Extra data", text, end)
    return value


def blank(text, i):
    """The next place that is no blank."""
    while text[i : i + 1] in (" ", "\n", "\t", "\r"):
        i += 1
    return i


def scan(text, i, depth):
    """(value, where it ends)."""
    first = text[i : i + 1]
    if first == '"':
        return scan_string(text, i + 1)
    if first in ("{", "["):
        if depth > DEEPEST:
            raise RecursionError("maximum recursion depth exceeded")
        return (scan_object if first == "{" else scan_list)(text, i + 1, depth + 1)
    for word, value in WORDS.items():
        if text.startswith(word, i):
            return value, i + len(word)
    return scan_number(text, i)


def scan_object(text, i, depth):
    """An object, after its brace."""
    found, i = {}, blank(text, i)
    if text[i : i + 1] == "}":
        return found, i + 1
    while True:
        if text[i : i + 1] != '"':
            wanted = "Expecting property name enclosed in double quotes"
            raise JSONDecodeError(wanted, text, i)
        name, i = scan_string(text, i + 1)
        i = blank(text, i)
        if text[i : i + 1] != ":":
            raise JSONDecodeError("Expecting ':' delimiter", text, i)
        found[name], i = scan(text, blank(text, i + 1), depth)
        more, i = comma(text, i, "}")
        if not more:
            return found, i


def scan_list(text, i, depth):
    """A list, after its bracket."""
    found, i = [], blank(text, i)
    if text[i : i + 1] == "]":
        return found, i + 1
    while True:
        value, i = scan(text, i, depth)
        found.append(value)
        more, i = comma(text, i, "]")
        if not more:
            return found, i


def comma(text, i, end):
    """(whether more follows, where it goes on)."""
    i = blank(text, i)
    if text[i : i + 1] == end:
        return False, i + 1
    if text[i : i + 1] != ",":
        raise JSONDecodeError("Expecting ',' delimiter", text, i)
    return True, blank(text, i + 1)


def scan_number(text, i):
    """A number: an int, or a float where there is a point or an exponent."""
    start = i
    i += text[i : i + 1] == "-"
    end = digits(text, i)
    if end == i:
        raise JSONDecodeError("Expecting value", text, start)
    i, whole = (i + 1 if text[i] == "0" else end), True
    if text[i : i + 1] == "." and digits(text, i + 1) > i + 1:
        i, whole = digits(text, i + 1), False
    if text[i : i + 1] in ("e", "E"):
        sign = i + 1 + (text[i + 1 : i + 2] in ("+", "-"))
        if digits(text, sign) > sign:
            i, whole = digits(text, sign), False
    return (int if whole else float)(text[start:i]), i


def digits(text, i):
    """Where the digits that start here end."""
    while text[i : i + 1] and text[i] in DIGITS:
        i += 1
    return i


def scan_string(text, i):
    """A string, after its quotation mark."""
    start, parts = i - 1, []
    while True:
        end = i
        while text[end : end + 1] and text[end] not in '"\\' and text[end] >= " ":
            end += 1
        parts.append(text[i:end])
        if end == len(text):
            raise JSONDecodeError("Unterminated string starting at", text, start)
        if text[end] == '"':
            return "".join(parts), end + 1
        if text[end] != "\\":
            raise JSONDecodeError("Invalid control character at", text, end)
        letter = text[end + 1 : end + 2]
        if not letter:
            raise JSONDecodeError("Unterminated string starting at", text, start)
        if letter == "u":
            part, i = scan_code(text, end + 2)
        elif letter in ESCAPES:
            part, i = ESCAPES[letter], end + 2
        else:
            raise JSONDecodeError("Invalid \\escape", text, end)
        parts.append(part)


def scan_code(text, i):
    """A character after \\u: four digits, or twice four for one beyond 65,535."""
    code = four(text, i)
    if 0xD800 <= code < 0xDC00 and text[i + 4 : i + 6] == "\\u":
        low = four(text, i + 6)
        if 0xDC00 <= low < 0xE000:
            return chr(0x10000 + (code - 0xD800) * 0x400 + low - 0xDC00), i + 10
    return chr(code), i + 4


def four(text, i):
    """The number that four hexadecimal digits name."""
    word = text[i : i + 4]
    if len(word) < 4 or not all(c in "0123456789abcdefABCDEF" for c in word):
        raise JSONDecodeError("Invalid \\uXXXX escape", text, i - 1)
    return int(word, 16)


def dumps(value):
    """A value as JSON: what dicts with names, lists, words and numbers are made of."""
    if isinstance(value, dict):
        inside = [f"{dumps(name)}: {dumps(one)}" for name, one in value.items()]
        return f"{{{', '.join(inside)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join([dumps(one) for one in value])}]"
    if isinstance(value, str):
        return f'"{quoted(value)}"'
    words = {None: "null", True: "true", False: "false"}
    plain = value is None or isinstance(value, bool)
    return words[value] if plain else repr(value)


def quoted(text):
    """What stands between the quotation marks."""
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    if all(c >= " " for c in text):
        return text
    return "".join([c if c >= " " else f"\\u{ord(c):04x}" for c in text])
