"""The Python reader in the browser says of a file what Python says of it."""

import http.server
import json
import random
import re
import sys
import threading
from functools import partial

import browser
import built
import pytest

import reader
import reader_json
from attnbook import models
from attnbook.draw.page import answer
from attnbook.models.gallery import FOLDER
from attnbook.models.read import LARGEST, parse, read

FILES = sorted(FOLDER.joinpath("configs").iterdir(), key=lambda file: file.name)
GOOD = dict(model_type="llama", num_hidden_layers=2, hidden_size=64,
            num_attention_heads=4, vocab_size=100)  # fmt: skip


def changed(**fields):
    return json.dumps(GOOD | fields)


HOSTILE = [
    '{"num_hidden_layers":' + "9" * 5_000 + "}",
    "", "{", "null", "[]", "3", '"x"', "{}", "{'a':1}", '{"a":1} x', '{"a" 1}', "[1,2",
    '{"a":1 "b":2}', '{"a":tru}', '{"a":"x', '{"a":"\n"}', '{"a":"\\x"}', "\x00", "-",
    '{"num_hidden_layers":01}', '{"num_hidden_layers":.5}', '{"":{}}', "\ufeff{}",
    '{"num_hidden_layers":1e2}', '{"num_hidden_layers":-0}', '{"a":NaN}',
    '{"num_hidden_layers":1,"num_hidden_layers":2}', "[" * 100_000, '{"a":' * 100_000,
    '{"num_hidden_layers":2,"hidden_size":NaN}', '{"__proto__":{"hidden_size":3}}',
    '{"num_hidden_layers":2,"hidden_size":-Infinity}', "\u00a0{}",
    '{"num_hidden_layers":1,"model_type":"a\\u0000b\\u202e"}', "<script>alert(1)",
    '{"num_hidden_layers":3,"model_type":"\\ud83d\\ude00"}', "__import__('os')",
    '{"constructor":1,"num_hidden_layers":1,"toString":2}',
    changed(hidden_size=-4), changed(hidden_size=0), changed(hidden_size=1.5),
    changed(hidden_size=64.0), changed(hidden_size="64"), changed(hidden_size=True),
    changed(hidden_size=10**30), changed(num_hidden_layers=10**9),
    changed(model_type="new"), changed(model_type=3), changed(model_type=None),
    changed(model_type="<img src=x onerror=alert(1)>"), changed(model_type="patterns"),
    changed(model_type="__class__"), changed(text_config=5), changed(rope_theta=-1),
    changed(rope_theta=1e300), changed(rope_theta="x"), changed(rope_scaling=[1]),
    changed(layer_types=["a", "b"]), changed(layer_types=[1, 2]),
    changed(layer_types=["full_attention"] * 3), changed(sliding_window=[1]),
    changed(head_dim=[2, 3]), changed(attention_bias="yes"),
    changed(num_hidden_layers=300, unknown={"a": [[[]]]}),
]  # fmt: skip


# --- the pieces, in Python ------------------------------------------------------------


def test_answers_are_the_readers_own_words():
    found = json.loads(answer(FILES[0].read_bytes(), "x"))["model"]
    ours = models.export(read(parse(FILES[0].read_bytes()), "x"))
    for name in ("name", "context", "unknown", "notes", "more", "order"):
        assert found[name] == ours[name]
    for group, one in zip(found["groups"], ours["groups"], strict=True):
        assert group.items() <= one.items() and one.keys() - group.keys() == {
            "letter", "keeps",
        }  # fmt: skip
    assert found["card"]["kinds"].keys() == {g["kind"] for g in ours["groups"]}
    for text in HOSTILE:
        said = json.loads(answer(text))
        assert said.keys() in ({"model"}, {"wrong"})
        assert said == json.loads(answer(text.encode()))


def test_the_bundle_has_what_the_reader_imports():
    held = reader.ours()
    for name, (_, source, *_) in held.items():
        for line in source.splitlines():
            words = line.split()
            if words[:1] == ["from"] and words[1].startswith("attnbook"):
                assert words[1] in held, (name, line)
            assert words[:2] != ["import", "numpy"]
    assert "tomllib" not in held["attnbook.models.defaults"][1]


