"""What stands beside a tensor: other ranks, numbers, arrays; and what a tensor is made of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_llm as tg


def leaf(*shape, seed=0):
    return tg.Tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


SHAPES = [(2, 3, 4), (4,), (1, 4), (), (3, 1), (2, 1, 1)]


@given(st.sampled_from(SHAPES), st.sampled_from(SHAPES), st.sampled_from(["+", "-", "*", "/"]))
def test_broadcasting_between_unequal_ranks(left, right, operator):
    rng = np.random.default_rng(0)
    a, b = rng.uniform(1, 2, left), rng.uniform(1, 2, right)

    def f(a, b):
        return {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[operator]

    tg.gradcheck(f, [np.asarray(a), np.asarray(b)])


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(tg.errors.ShapeError, match=r"add: shapes \(2, 3\) and \(4,\)"):
        leaf(2, 3) + leaf(4)


def test_scalars_do_not_widen():
    x = tg.tensor([1.0, 2.0])
    for y in (x * 2, 2.0 * x, x + np.float64(1), x / np.float64(3), 1 - x, x**2):
        assert y.dtype == np.float32


def test_numpy_array_on_the_left():
    x = leaf(3)
    y = np.ones(3) * x
    assert isinstance(y, tg.Tensor)


def test_tensor_copies_and_keeps_numpy_types():
    a = np.ones(3)
    t = tg.tensor(a)
    a[0] = 5
    assert t.dtype == np.float64
    assert t.data[0] == 1.0
    assert tg.tensor([1.0]).dtype == np.float32
    assert tg.tensor([1]).dtype == np.int64


def test_dlpack_and_array_protocols():
    t = tg.tensor([1.0, 2.0])
    np.testing.assert_array_equal(np.from_dlpack(t), t.data)
    np.testing.assert_array_equal(np.asarray(t), t.data)
