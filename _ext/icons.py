"""The theme's icon fonts, cut down to the icons that the pages show.

Font Awesome Free: fonts under the SIL OFL 1.1, icons under CC BY 4.0. The theme would
load 1.4 MB of script to draw a dozen of them.
"""

import logging
import re
from io import BytesIO
from pathlib import Path

from fontTools import subset

FACE = re.compile(r"@font-face\s*\{[^}]*?url\((vendor/fontawesome/[^)]*\.ttf)\)[^}]*\}")
logging.getLogger("fontTools").setLevel(logging.ERROR)  # else a line for each table
CODE = re.compile(r"\\(f[0-9a-f]{3}|e[0-9a-f]{3}|2b|3f|21)\b")


def wanted(css):
    """The characters that the style sheet puts in front of or behind something."""
    written = {ord(sign) for sign in css if "\ue000" <= sign <= "\uf8ff"}
    return written | {int(code, 16) for code in CODE.findall(css)}


def cut(path, characters):
    """A font file (WOFF, compressed) with these characters alone, if it has any."""
    options = subset.Options(flavor="woff", hinting=False, layout_features=[])
    font = subset.load_font(path, options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=characters)
    cutter.subset(font)
    if not font.getBestCmap():
        return None
    out = BytesIO()
    subset.save_font(font, out, options)
    return out.getvalue()


def shrink(css, static):
    """The style sheet with its icon fonts' small twins, which are written beside it."""
    characters = wanted(css)

    def face(match):
        name = f"icons-{Path(match[1]).stem}.woff"
        small = cut(Path(static, match[1]), characters)
        if small is None:
            return ""
        Path(static, name).write_bytes(small)
        return re.sub(r"src:[^;}]*", f'src:url({name}) format("woff")', match[0])

    return FACE.sub(face, css)
