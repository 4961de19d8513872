"""A trace tells what happened, changes nothing, and keeps nothing alive."""

import gc
import weakref

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.stand_in_gpu import DeviceArray, stand_in_gpu
from tinygrad_llm.autograd import Function
from tinygrad_llm.autograd.gradient_sink import GradientSink
from tinygrad_llm.autograd.trace import trace, trace_of
from tinygrad_llm.errors import ConfigError


def step():
    """A small graph with a reused result: h goes to three ops."""
    rng = np.random.default_rng(0)
    x = tg.tensor(rng.normal(size=(3, 4)), requires_grad=True)
    w = tg.tensor(rng.normal(size=(4, 5)), requires_grad=True)
    h = x @ w
    return x, w, (h * h + h).tanh().sum()


def test_ops_edges_and_order():
    with trace() as t:
        _, _, loss = step()
        loss.backward()
    assert [op.name for op in t.ops] == ["matmul", "multiply", "add", "tanh", "sum"]
    assert [i.source for i in t.ops[2].inputs] == [1, 0]
    assert [t.leaves[i.leaf].name for i in t.ops[0].inputs] == ["a", "b"]
    assert t.events == [("forward", i) for i in range(5)] + [
        ("backward", i) for i in (4, 3, 2, 1, 0)
    ]
    assert [(c.source, c.argument) for c in t.ops[0].arrived] == [(2, "b"), (1, "a"), (1, "b")]
    assert t.ops[0].outputs[0].shape == (3, 5)
    assert all(op.seconds_forward > 0 and op.seconds_backward > 0 for op in t.ops)
    assert t.ops[4].options == {"axis": None, "keepdims": False}


def test_saved_bytes_count_each_array_once_and_no_parameters():
    with trace() as t:
        _, _, loss = step()
        loss.backward()
    saved = {op.name: op.saved_bytes for op in t.ops}
    assert saved["matmul"] == 0, "x and w live anyway"
    assert saved["multiply"] == 15 * 8, "h, saved as both factors, counts once"
    assert saved["tanh"] == 15 * 8
    assert t.peak_saved_bytes == 2 * 15 * 8


def test_values_are_those_of_the_engine():
    with trace(values=True) as t:
        x, w, loss = step()
        loss.backward()
    for leaf, tensor in zip(t.leaves, (x, w), strict=True):
        np.testing.assert_array_equal(leaf.value, tensor.data)
        np.testing.assert_array_equal(sum(c.gradient for c in leaf.arrived), tensor.grad)
    h = t.ops[0]
    np.testing.assert_array_equal(h.values.outputs[0], x.data @ w.data)
    np.testing.assert_allclose(h.values.dy[0], sum(c.gradient for c in h.arrived), rtol=1e-14)
    np.testing.assert_array_equal(h.values.sent[1], w.grad)


def test_local_derivatives():
    with trace(values=True) as t:
        x, w, loss = step()
        loss.backward()
    tanh = t.ops[3].values
    assert tanh.local.elementwise
    np.testing.assert_allclose(tanh.local.rows[0], 1 - tanh.outputs[0] ** 2)
    row, column = t.ops[0].values.local.element
    da, db = t.ops[0].values.local.rows
    np.testing.assert_array_equal(da[row], w.data[:, column])
    np.testing.assert_array_equal(db[:, column], x.data[row])
    assert np.count_nonzero(da) == np.count_nonzero(db) == 4


def test_gradients_are_the_same_with_and_without_a_trace():
    x0, w0, loss = step()
    loss.backward()
    for values in (False, True):
        with trace(values=values):
            x, w, loss = step()
            loss.backward()
        np.testing.assert_array_equal(x.grad, x0.grad)
        np.testing.assert_array_equal(w.grad, w0.grad)


class AddsIntoBuffer(Function):
    """y = 2 w, with dw added straight into an optimizer's buffer."""

    def forward(ctx, w):
        return 2 * w

    def backward(ctx, dy):
        buffer, add = ctx.gradient_target(0)
        buffer[...] = buffer + 2 * dy if add else 2 * dy
        return buffer


