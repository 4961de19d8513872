"""Names, tokens and titles from outside are text on the page, whatever they are."""

import json
import re

import numpy as np
import pytest
from test_explorer import data_of
from test_explorer_browser import find, open_page, script, texts

import tinygrad_llm as tg
from tinygrad_llm.explain.explorer.escape import heading, script_json, token_text, visible

HOSTILE = {
    "end of the script": "</script><script>window.hit = 1</script>",
    "end in capitals": "</SCRIPT ><b>",
    "comment and script": "<!--<script>",
    "comment": "<!-- --> ]]> <![CDATA[",
    "image": "<img src=x onerror='window.hit = 1'>",
    "entities and quotes": "&lt;b&gt; \" ' ` ${window.hit = 1}",
    "placeholder of the template": "<!--DATA--><!--SCRIPT-->",
    "right to left": "a\u202etxt.exe\u2066b\u200f",
    "separators of lines": "a\u2028b\u2029c\x00\x1b[31m",
    "backslashes": "\\u003c\\",
    "names that objects have": "constructor",
    "and one more of them": "__proto__",
}


class Words:
    """A tokenizer of whole texts."""

    def __init__(self, texts):
        self.texts = texts
        self.vocab_size = len(texts)

    def decode(self, ids):
        return "".join(self.texts[i] for i in ids)


def page_with(text, folder):
    """A page on which title, module, parameter and tokens are the text."""
    tg.manual_seed(0)
    model = tg.nn.GPT(
        tg.nn.GPTConfig(vocab_size=2, context_length=2, n_layer=1, n_head=1, n_embd=4)
    )
    with tg.trace(values=True) as t:
        model.loss([[0, 1]], [[1, 0]]).backward()
    for leaf in t.leaves:
        leaf.name = text
    for op in t.ops:
        op.scope = op.scope.replace("blocks.0", text)
        if op.name not in ("embedding", "linear_cross_entropy"):  # where the page looks for tokens
            op.name = text
    return tg.explore(t, folder / "x.html", title=text, tokenizer=Words([text, "b"]))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_it_stays_within_its_element(text, tmp_path):
    path = page_with(text, tmp_path)
    page = path.read_text(encoding="utf-8")
    assert data_of(path)["title"] == text
    assert len(re.findall("</script", page, re.I)) == 2
    inside = re.search(r'(?s)id="data">(.*?)</script>', page)[1]
    assert not re.search("[<>&\u2028\u202e]", inside)
    assert "\u202e" not in page


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_it_is_shown_as_it_is(text, tmp_path, browser):
    page = open_page(browser, page_with(text, tmp_path))
    assert script(page, "return window.hit === undefined")
    squeeze = re.compile(r"\s+")
    shown = squeeze.sub(" ", visible(text)).strip()
    assert squeeze.sub(" ", find(page, "#title").text) == shown
    assert page.title == shown
    script(page, "explorer.goTo('leaf', 0)")
    assert squeeze.sub("", find(page, "#detail h2").text) == squeeze.sub("", shown)
    assert find(page, "#text td bdi").text == token_text(text)
    script(
        page,
        "explorer.goTo('op', explorer.data.nodes.findIndex(n => n.name === arguments[0]))",
        text,
    )
    assert squeeze.sub("", find(page, "#detail .path").text).endswith(squeeze.sub("", shown))
    assert any(squeeze.sub(" ", t).startswith(shown[:3]) for t in texts(page, ".row.group .label"))
    assert not page.find_elements("css selector", "img, b b, #detail script")
    assert page.get_log("browser") == []


def test_escapes_can_be_undone():
    for text in HOSTILE.values():
        assert json.loads(script_json({text: [text]})) == {text: [text]}
    with pytest.raises(ValueError, match="JSON"):
        script_json(np.nan)


def test_labels_of_tokens():
    assert [token_text(t) for t in (" ", "\n", "\t", "", " a", "\x00")] == [
        *"·⏎⇥∅",
        "·a",
        r"\u0000",
    ]
    assert heading("<a\u202e&>") == r"&lt;a\u202e&amp;&gt;"
