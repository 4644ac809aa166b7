"""Every page as its reader meets it: in Chromium, on a phone, in the light and in the
dark, by keyboard and with a screen reader. Nothing here depends on how fast that is.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit

import browser
import built
import pytest

import audit
import editions
import notebooks

CONTENTS = (notebooks.ROOT / "_toc.yml").read_text(encoding="utf-8")
BOOK = [f"{name}.html" for name in re.findall(r"(?:file|root): (\S+)", CONTENTS)]
CHAPTER = next(name for name in BOOK if "/01_" in name)
MADE = ["search.html", "genindex.html"]
PAGES = [*BOOK, *MADE]
for language in editions.languages(notebooks.ROOT):
    translated = editions.translated(notebooks.ROOT, language)
    PAGES += [
        f"{language}/{name}" for name in [*(f"{n}.html" for n in translated), *MADE]
    ]
ENTRANCES = {
    "index.html",
    *(f"{name}/index.html" for name in editions.languages(notebooks.ROOT)),
}
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
LIMIT = 700_000  # bytes of a page, compressed, with all its figures and without fonts

# What a reader does: down the page, every fold open.
READ = """(async () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  for (let y = 0; y < document.documentElement.scrollHeight; y += 1200) {
    scrollTo(0, y);
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 25)));
  }
  scrollTo(0, 0);
})()"""
AUDIT = """axe.run(document, {resultTypes: ["violations"], %s}).then((found) =>
  found.violations.map((one) => [one.id, one.nodes.length, ...one.nodes.slice(0, 3)
    .map((node) => node.target + ": " + node.failureSummary)]))"""
OUTSIDE = """[document.documentElement,
    ...document.querySelectorAll("section > section")]
  .filter((part) => part.scrollWidth > part.clientWidth + 1)
  .map((part) => part.id || part.tagName)"""
UNREACHED = """[...document.querySelectorAll(
    ".bd-article :is(pre, .math, .cell_output, .pst-scrollable-table-container)")]
  .filter((part) => part.scrollWidth > part.clientWidth && part.clientWidth > 0)
  .filter((part) => part.checkVisibility())  // a closed fold is measured when it opens
  .filter((part) => part.tabIndex !== 0 || !part.getAttribute("aria-label"))
  .map((part) => part.className + ": " + part.textContent.slice(0, 60))"""
UNSPOKEN = """[...document.querySelectorAll("svg.formula")]
  .filter((picture) => !picture.nextElementSibling?.querySelector("math")?.textContent)
  .map((picture) => picture.parentElement.outerHTML.slice(0, 200))"""
HEADINGS = """[...document.querySelectorAll("main :is(h1, h2, h3, h4, h5, h6)")]
  .filter((heading) => heading.checkVisibility())
  .map((heading) => +heading.tagName[1])"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return built.site(tmp_path_factory)


@pytest.fixture(scope="module")
def root(site):
    """The site's address, on a path of the server's, compressed as a host would."""
    server = audit.serve(site.parent)
    yield f"http://127.0.0.1:{server.server_port}/{site.name}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def reader(chromium):
    """A browser on a small phone, in the light."""
    chromium.size(360)
    theme(chromium, "light")
    return chromium


def theme(reader, name):
    feature = dict(name="prefers-color-scheme", value=name)
    reader.call("Emulation.setEmulatedMedia", media="", features=[feature])
    reader.run(WAIT)


WAIT = "new Promise((done) => setTimeout(done, 200))"


def complaints(events):
    """What the console, the network and the site's policy had to say against a page."""
    bad = ("error", "warning")
    for method, said in events:
        entry = said.get("entry", {})
        if method == "Runtime.exceptionThrown":
            yield str(said["exceptionDetails"])[:500]
        if method == "Runtime.consoleAPICalled" and said["type"] in bad:
            yield str(said["args"])[:500]
        if method == "Log.entryAdded" and entry["level"] in bad:
            yield entry["text"] + " " + entry.get("url", "")