def test_share_of_an_op_that_adds_into_a_gradient_sink_itself():
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    w.gradient_sink = GradientSink(np.empty(2, np.float32))
    with trace(values=True) as t:
        (AddsIntoBuffer.apply(w) + AddsIntoBuffer.apply(w) * 3.0).sum().backward()
    assert sorted(c.gradient[0] for c in t.leaves[0].arrived) == [2.0, 6.0]
    assert w.grad.tolist() == [8.0, 8.0]


def test_tuple_results_deliver_to_the_right_output():
    x = tg.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    with trace(values=True) as t:
        a, _, c = tg.functional.split(x, 3, axis=-1)
        (a * 2.0 + c * 5.0).sum().backward()
    split = t.ops[0]
    assert sorted((c.output, c.gradient[0, 0]) for c in split.arrived) == [(0, 2.0), (2, 5.0)]
    assert split.values.dy[1] is None


def test_checkpoint_shows_the_recomputation():
    x = tg.tensor(np.ones(3), requires_grad=True)
    with trace(values=True) as t:
        tg.checkpoint(lambda v: v.exp().tanh(), x).sum().backward()
    names = [op.name for op in t.ops]
    assert names.count("exp") == 2, "once in the forward, once again in the backward"
    assert "checkpoint" in names
    np.testing.assert_allclose(x.grad, np.e * (1 - np.tanh(np.e) ** 2))


def test_no_grad_ops_are_linked_by_the_arrays():
    with tg.no_grad(), trace() as t:
        x = tg.tensor(np.ones((2, 2)))
        (x.exp() * 2.0).tanh()
    assert [op.inputs[0].source for op in t.ops] == [None, 0, 1]
    assert t.peak_saved_bytes == 0 or t.ops[0].requires_grad is False


def test_trace_keeps_no_graph_alive():
    with trace() as t:
        _, _, loss = step()
        node = weakref.ref(loss._node)
        assert trace_of(loss) is t
    del loss
    gc.disable()
    try:
        assert node() is None
    finally:
        gc.enable()


def test_scope_is_the_module_path():
    model = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.Linear(4, 2))
    with trace() as t:
        model(tg.tensor(np.ones((2, 3), np.float32))).sum().backward()
    assert {op.scope for op in t.ops if op.name == "linear"} == {"0", "1"}
    assert "0.weight" in [leaf.name for leaf in t.leaves]


def test_leaves_take_the_names_of_the_model():
    config = tg.nn.GPTConfig(vocab_size=5, context_length=4, n_layer=1, n_head=1, n_embd=4)
    model = tg.nn.GPT(config)
    with trace() as t:
        model.loss([[0, 1, 2, 3]], [[1, 2, 3, 4]]).backward()
    assert "token_embedding.weight" in [leaf.name for leaf in t.leaves], "by its first use"
    t.name_leaves(model)
    assert sorted(leaf.name for leaf in t.leaves) == sorted(n for n, _ in model.named_parameters())


def test_table():
    with trace() as t:
        _, _, loss = step()
        loss.backward()
    text = t.table(limit=2)
    assert "and 3 more rows" in text
    assert "total" in text
    assert t.table(by="call").count("\n") == 8
    assert "(outside modules)" in t.table(by="scope")
    with pytest.raises(ConfigError, match="scope"):
        t.table(by="module")


def test_arrays_of_a_gpu(monkeypatch):
    with stand_in_gpu(monkeypatch):
        x = tg.Tensor(DeviceArray(np.arange(6.0).reshape(2, 3)), requires_grad=True)
        with trace(values=True) as t:
            (x * x).tanh().sum().backward()
    np.testing.assert_array_equal(t.leaves[0].value, np.arange(6.0).reshape(2, 3))
    first = t.ops[0]
    assert isinstance(first.values.outputs[0], np.ndarray)
    np.testing.assert_allclose(sum(c.gradient for c in t.leaves[0].arrived), x.grad.get())
    np.testing.assert_allclose(t.ops[1].values.local.rows[0], 1 - t.ops[1].values.outputs[0] ** 2)