def said(loads, text):
    try:
        return repr(loads(text))
    except RecursionError:
        return "too deep"
    except ValueError as error:
        return str(error)


def test_json_is_read_as_python_reads_it():
    pieces = '{}[]",:\\u0123456789eE.+-tnulrfase NaIify\n\t\x01dD8"""'
    samples = ['{"a": [1, -2.5e3, {"b": "x\\n\\u00e9\\ud83d\\ude00"}], "c": null}',
               "[true,false,NaN,-Infinity,0.5,1E+2]"]  # fmt: skip
    dice = random.Random(1)
    texts = [file.read_text() for file in FILES]
    texts += [text for text in HOSTILE if len(text) < 100_000]
    for _ in range(10_000):
        texts.append("".join(dice.choices(pieces, k=dice.randrange(12))))
        text = dice.choice(samples)
        i = dice.randrange(len(text))
        change = dice.choice(["", dice.choice(pieces)])
        texts.append(text[:i] + change + text[i + dice.randrange(3) :])
    for text in texts:
        ours, theirs = said(reader_json.loads, text), said(json.loads, text)
        if sys.version_info >= (3, 13) and "Illegal trailing comma" in theirs:
            continue  # words that are newer than reader_json
        if not text.startswith("\ufeff"):  # `parse` takes that off
            assert ours == theirs, text
    assert said(reader_json.loads, "[" * 100_000) == "too deep"
    for one in ({'a\n"\\': [1, -2.5, True, None, ("é", "😀")], "b": {}}, [], "x\x01"):
        assert json.loads(reader_json.dumps(one)) == json.loads(json.dumps(one))


# --- the page -------------------------------------------------------------------------

USE = """(() => {
  const at = (name) => document.getElementById(`kv-${name}`);
  const change = (act) => new Promise((done) => {
    at("text-wrong").textContent = "";
    let found = null;
    const hear = ({ data }) => { if (data.found) found = data.found; };
    addEventListener("message", hear);
    act();
    const start = Date.now();
    const look = () => {
      const ready = found ? !at("reading").textContent : at("text-wrong").textContent;
      if (!ready && Date.now() - start < 50000) return setTimeout(look, 10);
      removeEventListener("message", hear);
      setTimeout(() => done({ found, wrong: at("text-wrong").textContent,
        headline: at("headline").textContent, model: at("model").value }), 5);
    };
    setTimeout(look, 5);
  });
  globalThis.paste = (text) => change(() => {
    at("text").value = text;
    at("use").click();
  });
  globalThis.open_ = (name, parts, way) => change(() => {
    const files = new DataTransfer();
    files.items.add(new File(parts, name));
    if (way === "drop") {
      const more = { dataTransfer: files, bubbles: true, cancelable: true };
      at("headline").dispatchEvent(new DragEvent("drop", more));
    } else {
      at("file").files = files.files;
      at("file").dispatchEvent(new Event("change"));
    }
  });
})()"""


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    return built.page(tmp_path_factory.mktemp("reader"), "calculator")


@pytest.fixture(scope="module")
def page(chromium, html):
    """The page from a folder, its reader started by the first text."""
    chromium.size(360)
    chromium.open(html.as_uri())
    chromium.run(USE)
    return chromium


def paste(page, text):
    """What became of a text."""
    return page.run(f"paste({json.dumps(text)})")


def asked(page):
    return [p["request"]["url"] for name, p in page.events
            if name == "Network.requestWillBeSent"]  # fmt: skip


@browser.needed
def test_nothing_is_loaded_before_something_is_pasted(page):
    assert not any("brython" in url or "modules.js" in url for url in asked(page))
    assert page.run("document.querySelector('iframe')") is None


@browser.needed
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_file_is_read_as_python_reads_it(page, file):
    raw = file.read_bytes()
    seen = paste(page, raw.decode())
    assert json.loads(seen["found"]) == json.loads(answer(raw)) and not seen["wrong"]
    found = read(parse(raw))
    total = models.words.human(models.ledger(found, 131_072).total_bytes)
    start = f"{found.name} (pasted), 1 text of 131,072 tokens in bf16: {total}"
    assert re.sub(r"\(pasted \d+\)", "(pasted)", seen["headline"]) == start
    assert page.run("document.activeElement.id") == "kv-model"