def weight(events):
    """Bytes that came over the network for a page, without fonts."""
    fonts = {
        said["requestId"]
        for method, said in events
        if method == "Network.responseReceived" and said["type"] == "Font"
    }
    return sum(
        said["encodedDataLength"]
        for method, said in events
        if method == "Network.loadingFinished" and said["requestId"] not in fonts
    )


def test_no_page_is_forgotten(site):
    found = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {name for name in found if "_static/" not in name} == {*PAGES, *ENTRANCES}


@browser.needed
@pytest.mark.parametrize("page", PAGES)
def test_page(reader, root, page):
    reader.call("Network.clearBrowserCache")
    reader.open(root + page)
    reader.run(READ)

    assert not list(complaints(reader.events))
    asked = [e["request"]["url"] for m, e in reader.events
             if m == "Network.requestWillBeSent"]  # fmt: skip
    host = urlsplit(root).netloc
    assert not [u for u in asked if urlsplit(u).netloc != host and u[:5] != "data:"]
    assert weight(reader.events) < LIMIT

    assert not reader.run(OUTSIDE), "wider than a phone"
    assert not reader.run(UNREACHED), "scrolls, and Tab does not reach it"
    assert not reader.run(UNSPOKEN), "a formula without words"
    assert r"\(" not in reader.run("document.querySelector('main').innerText")
    levels = reader.run(HEADINGS)
    assert levels[:1] == [1] and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False)), levels

    reader.run(AXE.read_text(encoding="utf-8") + "; 0")
    assert not reader.run(AUDIT % "")
    theme(reader, "dark")
    assert reader.run("document.documentElement.dataset.theme") == "dark"
    assert not reader.run(AUDIT % 'runOnly: ["color-contrast"]')
    assert not list(complaints(reader.events))


@browser.needed
def test_formulas_are_in_the_accessibility_tree(reader, root):
    reader.size(1280, 20_000)  # what is far from the window has no words yet
    reader.open(root + "book/notation.html")
    reader.run(WAIT)
    nodes = reader.call("Accessibility.getFullAXTree")["nodes"]
    found = [n for n in nodes if n.get("role", {}).get("value") == "MathMLMath"]
    assert len(found) == reader.run("document.querySelectorAll('svg.formula').length")
    assert found


@browser.needed
def test_the_first_tab_skips_to_the_text(reader, root):
    reader.size(1280)
    reader.open(root + CHAPTER)
    reader.press("Tab", 9)
    assert reader.run("document.activeElement.hash") == "#main-content"
    reader.run(WAIT)
    box = "document.activeElement.getBoundingClientRect()"
    assert reader.run(f"{box}.top >= 0 && {box}.height > 0")


@browser.needed
def test_the_focus_is_seen(reader, root):
    """Twenty steps of Tab from the text on, each with an outline or a shadow."""
    reader.size(1280)
    reader.open(root + CHAPTER)
    reader.run("location.hash = '#main-content'")
    for _ in range(20):
        reader.press("Tab", 9)
        style = reader.run(
            "(({outlineStyle, boxShadow}) => [outlineStyle, boxShadow])"
            "(getComputedStyle(document.activeElement))"
        )
        ring = style != ["none", "none"]
        assert ring, reader.run("document.activeElement.outerHTML.slice(0, 200)")


@browser.needed
def test_menus_themes_and_search_work(reader, root):
    reader.size(1280)
    reader.open(root + CHAPTER)
    button = "document.querySelector('.dropdown-download-buttons button')"
    menu = "document.querySelector('.dropdown-download-buttons .dropdown-menu')"
    reader.run(f"{button}.click()")
    assert reader.run(f"{menu}.checkVisibility()")
    assert reader.run(f"{button}.getAttribute('aria-expanded')") == "true"
    reader.press("Escape", 27)
    assert not reader.run(f"{menu}.checkVisibility()")

    modes = []
    for _ in range(3):
        reader.run("document.querySelector('.theme-switch-button').click()")
        modes.append(reader.run("document.documentElement.dataset.mode"))
    assert sorted(modes) == ["auto", "dark", "light"] and modes[-1] == "auto"

    reader.run("document.querySelector('.search-button__button').click()")
    assert reader.run("document.querySelector('#pst-search-dialog').open")
    reader.open(root + "search.html?q=softmax")
    found = "document.querySelectorAll('#search-results li').length"
    for _ in range(50):
        if reader.run(found) >= 3:
            break
        reader.run(WAIT)
    assert reader.run(found) >= 3
    assert not list(complaints(reader.events))


