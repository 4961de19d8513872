"""`explain` works for every op, from the op's own code, and its checks are alive."""

import inspect
from pathlib import Path

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.__main__ import main
from tinygrad_llm.autograd.registry import REGISTRY, Op, Proof
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.explain.op.call import live_check
from tinygrad_llm.explain.op.curve import curves, svg_plot, text_plot
from tinygrad_llm.explain.op.page import Explanation, split_docstring

OPS = pytest.mark.parametrize("op", REGISTRY.values(), ids=lambda op: op.name)


@OPS
def test_every_op(op):
    page = tg.explain(op.name)
    text = str(page)
    assert op.doc.partition("\n")[0] in text
    for method in ("forward", "backward"):
        first = inspect.getsource(getattr(op.function, method)).strip().splitlines()[0]
        assert first in text
    assert f"Code: tinygrad_llm/ops/{Path(inspect.getfile(op.function)).name}\n" in text + "\n"
    titles = [s.title for s in page.sections]
    assert {"Formula", "Shapes", "Forward", "Backward", "Example"} <= set(titles)
    assert ("Plot" in titles) == op.one_variable
    check = next(s.text for s in page.sections if s.title.startswith("Gradient check"))
    assert "WRONG" not in check
    assert "MISSED" not in check
    assert op.doc.partition("\n")[0].split("  ")[0] in page._repr_markdown_()
    assert ("<svg" in page._repr_html_()) == op.one_variable


@OPS
def test_the_example_agrees_with_a_slope_taken_by_hand(op):
    line = str(tg.explain(op.name)).partition("By hand")[2].partition("\n")[2].splitlines()[0]
    slope, gradient = (float(part.rpartition("=")[2]) for part in line.split("     "))
    assert gradient == pytest.approx(slope, abs=1e-5)
    assert abs(gradient) > 0.01, "0 = 0 would show nothing"


def test_helpers_are_shown_and_checks_are_not():
    text = str(tg.explain("layer_norm"))
    assert "def layer_norm_backward" in text
    assert "def check_affine" not in text
    assert "def gelu_tanh_forward" in str(tg.explain("gelu")), "found through the table of forms"
    assert "def unbroadcast" in str(tg.explain("add"))
    attention = str(tg.explain("scaled_dot_product_attention"))
    assert "def attention_forward(" in attention
    assert "def attention_backward(" in attention, "it returns None, but is no check"
    assert "def as_ids" not in str(tg.explain("cross_entropy")), "it raises errors: a check"


def test_what_forward_has_shown_is_named_below_backward():
    text = str(tg.explain("scaled_dot_product_attention"))
    assert text.count("def masked_scores(") == 1
    backward = text.partition("\nBackward\n")[2].partition("\nExample\n")[0]
    assert "# see above: " in backward
    assert "masked_scores" in backward.rpartition("# see above: ")[2]
    assert "# see above" not in str(tg.explain("tanh"))


def test_kernel_source_is_folded():
    page = tg.explain("softmax")
    kernel = page.sections[-1]
    assert kernel.title == "Triton kernel: kernels/softmax_kernel.py"
    assert "@triton.jit" in kernel.text
    assert "@triton.jit" in page._repr_html_().rpartition("<details><summary>")[2]
    assert "@triton.jit" not in str(page), "a page to read begins and ends with the mathematics"
    assert "Triton kernel: kernels/softmax_kernel.py" in str(page)


def test_a_kernel_of_several_files_is_shown_too():
    forward, backward = tg.explain("attention_qkv").sections[-2:]
    assert forward.title == "Triton kernel: kernels/attention_kernel/forward.py"
    assert "@triton.jit" in forward.text
    assert "@triton.jit" in backward.text


def test_a_wrong_backward_is_reported():
    right = REGISTRY["tanh"]
    broken = type("Broken", (right.function,), {"backward": lambda ctx, dy: dy, "name": "tanh"})
    not_wrong = {"right one": right.function.backward}
    text = live_check(Op("tanh", "test", broken, Proof(right.samples, not_wrong)))
    assert "WRONG" in text
    assert "MISSED" in text


def test_unknown_name_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean .*softmax"):
        tg.explain("sofmax")


def test_list_by_family():
    listing = tg.explain()
    text = str(listing)
    for op in REGISTRY.values():
        assert op.name in text
        assert op.family in text
    assert "| `softmax` |" in listing._repr_markdown_()


def test_curve_is_the_op_and_its_slope():
    f, slope = curves(REGISTRY["sigmoid"])
    np.testing.assert_allclose(f.y, 1 / (1 + np.exp(-f.x)))
    np.testing.assert_allclose(np.gradient(f.y, f.x)[1:-1], slope.y[1:-1], atol=1e-4)


def test_curve_leaves_out_where_a_function_is_not_defined():
    f, slope = curves(REGISTRY["log"])
    assert np.isnan(f.y[f.x < 0]).all()
    assert np.isnan(slope.y[f.x < 0]).all()
    assert "nan" not in svg_plot([f, slope]).lower()
    assert "nan" not in text_plot([f, slope]).lower()


def test_docstring_parts():
    parts = split_docstring("y = x\n\nWhy.\n\nShapes: x (3,)\nany.\nSource: a book.")
    assert parts == ("y = x", "Why.", "x (3,) any.", "a book.")


def test_command(capsys, tmp_path):
    assert main(["explain", "exp"]) == 0
    assert "y = e^x" in capsys.readouterr().out
    assert main(["explain"]) == 0
    assert "elementwise" in capsys.readouterr().out
    assert main(["explain", "ex"]) == 2
    assert "Did you mean exp" in capsys.readouterr().err
    assert main(["explain", "exp", "--html", str(tmp_path / "exp.html")]) == 0
    page = (tmp_path / "exp.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "<title>exp</title>" in page
    assert 'name="viewport"' in page, "readable on a phone"
    assert page.count("<math") >= 2, "formula and derivation are typeset"
    assert main(["explain", "--html", str(tmp_path / "ops.html")]) == 0
    listed = (tmp_path / "ops.html").read_text(encoding="utf-8")
    assert "x &gt; 0" in listed


def test_explain_is_a_package_and_a_function():
    assert isinstance(tg.explain("exp"), Explanation)
    assert tg.explain.op.page.Explanation is Explanation


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path, capsys):
    assert main(["explain", "gelu", "--html", str(tmp_path / "absent" / "gelu.html")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("tinygrad-llm explain: --html: ")
    assert "cannot be written (No such file or directory)" in said


def test_a_part_of_a_name_finds_the_whole():
    with pytest.raises(
        ConfigError, match="Did you mean scaled_dot_product_attention, attention_qk"
    ):
        tg.explain("attention")