@browser.needed
@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_field_is_not_read(page, text):
    seen = paste(page, text)
    assert seen["wrong"].startswith("There is nothing to read") and not seen["found"]


@browser.needed
@pytest.mark.parametrize("text", [*filter(None, HOSTILE)], ids=lambda text: text[:30])
def test_hostile_texts(page, text):
    before = page.run("document.getElementById('kv-headline').textContent")
    seen = paste(page, text)
    expected = json.loads(answer(text))
    assert json.loads(seen["found"]) == expected
    assert seen["wrong"] == expected.get("wrong", "")
    if "wrong" in expected:
        assert seen["headline"] == before
    else:
        assert seen["headline"].startswith(f"{expected['model']['name']} (pasted")
    assert page.run("document.querySelector('.kv :is(img, script)')") is None


@browser.needed
def test_two_pasted_models_of_one_type_have_two_names(page):
    for _ in range(2):
        paste(page, changed(model_type="twice"))
    names = page.run("[...document.getElementById('kv-model')].map((x) => x.text)")
    assert names[:2] == ["twice (pasted 2)", "twice (pasted)"]


@browser.needed
def test_a_model_that_is_not_known_is_marked(page):
    paste(page, changed(model_type="<b>new</b>"))
    notes = page.run("document.getElementById('kv-notes').textContent")
    assert "'<b>new</b>': not known, read as far as its fields say" in notes
    card = page.run("document.querySelector('.kv-card').textContent")
    assert "Model type <b>new</b> is not known here" in card
    assert page.run("document.querySelector('.kv-card b')") is None
    assert page.run("document.scrollingElement.scrollWidth") <= 360


@browser.needed
def test_too_much_is_not_read(page):
    large = json.loads(answer(b" " * (LARGEST + 1)))["wrong"]
    many = f"paste(' '.repeat({LARGEST + 1}))"
    for act in (many, "open_('a.json', [new Uint8Array(1e8)])"):
        seen = page.run(act)
        assert seen["wrong"] == large and seen["found"] is None


@browser.needed
@pytest.mark.parametrize("way", ["open", "drop"])
def test_files_are_opened_and_dropped(page, way):
    text = changed(model_type="llama")
    for name, shown in (("a--Some-1B.json", "Some-1B"), ("config.json", "llama")):
        act = f"open_({name!r}, [{json.dumps(text)}], {way!r})"
        assert page.run(act)["headline"].startswith(f"{shown} (pasted")
    seen = page.run(f"open_('a.json', [new Uint8Array([123, 255])], {way!r})")
    assert seen["wrong"] == "config: got bytes that are no text in UTF-8"


@browser.needed
def test_a_key_is_enough_to_paste(page):
    page.run("document.getElementById('kv-paste').open = true")
    page.run("document.getElementById('kv-text').value = ''")
    page.run("document.getElementById('kv-text').focus()")
    page.type(changed(model_type="gpt2"))
    page.press("Tab", 9)
    page.press("Enter", 13, "\r")
    page.run("new Promise((done) => setTimeout(done, 1500))")
    seen = page.run("document.getElementById('kv-headline').textContent")
    assert seen.startswith("gpt2 (pasted")


@browser.needed
def test_all_of_it_came_from_the_folder_and_nothing_went_wrong(page):
    assert any("brython.js" in url for url in asked(page))
    assert all(url.startswith(("file:", "data:")) for url in asked(page))
    thrown = [p for name, p in page.events if name == "Runtime.exceptionThrown"]
    logged = [p["entry"] for name, p in page.events if name == "Log.entryAdded"]
    assert not thrown and not [e for e in logged if e["level"] == "error"]
    spoken = [p for name, p in page.events if name == "Runtime.consoleAPICalled"]
    assert not [p for p in spoken if p["type"] in ("error", "warning")]


@browser.needed
def test_served_too(page, html):
    site = partial(Quiet, directory=html.parent.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.open(f"http://127.0.0.1:{server.server_port}/book/calculator.html")
        page.run(USE)
        seen = paste(page, FILES[3].read_text())
        server.shutdown()
    assert json.loads(seen["found"]) == json.loads(answer(FILES[3].read_bytes()))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        """Say nothing."""
