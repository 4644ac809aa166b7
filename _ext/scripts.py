"""Which scripts a page loads: each once, deferred, and only where it has work to do."""

import re

from sphinx.util import logging

SCRIPT = re.compile(r"[ \t]*<script\b([^>]*)>(.*?)</script>\n?", re.S)
SOURCE = re.compile(r'\bsrc="([^"]*)"')

# Never: icons are a font (icons.py), folds are <details> (folds.py), menus are site.js.
NEVER = "fontawesome.js bootstrap.js togglebutton.js sphinx-thebe.js".split()
# Only on a page that contains this.
WHERE = {
    "searchtools.js": 'id="search-results"',
    "language_data.js": 'id="search-results"',
    "searchindex.js": 'id="search-results"',
    "design-tabs.js": "sd-tab-set",
    "clipboard.min.js": 'class="highlight"',
    "copybutton.js": 'class="highlight"',
}
# Inline scripts that the theme and its extensions write, and that nothing here needs.
KNOWN = re.compile(
    r"\s*(DOCUMENTATION_OPTIONS\.|(let|var|const) (toggle|THEBE)|kernelName)"
    r"|.*?dataset\.mode = localStorage|\s*// Activate the search field",
    re.S,
)

# Before the first paint, or a dark page would flash white. The one inline script.
THEME = """<script>(() => {
  let mode = null;
  try { mode = localStorage.getItem("mode"); } catch {}
  const page = document.documentElement.dataset;
  page.mode = ["light", "dark"].includes(mode) ? mode : "auto";
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  page.theme = page.mode === "auto" ? (dark ? "dark" : "light") : page.mode;
})()</script>
"""
# The theme measures all code of a page when it has loaded, and again after each change;
# site.js does it for what comes into sight, and gives it a name.
MEASURED = re.compile(r'\["pre",".nboutput > .output_area"[^\]]*\]')
log = logging.getLogger(__name__)


def choose(page, name=""):
    """The page's HTML with the scripts that it needs."""
    if THEME in page:
        return page
    seen = set()

    def one(match):
        attributes, body = match.groups()
        source = SOURCE.search(attributes)
        if source is None:
            if "application/ld+json" in attributes:
                return match[0]
            if "text/x-thebe" not in attributes and not KNOWN.match(body):
                log.warning("%s: an inline script is left out: %s", name, body[:80])
            return ""
        file = source[1].split("?")[0].rsplit("/", 1)[-1]
        if file in NEVER or file in seen or WHERE.get(file, "") not in page:
            return ""
        seen.add(file)
        rest = re.sub(r'\s(defer|async)(="[^"]*")?', "", attributes).strip()
        return f"    <script defer {rest}></script>\n"

    page = SCRIPT.sub(one, page)
    page = re.sub(r'<link rel="preload" as="script"[^>]*>\n?', "", page)
    page = page.replace(' data-theme="auto"', "", 1)
    return page.replace("</title>", "</title>\n" + THEME, 1)


def loaded(page):
    """The scripts of the site that a page loads, by their paths in _static."""
    return re.findall(r'<script\b[^>]*\bsrc="(?:\.\./)*_static/([^"?]*)', page)


def calm(script):
    """The theme's own script, without what site.js does."""
    script, found = MEASURED.subn('["none"]', script)
    if not found and '["none"]' not in script:
        log.warning("the theme's script has changed: see _ext/scripts.py, MEASURED")
    return script
