"""One SVG of a chapter becomes two: its ink and text darker for a white page, lighter
for a dark one. The page holds both, and the theme shows one.
"""

import re
from pathlib import Path

INK = "#7a7a7a"
PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]
PAGE = {"light": ("#ffffff", "#000000"), "dark": ("#121212", "#ffffff")}
IMAGE = re.compile(r"<img\b[^>]*?\bsrc=\"([^\"]*_images/([^\"/]+\.svg))\"[^>]*?>")
TEXT = re.compile(r'(<g style="fill: )(#[0-9a-f]{6})(?=" transform="translate)')


def _rgb(colour):
    return bytes.fromhex(colour.removeprefix("#"))


def luminance(colour):
    """Relative luminance of "#rrggbb", as WCAG 2.2 defines it."""
    parts = [part / 255 for part in _rgb(colour)]
    parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one, two):
    low, high = sorted([luminance(one), luminance(two)])
    return (high + 0.05) / (low + 0.05)


def readable(colour, theme, ratio):
    """The colour, moved towards black or white until it stands out by `ratio`."""
    page, towards = PAGE[theme]
    channels = list(zip(_rgb(colour), _rgb(towards), strict=True))
    for step in range(101):
        mixed = "#" + "".join(f"{a + (b - a) * step // 100:02x}" for a, b in channels)
        if contrast(mixed, page) >= ratio:
            return mixed
    return towards


def recolour(svg, theme):
    """A figure for one theme: text reaches 4.5:1 (ink 7:1), all other marks 3:1."""
    colours = {c: (readable(c, theme, 3), readable(c, theme, 4.5)) for c in PALETTE}
    colours[INK] = (readable(INK, theme, 7),) * 2

    def text(match):
        colour = match[2].lower()
        return match[1] + colours.get(colour, (0, match[2]))[1]

    svg = TEXT.sub(text, svg)
    for colour, (mark, _) in colours.items():
        svg = re.sub(colour, mark, svg, flags=re.I)
    return svg


def size_of(svg):
    """Width and height in CSS pixels, from the opening tag."""
    tag = re.search(r"<svg\b[^>]*>", svg)[0]
    found = [
        re.search(rf'\b{name}="([\d.]+)(pt|px)?"', tag) for name in ("width", "height")
    ]
    if None in found:
        return ""
    pixels = [round(float(m[1]) * (4 / 3 if m[2] == "pt" else 1)) for m in found]
    return 'width="{}" height="{}"'.format(*pixels)


def two_themes(body, builder):
    """The page's HTML with each figure twice, both files written."""
    sources = {name: source for source, name in builder.images.items()}
    folder = Path(builder.outdir, builder.imagedir)

    def both(match):
        url, name = match.groups()
        if name not in sources:
            return match[0]
        svg = Path(builder.srcdir, sources[name]).read_text(encoding="utf-8")
        if INK not in svg.lower():
            return match[0]
        folder.mkdir(parents=True, exist_ok=True)
        alt = re.search(r'\balt="[^"]*"', match[0])[0]
        images = []
        for theme in PAGE:
            twin = f"{Path(name).stem}-{theme}.svg"
            (folder / twin).write_text(recolour(svg, theme), encoding="utf-8")
            images.append(
                f'<img class="only-{theme}" src="{url.removesuffix(name)}{twin}" '
                f'{alt} {size_of(svg)} loading="lazy" decoding="async"/>'
            )
        return "".join(images)

    return IMAGE.sub(both, body)
