"""Small ops where finite differences say nothing: at kinks and limits, at ties, at defaults."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.errors import ConfigError, DTypeError, ShapeError


def leaf(values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


def gradient(function, values):
    x = leaf(values)
    y = function(x)
    y.backward(np.ones(y.shape))
    return x.grad.tolist()


@pytest.mark.parametrize(
    ("function", "values", "slopes"),
    [
        (abs, [-2.0, 0.0, 3.0], [-1, 0, 1]),
        (Tensor.relu, [-2.0, 0.0, 3.0], [0, 0, 1]),
        (lambda x: x.clip(-1, 1), [-1.5, -1.0, 0.5, 1.0, 1.5], [0, 1, 1, 1, 0]),
        (lambda x: x.clip(low=0), [-1.0, 0.0, 1.0], [0, 1, 1]),
        (lambda x: x.clip(high=0), [-1.0, 0.0, 1.0], [1, 1, 0]),
    ],
    ids=["abs", "relu", "clip", "clip low", "clip high"],
)
def test_slopes_at_a_kink(function, values, slopes):
    assert gradient(function, values) == slopes


@pytest.mark.parametrize("limit", [np.ones(2), Tensor(np.ones(2)), "1", None])
def test_a_limit_is_one_number(limit):
    for dtype in ("float32", "float64", "int64"):
        with pytest.raises(ConfigError if limit is None else DTypeError, match="clip|expected"):
            Tensor(np.ones((2, 2)), dtype).clip(high=limit)
    assert leaf([1.0, 3.0]).clip(Tensor(2.0), np.float32(2.5)).tolist() == [2, 2.5]
    with pytest.raises(DTypeError, match="-1 is no uint8"):
        Tensor([1, 2], "uint8").clip(-1, 1)


def test_nan_is_the_largest_in_any_order():
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        x = Tensor(np.array([1, np.nan, 2.5, -np.inf, 3]), dtype)
        assert x.argsort().tolist() == [3, 0, 2, 4, 1]
        assert x.argsort(descending=True).tolist() == [1, 4, 2, 0, 3]
        assert x.topk(2).indices.tolist() == [1, 4]


@pytest.mark.parametrize("function", [Tensor.max, lambda x, axis=None: -(-x).min(axis=axis)])
def test_equal_largest_elements_share_the_gradient(function):
    assert gradient(function, [1.0, 3.0, 3.0]) == [0, 0.5, 0.5]
    rows = [[2.0, 2.0, 2.0, 1.0], [0.0, 5.0, 4.0, 5.0]]
    assert gradient(lambda x: function(x, axis=1), rows) == [
        [1 / 3, 1 / 3, 1 / 3, 0],
        [0, 0.5, 0, 0.5],
    ]
    assert gradient(lambda x: function(x, axis=0), [[1.0, 2.0], [1.0, 0.0]]) == [[0.5, 1], [0.5, 0]]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 3.0])
def test_whole_powers_of_negative_numbers(n):
    x = np.array([-2.0, -0.5, 3.0])
    np.testing.assert_allclose((Tensor(x) ** n).data, [v**n for v in x.tolist()], rtol=1e-15)
    np.testing.assert_allclose(gradient(lambda t: t**n, x), n * x ** (n - 1), rtol=1e-15)


def test_the_deviation_of_equal_elements_has_the_gradient_0():
    rows = [[1.0, 1.0, 1.0], [2.0, 0.0, 1.0]]
    assert gradient(lambda x: x.std(axis=1), rows) == [[0, 0, 0], [0.5, -0.5, 0]]
    assert leaf([300.0, -300.0, 0.0], np.float16).std().item() == 300  # its square is too large


def test_variance_divides_by_n_minus_1_unless_told_otherwise():
    x = leaf([1.0, 2.0, 3.0, 6.0])
    assert x.var().item() == pytest.approx(14 / 3)
    assert x.var(correction=0).item() == pytest.approx(14 / 4)
    x.var().backward()
    np.testing.assert_allclose(x.grad, [2 * d / 3 for d in (-2, -1, 0, 3)], atol=1e-15)
    columns = Tensor(np.array([[1.0, 5.0], [3.0, 5.0]]))
    assert columns.var(axis=0).data.tolist() == [2, 0]
    assert columns.var(axis=1, keepdims=True).data.tolist() == [[8], [2]]


def test_variance_far_from_zero_is_that_of_the_deviations():
    x = (np.random.default_rng(0).normal(size=(50, 8)) * 3 + 1e6).astype(np.float32)
    for axis in (0, 1):
        want = x.astype(np.float64).var(axis=axis, ddof=1)
        np.testing.assert_allclose(Tensor(x).var(axis=axis).data, want, rtol=1e-5)


def test_argmax():
    x = Tensor(np.array([[3.0, 9.0, 1.0], [8.0, 2.0, 8.0]]))
    assert x.argmax().item() == 1
    assert x.argmax(axis=0).data.tolist() == [1, 0, 1]
    assert x.argmax(axis=1).data.tolist() == [1, 0]  # the first of equals
    assert x.argmax(axis=-1, keepdims=True).data.tolist() == [[1], [0]]
    assert x.argmax().dtype == np.int64
    with pytest.raises(ShapeError, match="axis 2"):
        x.argmax(axis=2)
    with pytest.raises(ShapeError, match="no element"):
        Tensor(np.zeros((0, 3))).argmax()


@given(mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3))
def test_a_repeated_operand_gets_the_sum_over_its_copies(shapes):
    (a_shape, b_shape), result = shapes
    a, b = leaf(np.full(a_shape, 3.0)), leaf(np.full(b_shape, 2.0))
    y = a * b
    assert y.shape == result
    y.backward(np.ones(result))
    np.testing.assert_array_equal(a.grad, np.full(a_shape, 2.0 * y.size / a.size))
    np.testing.assert_array_equal(b.grad, np.full(b_shape, 3.0 * y.size / b.size))


@pytest.mark.parametrize(("narrow", "wide"), [("float32", "float64"), ("float16", "float32")])
def test_the_gradient_of_a_cast_has_the_type_of_the_argument(narrow, wide):
    for a, b in ((narrow, wide), (wide, narrow)):
        x = leaf([1.0, 2.0], a)
        seen = []
        y = x * 1.0
        y.register_hook(lambda dy, seen=seen: seen.append(dy.dtype))
        z = y.astype(b)
        (z * z).sum().backward()
        assert z.dtype == b
        assert seen == [np.dtype(a)]
        assert x.grad.dtype == a
        assert x.grad.tolist() == [2, 4]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("function", [F.softmax, F.log_softmax])
def test_softmax_of_16_bits_is_that_of_32_rounded_once(function, dtype):
    x = Tensor(np.random.default_rng(0).normal(size=(5, 300)) * 4).astype(dtype)
    dy = Tensor(np.random.default_rng(1).normal(size=(5, 300))).astype(dtype)
    half = Tensor(x.data, requires_grad=True)
    wide = Tensor(x.data.astype(np.float32), requires_grad=True)
    y, z = function(half), function(wide)
    np.testing.assert_array_equal(y.data, z.data.astype(y.dtype))
    y.backward(dy)
    if function is F.softmax:  # the backward pass starts from the rounded probabilities
        p, d = y.data.astype(np.float32), dy.data.astype(np.float32)
        dx = p * (d - (p * d).sum(axis=-1, keepdims=True))
    else:
        z.backward(dy.data.astype(np.float32))
        dx = wide.grad
    np.testing.assert_array_equal(half.grad, dx.astype(half.dtype))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_parts_of_a_split_that_nobody_uses_have_gradient_zero(part):
    x = leaf(np.arange(12.0).reshape(2, 6))
    parts = x.split(3, axis=1)
    (parts[part] * 5.0).sum().backward()
    expected = np.zeros((2, 6))
    expected[:, 2 * part : 2 * part + 2] = 5
    np.testing.assert_array_equal(x.grad, expected)


@pytest.mark.parametrize(
    ("function", "slopes"),
    [(lambda x: x.maximum(2.0), [0, 0.5, 1]), (lambda x: x.minimum(2.0), [1, 0.5, 0])],
    ids=["maximum", "minimum"],
)
def test_two_equal_operands_share_the_gradient(function, slopes):
    assert gradient(function, [1.0, 2.0, 3.0]) == slopes
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    infinite = np.array([np.inf if s == 0 else 1.0 for s in slopes], np.float32)
    function(x).backward(infinite)
    assert x.grad.tolist() == slopes  # 0 where it has no part, not 0 times infinity
    both = Tensor([2.0], requires_grad=True)
    both.maximum(both).sum().backward()
    assert both.grad.tolist() == [1.0]


def test_a_row_of_minus_infinity_has_a_sum_of_exponentials_without_slope():
    rows = [[-np.inf, -np.inf], [0.0, -np.inf]]
    assert gradient(lambda x: x.logsumexp(axis=1), rows) == [[0, 0], [1, 0]]


def test_a_product_with_a_factor_0_has_the_slope_of_the_others():
    assert gradient(lambda x: x.prod(axis=0), [0.0, 2.0, 3.0]) == [6, 0, 0]
    assert gradient(lambda x: x.prod(), [0.0, 2.0, 0.0]) == [0, 0, 0]
