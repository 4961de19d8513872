"""x += y and its like: written where nothing is recorded, differentiated or refused elsewhere."""

import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm.errors import DTypeError, GraphError, ShapeError

FLOATS = {
    "+=": (operator.iadd, operator.add),
    "-=": (operator.isub, operator.sub),
    "*=": (operator.imul, operator.mul),
    "/=": (operator.itruediv, operator.truediv),
    "**=": (operator.ipow, operator.pow),
    "//=": (operator.ifloordiv, operator.floordiv),
    "%=": (operator.imod, operator.mod),
    "@=": (operator.imatmul, operator.matmul),
}
BITS = {
    "&=": (operator.iand, operator.and_),
    "|=": (operator.ior, operator.or_),
    "^=": (operator.ixor, operator.xor),
}


def test_the_update_of_every_tutorial_moves_the_weights():
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    (w * w).sum().backward()
    with tg.no_grad():
        for p in [w]:
            p -= 0.1 * p.grad
    np.testing.assert_allclose(w.data, [0.8, 1.6])
    assert w.is_leaf
    assert w.requires_grad


@pytest.mark.parametrize("kind", [*FLOATS, *BITS])
def test_every_operator_writes_into_the_memory(kind):
    in_place, plain = {**FLOATS, **BITS}[kind]
    start = np.array([[5.0, 2.0], [3.0, 4.0]]) if kind in FLOATS else np.array([[5, 2], [3, 4]])
    other = tg.tensor(np.array([[2.0, 1.0], [1.0, 3.0]]) if kind in FLOATS else start[::-1])
    x = tg.tensor(start)
    row, memory = x[0], x.data
    y = in_place(x, other)
    assert y is x
    assert x.data is memory
    np.testing.assert_array_equal(x.data, plain(tg.tensor(start), other).data)
    np.testing.assert_array_equal(row.data, x.data[0])


def test_a_view_of_a_constant_is_written_through():
    d = tg.tensor([1.0, 2.0, 3.0])
    part = d[1:]
    part += 2
    d.detach().__imul__(2)
    assert d.tolist() == [2.0, 8.0, 10.0]


@pytest.mark.parametrize("kind", FLOATS)
def test_a_leaf_that_requires_a_gradient_refuses(kind):
    w = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    with pytest.raises(GraphError, match="no_grad"):
        FLOATS[kind][0](w, w.detach())
    assert w.tolist() == [[1.0, 2.0], [3.0, 4.0]]


STEPS = st.lists(
    st.tuples(st.sampled_from(["+=", "-=", "*=", "/=", "@="]), st.booleans()),
    min_size=1,
    max_size=5,
)


@given(STEPS, st.booleans())
def test_recorded_steps_have_the_gradient_of_new_tensors(steps, fresh):
    rng = np.random.default_rng(0)
    values = [rng.uniform(0.5, 2.0, (2, 2)) for _ in "xw"]
    grads = []
    for place in (0, 1):  # in place, and as x = x + y
        x, w = (tg.Tensor(v.copy(), requires_grad=True) for v in values)
        y = tg.Tensor(np.ones((2, 2))) if fresh else x * 2.0
        for kind, constant in steps:
            y = FLOATS[kind][place](y, w.detach() if constant else w * x)
        if y.requires_grad:
            (y * y).sum().backward()
        grads.append((y.data, x.grad, w.grad))
    for a, b in zip(*grads, strict=True):
        assert (a is None) == (b is None)
        assert a is None or np.array_equal(a, b)


def test_what_was_computed_before_keeps_its_gradient():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    h = x * 2.0
    square = h * h  # saves h
    h += 1.0
    (square.sum() + h.sum()).backward()
    np.testing.assert_array_equal(x.grad, 8 * x.data + 2)


def test_the_gradient_retained_is_that_of_the_values_written_last():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = (x * 2).retain_grad()
    seen = []
    y.register_hook(lambda dy: seen.append(dy.tolist()))
    y *= 3
    y[0] = 1.0
    (y * y).sum().backward()
    assert y.grad.tolist() == [2, 24]
    assert seen == [[0, 72]]  # a hook stays with the values it was registered for
    assert x.grad.tolist() == [0, 144]


def test_a_write_over_what_backward_needs_is_noticed():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    with tg.no_grad():
        x *= 2.0
    with pytest.raises(GraphError, match="overwritten"):
        y.backward()


def test_a_view_refuses_where_a_gradient_would_be_lost():
    buffer, w = tg.zeros(2, 3), tg.ones(3, requires_grad=True)
    row = buffer[0]
    with pytest.raises(GraphError, match="x = x \\+ y"):
        row += w
    with pytest.raises(GraphError, match="shares the memory"):
        buffer[0] += w
    buffer[0] = buffer[0] + w
    buffer.sum().backward()
    assert w.grad.tolist() == [1.0, 1.0, 1.0]


def test_repeated_memory_is_not_written():
    x = tg.tensor([1.0]).expand(3)
    with pytest.raises(GraphError, match="one place in memory"):
        x += 1
    with pytest.raises(GraphError, match="clone"):
        x[0] = 1


def test_shape_and_kind_stay():
    with pytest.raises(ShapeError, match=r"result of shape \(3, 2\).*\(2,\)"):
        tg.ones(2).__iadd__(tg.ones(3, 2))
    with pytest.raises(DTypeError, match="float32 would be rounded into a tensor of type int64"):
        tg.arange(3).__iadd__(0.5)
    with pytest.raises(DTypeError, match="float32"):
        tg.arange(3).__itruediv__(2)
    x = tg.ones(2, requires_grad=True) * 1.0
    x += tg.ones(2, dtype="float64")
    assert x.dtype == np.float32
    x.sum().backward()


def test_methods_that_end_in_an_underscore_write():
    x = tg.arange(4.0)
    memory = x.data
    for change, expected in [
        (lambda: x.add_(1), [1, 2, 3, 4]),
        (lambda: x.sub_(1), [0, 1, 2, 3]),
        (lambda: x.mul_(2), [0, 2, 4, 6]),
        (lambda: x.div_(2), [0, 1, 2, 3]),
        (lambda: x.pow_(2), [0, 1, 4, 9]),
        (lambda: x.clamp_(1, 4), [1, 1, 4, 4]),
        (lambda: x.masked_fill_(x > 2, -1.0), [1, 1, -1, -1]),
        (lambda: x.fill_(5), [5] * 4),
        (lambda: x.zero_(), [0] * 4),
        (lambda: x.copy_([1, 2, 3, 4]), [1, 2, 3, 4]),
    ]:
        assert change() is x
        assert x.tolist() == expected
    assert x.data is memory


def test_random_values_come_from_the_seed():
    tg.manual_seed(3)
    x = tg.zeros(1000).normal_(2.0, 0.5)
    u = tg.zeros(1000).uniform_(-1, 3)
    assert abs(x.mean().item() - 2) < 0.1
    assert abs(x.std().item() - 0.5) < 0.1
    assert -1 <= u.min().item() < u.max().item() < 3
    tg.manual_seed(3)
    assert tg.zeros(1000).normal_(2.0, 0.5).equal(x)


def test_scores_are_masked_in_place_as_in_the_book():
    q, k = (tg.randn(4, 3, requires_grad=True) for _ in "qk")
    scores = q @ k.T
    scores.masked_fill_(tg.triu(tg.ones(4, 4), diagonal=1).bool(), -tg.inf)
    weights = scores.softmax(dim=-1)
    assert weights.data[0].tolist() == [1, 0, 0, 0]
    (weights * weights).sum().backward()
    assert np.isfinite(q.grad).all()
    assert k.grad.any()
