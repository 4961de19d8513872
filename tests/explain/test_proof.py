"""The command that proves the gradients: passes on the real engine, fails on a broken one."""

import pytest

from tinygrad_llm.__main__ import main
from tinygrad_llm.autograd import REGISTRY
from tinygrad_llm.explain.proof import check_gpt, check_op
from tinygrad_llm.ops.layer_norm import LayerNorm


def test_every_parameter_of_a_real_gpt():
    report = check_gpt(max_elements=8)
    names = {e.name for e in report.entries}
    assert report.passed, str(report)
    assert report.error < 1e-6
    assert "blocks.1.attention.qkv.bias" in names
    assert "token_embedding.weight" in names
    assert "head.weight" not in names  # tied: one array, two uses


def test_a_broken_layer_norm_fails_the_gpt_and_the_op(monkeypatch):
    right = LayerNorm.backward

    def wrong(ctx, dy):
        dx, *rest = right(ctx, dy)
        return dx * 1.001, *rest

    monkeypatch.setattr(LayerNorm, "backward", wrong)
    assert not check_op(REGISTRY["layer_norm"]).passed
    assert not check_gpt(max_elements=2).passed


def test_exit_status_tells(capsys, monkeypatch):
    assert main(["gradcheck", "exp", "softmax"]) == 0
    assert "PASS: 2 ops" in capsys.readouterr().out
    exp = REGISTRY["exp"].function
    monkeypatch.setattr(exp, "backward", lambda ctx, dy: 1.01 * dy * ctx.saved[0])
    assert main(["gradcheck", "exp"]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["gradcheck", "sofmax"], "Did you mean softmax"),
        (["gradchek"], "Did you mean gradcheck"),
        ([], "usage"),
    ],
)
def test_wrong_questions_get_an_answer(argv, says, capsys):
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert says in captured.out + captured.err
