"""A Content-Security-Policy in every page: what is not the book's own does not load."""

import base64
import hashlib
import re

INLINE = re.compile(
    r"<script\b(?![^>]*\bsrc=)(?![^>]*ld\+json)[^>]*>(.*?)</script>", re.S
)
OLD = re.compile(r'\s*<meta http-equiv="Content-Security-Policy"[^>]*>')
RULES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",  # the theme's own style sheet holds small pictures
    "font-src": "'self'",
    "connect-src": "'self'",  # the search page reads the pages that it found
    "frame-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
}


def digest(script):
    found = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(found).decode()}'"


def policy(page):
    """The policy for a page: inline scripts by their hashes, styles from files."""
    hashes = dict.fromkeys(digest(script) for script in INLINE.findall(page))
    rules = RULES | {"script-src": " ".join([RULES["script-src"], *hashes])}
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def protect(page):
    """The page with its policy, before anything that the policy is about."""
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy(page)}"/>'
    return re.sub(
        r"(<meta charset=[^>]*>)", rf"\1\n    {meta}", OLD.sub("", page), count=1
    )
