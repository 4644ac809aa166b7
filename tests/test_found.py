"""Pages are found and cited: previews and a sitemap with an address, BibTeX always."""

import shutil
from xml.etree import ElementTree

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

import notebooks

SITE = "https://example.org/book/"
PAGE = """# One & all

What attention is, in a sentence that is long enough to describe the page.

```{math}
:label: eq-self-rope
a = b
```
"""


@pytest.fixture
def site(tmp_path):
    """A function that builds a site of two pages with, or without, an address."""
    (tmp_path / "conf.py").write_text(
        "project = 'Attention'\nextensions = ['myst_nb', 'found']\n"
        "nb_execution_mode = 'off'\n"
    )
    shutil.copy(notebooks.ROOT / "CITATION.cff", tmp_path)
    (tmp_path / "index.md").write_text("# Home\n\n```{toctree}\none\n```\n")
    (tmp_path / "one.md").write_text(PAGE)

    def build(address):
        out = tmp_path / f"out{len(address)}"
        settings = {"html_baseurl": address}
        with docutils_namespace():  # what this Sphinx registers ends with it
            Sphinx(tmp_path, tmp_path, out, out / "trees", "html", settings,
                   status=None, warning=None).build()  # fmt: skip
        return out

    return build


def test_without_an_address_there_is_no_link_to_nowhere(site):
    out = site("")
    page = (out / "one.html").read_text()
    assert "og:url" not in page and "canonical" not in page
    assert not (out / "sitemap.xml").exists()


def test_with_an_address_previews_have_a_picture_and_all_pages_are_listed(site):
    out = site(SITE)
    page = (out / "one.html").read_text()
    assert f'<link rel="canonical" href="{SITE}one.html"' in page
    assert f'property="og:url" content="{SITE}one.html"' in page
    assert f'property="og:image" content="{SITE}_images/social_previews/' in page
    (picture,) = out.rglob("summary_one_*.png")
    assert picture.stat().st_size > 1000
    places = {e.text for e in ElementTree.parse(out / "sitemap.xml").iter() if e.text}
    assert {f"{SITE}one.html", f"{SITE}index.html"} <= places
    assert f"url = {{{SITE}one.html}}" in page


def test_a_page_says_how_to_cite_it(site):
    out = site("")
    page = (out / "one.html").read_text()
    assert "@incollection{attnbook:one," in page and "title = {One &amp; all}" in page
    assert "Cite this page" not in (out / "index.html").read_text()


def test_the_search_knows_the_names_of_formulas(site):
    index = (site("") / "searchindex.js").read_text()
    assert '"rope"' in index or "rope:" in index
