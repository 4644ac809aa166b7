"""Where a configuration comes from: a file, a pipe, the gallery or the hub."""

import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from attnbook.check import expect
from attnbook.models.fields import shown
from attnbook.models.gallery import find
from attnbook.models.read import LARGEST, parse, read


def load(source):
    """The `Architecture` of a model.

    Args: source, a path, a folder that holds config.json, "-" for standard input, a
    model of the gallery ("openai/gpt-oss-120b", "gpt-oss 120B"), or any publisher/name,
    which is looked up on the Hugging Face hub.
    Raises: ValueError that says what is wrong with the source or the file.
    """
    source = str(source)
    if source == "-":
        return read(parse(sys.stdin.buffer.read(LARGEST + 1)), "standard input", "-")
    path = Path(source)
    if there(path):
        path = path / "config.json" if path.is_dir() else path
        return read(parse(content(path)), name_of(path), str(path))
    row = find(source)
    if row is not None:
        return row.architecture
    return from_hub(source)


def there(path):
    """Whether a path exists; names that no file can have do not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def name_of(path):
    """What to call the model in a file: by its name or its folder; a pipe has none."""
    if not path.is_file():
        return None
    name = path.resolve().parent.name if path.name == "config.json" else path.stem
    return name.split("--")[-1]


def content(path):
    """The bytes of a file, not more than are allowed and one. Raises: ValueError."""
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"config: got {path}, {reason}") from error


def from_hub(name):
    """Fetch publisher/name's config.json with huggingface_hub.

    Raises: ValueError if it is no such name, the library is missing, or there is no
    network or no such model.
    """
    parts = name.split("/")
    good = len(parts) == 2 and all(parts) and not name.startswith((".", "~"))
    expect(good, "config", shown(name),
           "a file, a folder with config.json, -, a name of the gallery "
           "(attnbook list), or publisher/name")  # fmt: skip
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise ValueError(
            f"config: got {shown(name)}, no file and not in the gallery; to look it up "
            "on the hub, install huggingface_hub"
        ) from None
    try:
        path = hf_hub_download(name, "config.json", local_files_only=not reachable())
    except Exception as error:  # the library raises many kinds, also for no network
        raise ValueError(
            f"config: got {shown(name)}, no file, not in the gallery, and not fetched "
            f"from the hub ({type(error).__name__}): check the name and the network"
        ) from error
    return read(parse(content(Path(path))), parts[1], f"huggingface.co/{name}")


def reachable():
    """Whether the hub answers: asked first, since the library tries again for long.

    Behind a proxy it is not asked, and held to be there.
    """
    if getproxies():
        return True
    host = urlsplit(os.environ.get("HF_ENDPOINT", "")).hostname or "huggingface.co"
    try:
        socket.create_connection((host, 443), timeout=5).close()
    except OSError:
        return False
    return True