@browser.needed
def test_a_link_opens_the_fold_that_it_leads_to(reader, root):
    reader.open(root + CHAPTER)
    fold = "document.querySelector('details.solution')"
    assert not reader.run(f"{fold}.open")
    reader.run(f"location.hash = {fold}.id")
    reader.run(WAIT)
    assert reader.run(f"{fold}.open")


@browser.needed
def test_paper_shows_solutions_and_no_navigation(reader, root):
    reader.open(root + CHAPTER)
    reader.call("Emulation.setEmulatedMedia", media="print")
    seen = "[...document.querySelectorAll('%s')].some((part) => part.checkVisibility())"
    for hidden in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-footer",
                   ".copybtn", ".headerlink", ".skip-link"):  # fmt: skip
        assert not reader.run(seen % hidden), hidden
    assert reader.run(seen % "h1")
    closed = (
        "[...document.querySelectorAll('details')].filter((fold) => "
        "![...fold.children].at(-1).checkVisibility({contentVisibilityAuto: true}))"
        ".length"
    )
    assert reader.run(closed) == 0


@browser.needed
def test_the_folder_opens_without_a_server(reader, site):
    """Styles, scripts, icons and figures from files: the policy lets them."""
    for page in (CHAPTER, "book/index.html"):
        reader.open((site / page).as_uri())
        reader.run(READ)
        assert not list(complaints(reader.events))
        assert reader.run("document.querySelectorAll('.copybtn').length")
        assert reader.run("[...document.fonts].some((one) => one.status === 'loaded')")
        assert reader.run("getComputedStyle(document.body).margin") == "0px"
        assert reader.run("[...document.images].some((image) => image.naturalWidth)")


@browser.needed
def test_the_marks_of_a_search_can_be_taken_away(reader, root):
    reader.open(root + "book/glossary.html?highlight=latent")
    marks, away = (
        f"document.querySelectorAll('{what}').length"
        for what in ("span.highlighted", ".highlight-link a")
    )
    for _ in range(50):
        if reader.run(marks) and reader.run(away):
            break
        reader.run(WAIT)
    assert reader.run(marks) > 3 and reader.run(away) == 1
    reader.run("document.querySelector('.highlight-link a').click()")
    reader.run(WAIT)
    assert reader.run(marks) == reader.run(away) == 0
    assert not list(complaints(reader.events))


@browser.needed
def test_the_words_of_a_search_are_not_under_its_sign(reader, root):
    reader.open(root + "search.html")
    inset = reader.run(
        "(() => { const field = document.querySelector('main .bd-search input');"
        " const sign = field.closest('form').querySelector('svg, i');"
        " return field.getBoundingClientRect().left"
        " + parseFloat(getComputedStyle(field).paddingLeft)"
        " - sign.getBoundingClientRect().right; })()"
    )
    assert inset >= 0


@browser.needed
def test_a_search_without_a_server_shows_excerpts(reader, site):
    reader.open((site / "search.html").as_uri() + "?q=softmax")
    shown = "[...document.querySelectorAll('#search-results li p')]"
    shown += ".map((p) => p.innerText)"
    for _ in range(50):
        if len(found := reader.run(shown)) >= 3:
            break
        reader.run(WAIT)
    assert len(found) >= 3 and all("softmax" in text.lower() for text in found)
    assert not list(complaints(reader.events))


@browser.needed
def test_the_entrance_leads_to_the_landing_page(reader, root):
    reader.open(root)
    for _ in range(50):
        if reader.run("location.href").endswith("/book/index.html"):
            break
        reader.run(WAIT)
    assert reader.run("location.href") == root + "book/index.html"
