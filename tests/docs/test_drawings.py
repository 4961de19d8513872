"""The drawings are what their script draws, and name parameters that a GPT has."""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))
import drawings  # noqa: E402

import tinygrad_llm as tg  # noqa: E402


@pytest.mark.parametrize(("file", "text"), drawings.draw().items())
def test_a_drawing_is_as_its_script_draws_it(file, text):
    assert (DOCS / "images" / file).read_text(encoding="utf-8") == text
    ElementTree.fromstring(text)


def test_layers_have_the_names_of_the_model():
    model = tg.nn.GPT(tg.nn.GPTConfig(8, 4, n_layer=2, n_head=1, n_embd=4))
    known = " ".join(name for name, _ in model.named_modules())
    drawn = re.findall(
        r'class="name"[^>]*>([a-z_]+[.\d][\w.]*)<', "".join(drawings.draw().values())
    )
    assert len(drawn) >= 5
    assert [name for name in drawn if name not in known] == []
