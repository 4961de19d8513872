"""The engine in one file computes what the package computes, and what differences say."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_llm as tg

SCRIPT = Path(__file__).parents[2] / "examples" / "nano.py"
sys.path.insert(0, str(SCRIPT.parent))
import nano  # noqa: E402

F = tg.functional
IDS = np.array([[3, 0, 3, 1], [2, 2, 4, 0]])  # (B, T)
TARGETS = np.array([[0, 3, 1, 2], [2, 4, 0, 4]])  # (B, T)
# Each op of nano.py, the package's, and the shapes of the tensors that both are given.
OPS = {
    "add": (nano.add, lambda a, b: a + b, [(2, 4, 6), (2, 4, 6)]),
    "add, repeated": (nano.add, lambda a, b: a + b, [(2, 4, 6), (6,)]),
    "embedding": (lambda w: nano.embedding(IDS, w), lambda w: F.embedding(IDS, w), [(5, 6)]),
    "linear": (nano.linear, F.linear, [(2, 4, 6), (3, 6), (3,)]),
    "linear, no bias": (nano.linear, F.linear, [(2, 4, 6), (3, 6)]),
    "layer_norm": (nano.layer_norm, F.layer_norm, [(2, 4, 6), (6,), (6,)]),
    "gelu": (nano.gelu, F.gelu, [(2, 4, 6)]),
    "attention": (
        lambda qkv: nano.attention(qkv, 2),
        lambda qkv: F.attention_qkv(qkv, 2, True),
        [(2, 4, 12)],
    ),
    "cross_entropy": (
        lambda z: nano.cross_entropy(z, TARGETS),
        lambda z: F.cross_entropy(z, TARGETS),
        [(2, 4, 5)],
    ),
}
EVERY = pytest.mark.parametrize("name", OPS)


def drawn(name):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in OPS[name][2]], rng


def gradients(name, arrays, dy):
    """What an op of nano.py gives for a gradient dy of its result: (result, gradients)."""
    tensors = [nano.Tensor(a) for a in arrays]
    y = OPS[name][0](*tensors)
    weighted = nano.Tensor((y.data * dy).sum(), (y,), lambda one: (one * dy,))
    weighted.backward()
    return y.data, [t.grad for t in tensors]


@EVERY
def test_every_op_agrees_with_the_package(name):
    arrays, rng = drawn(name)
    tensors = [tg.tensor(a, requires_grad=True) for a in arrays]
    y = OPS[name][1](*tensors)
    dy = rng.normal(size=y.shape)
    y.backward(dy)
    result, grads = gradients(name, arrays, dy)
    np.testing.assert_allclose(result, y.data, atol=1e-10)
    for mine, theirs in zip(grads, tensors, strict=True):
        np.testing.assert_allclose(mine, theirs.grad, atol=1e-10)


@EVERY
def test_every_op_agrees_with_differences(name):
    arrays, rng = drawn(name)
    dy = rng.normal(size=OPS[name][0](*map(nano.Tensor, arrays)).data.shape)
    _, grads = gradients(name, arrays, dy)
    for a, grad in zip(arrays, grads, strict=True):
        assert grad.shape == a.shape
        for at in np.ndindex(a.shape):
            value, sides = a[at], []
            for h in (1e-5, -1e-5):
                a[at] = value + h
                sides.append((OPS[name][0](*map(nano.Tensor, arrays)).data * dy).sum())
            a[at] = value
            assert abs((sides[0] - sides[1]) / 2e-5 - grad[at]) < 1e-8


def test_the_ops_are_all_tried():
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    ops = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and ast.unparse(node.returns or node) == "Tensor"
    }
    assert ops - {"gpt"} == {name.split(",")[0] for name in OPS}


def test_a_tensor_that_is_used_twice_gets_the_sum():
    a = nano.Tensor(np.array(3.0))
    b = nano.add(a, a)
    nano.add(b, nano.add(b, a)).backward()
    assert b.grad == 2
    assert a.grad == 5


def paired(dtype):
    """A GPT of nano.py and one of the package with the same weights."""
    config = tg.nn.GPTConfig(vocab_size=5, context_length=4, n_layer=2, n_head=2, n_embd=8)
    model, p = tg.nn.GPT(config), nano.new_parameters(V=5, T=4, C=8, n_layer=2)
    rng, found = np.random.default_rng(0), {}
    for name, pair in p.items():
        for tensor, kind in zip(pair, ("weight", "bias"), strict=False):
            tensor.data = rng.normal(size=tensor.data.shape).astype(dtype)
            found[f"{name}.{kind}"] = tensor
    model.to(dtype)
    model.load_state_dict({name: tensor.data.copy() for name, tensor in found.items()})
    return p, found, model


def test_a_whole_gpt_agrees_with_the_package():
    """The names of the parameters are the same, the loss, and every gradient."""
    p, found, model = paired("float64")
    mine, theirs = nano.cross_entropy(nano.gpt(p, IDS, 2), TARGETS), model.loss(IDS, TARGETS)
    mine.backward()
    theirs.backward()
    np.testing.assert_allclose(mine.data, theirs.data, rtol=1e-12)
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(found[name].grad, parameter.grad, atol=1e-10, err_msg=name)


def test_adamw_agrees_with_the_package():
    rng = np.random.default_rng(0)
    start, grads = rng.normal(size=(3, 2)), rng.normal(size=(4, 3, 2))
    mine, theirs = nano.Tensor(start.copy()), tg.tensor(start.copy(), requires_grad=True)
    m, v = np.zeros_like(start), np.zeros_like(start)
    optimizer = tg.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    for t, grad in enumerate(grads, 1):
        mine.grad = grad
        nano.adamw(mine, m, v, t, lr=0.01)
        optimizer.zero_grad()
        (theirs * grad).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(mine.data, theirs.data, rtol=1e-6)
    assert mine.grad is None


def test_training_stays_in_float32():
    p, found, _ = paired("float32")
    loss = nano.cross_entropy(nano.gpt(p, IDS, 2), TARGETS)
    loss.backward()
    assert loss.data.dtype == np.float32
    assert {tensor.grad.dtype for tensor in found.values()} == {np.dtype("float32")}


def test_the_check_of_gradients_passes_and_can_fail(monkeypatch):
    assert nano.gradient_error() < 1e-7
    wrong = lambda x: nano.Tensor(np.tanh(x.data), (x,), lambda dy: (dy,))  # noqa: E731
    monkeypatch.setattr(nano, "gelu", wrong)
    assert nano.gradient_error() > 1e-2


def short(source):
    """The program with fewer steps and a shorter text at the end."""
    source = source.replace("4, 16, 1200", "4, 16, 60").replace("range(500)", "range(20)")
    return source.replace("t % 100 == 0", "t % 20 == 0")


def test_the_program_learns_and_writes(monkeypatch, capsys):
    text = SCRIPT.read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["nano.py", str(SCRIPT)])
    exec(compile(short(text), str(SCRIPT), "exec"), {"__name__": "__main__"})
    lines = capsys.readouterr().out.split("\n", 6)
    assert "gradients right up to" in lines[0]
    assert lines[1].startswith("log V ")
    losses = [float(line.split()[3].strip(",")) for line in lines[2:6]]
    assert losses[-1] < losses[0] - 0.5
    assert len(lines[6].rstrip("\n")) > 10
    assert set(lines[6]) <= set(text)


@pytest.mark.parametrize(
    ("name", "said"), [("nosuch.txt", "there is no file nosuch.txt"), ("short.txt", "needs 1280")]
)
def test_a_text_that_is_of_no_use_is_refused(name, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_text("abc", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["nano.py", name])
    with pytest.raises(SystemExit, match=said):
        nano.main()


def test_it_can_be_read_in_one_go():
    """At most 220 lines, 100 wide, and nothing else to open: NumPy and the standard library."""
    source = SCRIPT.read_text(encoding="utf-8")
    lines = source.splitlines()
    assert len(lines) <= 220
    assert max(map(len, lines)) <= 100
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy"}
