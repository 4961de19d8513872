"""The formulas on the site: every one of the derivations is typeset, and no code is."""

import inspect
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tinygrad_llm.autograd.registry import OPS

pytest.importorskip("markdown")  # the extra docs
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
from formulas import Formulas  # noqa: E402

from tinygrad_llm.explain.typeset.blocks import inline, typeset  # noqa: E402
from tinygrad_llm.explain.typeset.mathml import mathml  # noqa: E402

PAGES = [*sorted((ROOT / "docs" / "derivations").glob("*.md")), ROOT / "docs/write_your_own_op.md"]


def blocks(text):
    """The indented blocks of a page or docstring, without the indentation."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    for block in re.findall(r"(?:^    .*(?:\n|$))+", text, re.M):
        yield "\n".join(line[4:] for line in block.rstrip().split("\n"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_formula_of_a_page_is_typeset(page):
    found = [b for b in blocks(page.read_text(encoding="utf-8")) if not b.startswith("python ")]
    left = [block for block in found if typeset(block) is None]
    assert not left, "new names belong into NAMES of explain/typeset/mathml.py"
    for block in found:
        ElementTree.fromstring(typeset(block))  # well-formed


def test_the_derivations_of_the_ops_are_typeset():
    docstrings = {inspect.getdoc(getattr(call, "__self__", call)) or "" for call in OPS.values()}
    formulas = [
        block
        for text in docstrings
        for block in blocks(re.split(r"\n(?:Args|Raises|Returns):", text)[0])
        if "=" in block
    ]
    assert len(formulas) > 60
    left = [block for block in formulas if typeset(block) is None]
    assert len(left) <= 3, left  # those that are calls, such as einsum("ik,jk->ij", dy, b)


def test_code_stays_code():
    code = [
        "x = tg.tensor([1.0, 2.0])",
        "tinygrad-llm train --preset tiny",
        "for each step:\n    loss = compute_loss(batch)",
        "pending[node] = sum of the gradients that have arrived",
        "weights: (V,) or (B, V), at least 0",
        "x = 3  # a comment",
    ]
    assert [block for block in code if typeset(block)] == []


def text_of(line):
    return "".join(ElementTree.fromstring(mathml(line)).itertext())


def count(line, tag):
    return len(list(ElementTree.fromstring(mathml(line)).iter(tag)))


def test_a_fraction_takes_the_product_before_it():
    top, below = next(ElementTree.fromstring(mathml("a b / c")).iter("mfrac"))
    assert ("".join(top.itertext()), "".join(below.itertext())) == ("ab", "c")


def test_a_derivative_takes_one_factor():
    top, below = next(ElementTree.fromstring(mathml("a dy / dx_j")).iter("mfrac"))
    assert ("".join(top.itertext()), "".join(below.itertext())) == ("dy", "dxj")


def test_what_follows_a_fraction_stands_beside_it():
    top, below = next(ElementTree.fromstring(mathml("x/2 (1 + u)")).iter("mfrac"))
    assert ("".join(top.itertext()), "".join(below.itertext())) == ("x", "2")


def test_a_sum_below_a_bar_takes_all_that_is_summed():
    top, below = next(ElementTree.fromstring(mathml("a / sum_j b c + d")).iter("mfrac"))
    assert ("".join(top.itertext()), "".join(below.itertext())) == ("a", "∑jbc")


def test_brackets_around_a_whole_fraction_side_are_left_out():
    assert text_of("(a + b) / (c + d)") == "a+bc+d"
    assert text_of("(a) b / c") == "(a)bc"


def test_signs():
    assert text_of("xhat rstd") == "x^rstd"
    assert count("sum over j of e^(x_j)", "munder") == 1
    assert count("sum_j y_j", "munder") == 1
    assert text_of("eps <= -inf") == "ε≤−∞"
    assert text_of("<a, b>") == "⟨a,b⟩"
    assert count("sqrt(v + eps)", "msqrt") == 1


def test_what_is_no_formula_is_said():
    for line in ("a ? b", "a_(b", "x^"):
        with pytest.raises(ValueError):
            mathml(line)


def test_the_page_gets_tables_and_inline_formulas():
    import markdown

    html = markdown.markdown(
        "For x_j, top_k, `x_j`, layer_norm:\n\n    y_j = 2 x_j  dx = 2 dy\n\n    x = tg.f(y)\n",
        extensions=[Formulas()],
    )
    assert html.count('<table class="formulas">') == 1
    assert html.count("<msub>") == 3  # one within the sentence, two in the block
    assert "<code>x_j</code>" in html
    assert "top_k" in html
    assert "layer_norm" in html
    assert "x = tg.f(y)" in html


def test_a_paragraph_that_is_one_formula_is_set_like_a_block():
    import markdown

    def tables(text):
        return markdown.markdown(text, extensions=[Formulas()]).count("<table")

    assert tables("y = tanh x = (e^x - e^-x) / (e^x + e^-x)\n\nBy the quotient rule:") == 1
    assert tables("y = n g + b is a product and a sum.") == 0
    assert tables("y = n g + b is a product\nand a sum") == 0
    assert tables("dxhat = dy weight\ndx    = rstd dxhat") == 1
    assert tables("y_i = e^(x_i) / sum_j e^(x_j)") == 1


def test_a_short_row_does_not_widen_the_columns_of_others():
    html = typeset("a = b        c = d        e = f\ng = h + i + j + k")
    assert 'colspan="3"' in html


def test_a_power_stands_behind_bars():
    assert count("|C - B A|^2", "msup") == 1
    assert "^" not in text_of("l2/2 |w|^2")


def test_a_hyphen_between_words_is_no_minus():
    assert text_of("log-ratio of a") == "log-ratioofa"
    assert text_of("a-b") == "a−b"


def test_names_of_arguments_are_no_formulas():
    assert [name for name in ("min_lr", "BLOCK_M", "d_in", "top_k") if inline(name)] == []
    assert inline("logits_j")
    assert inline("W_o")
