"""linear, gelu, softmax, layer_norm, embedding, dropout: what the generic test does not see."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.backend.special import erf
from tinygrad_llm.errors import ConfigError, DTypeError, IndexRangeError, ShapeError


def random(*shape, seed=0, dtype=np.float64):
    return Tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=True)


def test_erf_against_the_standard_library():
    x = np.concatenate([np.linspace(-9, 9, 4001), [0.0, np.inf, -np.inf, 1e300, 1e-300]])
    expected = [math.erf(v) for v in x]
    np.testing.assert_allclose(erf(np, x), expected, rtol=1e-15, atol=1e-300)


def test_gelu_at_known_points_and_far_out():
    y = F.gelu(np.array([-1e4, -1.0, 0.0, 1.0, 1e4]), approximate="none").numpy()
    np.testing.assert_allclose(y, [0, -0.15865525393145707, 0, 0.8413447460685429, 1e4])
    y = F.gelu(np.array([-1e4, -1.0, 1.0, 1e4], np.float32)).numpy()
    np.testing.assert_allclose(y, [0, -0.158808, 0.841192, 1e4], rtol=1e-6)
    with pytest.raises(ConfigError, match='"tanh" or "none"'):
        F.gelu(np.zeros(3), approximate="fast")


@given(st.integers(1, 5), st.integers(1, 9), st.floats(-1e30, 1e30))
@settings(max_examples=50, deadline=None)
def test_softmax_does_not_feel_a_common_shift(rows, n, shift):
    x = np.random.default_rng(rows * 10 + n).normal(size=(rows, n)).astype(np.float32)
    shifted = x + np.float32(shift)
    y = F.softmax(shifted).numpy()
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(y, np.exp(F.log_softmax(shifted).numpy()), rtol=1e-4, atol=1e-7)


def test_softmax_of_hidden_elements():
    x = Tensor(np.array([[0.0, -np.inf], [-np.inf, -np.inf]]), requires_grad=True)
    y = F.softmax(x)
    y.sum().backward()
    np.testing.assert_array_equal(y.numpy(), [[1, 0], [0, 0]])
    np.testing.assert_array_equal(x.grad, 0)


def test_float16_statistics_are_float32():
    ones = np.ones((1, 8192), np.float16)  # a float16 sum of these is inf or stuck at 2048
    np.testing.assert_allclose(F.softmax(ones).numpy(), 1 / 8192, rtol=1e-3)
    x = Tensor(ones * np.float16(300) + (np.arange(8192) % 2).astype(np.float16))
    y = F.layer_norm(x)
    assert y.dtype == np.float16
    np.testing.assert_allclose(np.abs(y.numpy().astype(np.float32)), 1, rtol=1e-2)


@given(st.integers(1, 6), st.integers(2, 40), st.floats(-50, 50))
@settings(max_examples=30, deadline=None)
def test_layer_norm_gives_mean_zero_and_variance_one(n, c, offset):
    x = np.random.default_rng(n * 100 + c).normal(size=(n, c)) * 7 + offset
    y = F.layer_norm(x).numpy()
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-9)
    variance = x.var(axis=-1)
    np.testing.assert_allclose(y.var(axis=-1), variance / (variance + 1e-5), rtol=1e-6)


def test_add_layer_norm_is_the_sum_and_its_norm():
    x, r, w, b = random(2, 3, 8), random(2, 3, 8, seed=1), random(8, seed=2), random(8, seed=3)
    s, y = F.add_layer_norm(x, r, w, b)
    np.testing.assert_array_equal(s.numpy(), x.numpy() + r.numpy())
    np.testing.assert_allclose(y.numpy(), F.layer_norm(s, w, b).numpy(), atol=1e-15)
    s.sum().backward()  # the sum alone is used: the norm gives no gradient
    np.testing.assert_array_equal(x.grad, 1)
    assert w.grad is None


def test_embedding_sums_over_repeated_ids_and_leaves_the_rest_zero():
    w = random(50, 3)
    ids = np.random.default_rng(0).integers(0, 9, (4, 30))
    y = F.embedding(ids, w)
    y.sum().backward()
    np.testing.assert_array_equal(w.grad[:, 0], np.bincount(ids.reshape(-1), minlength=50))


def test_embedding_takes_lists_tensors_and_nothing():
    w = random(5, 3)
    np.testing.assert_array_equal(F.embedding([[1], [4]], w).numpy(), w.numpy()[[[1], [4]]])
    np.testing.assert_array_equal(F.embedding(Tensor(np.array([2])), w).numpy(), w.numpy()[[2]])
    empty = F.embedding([], w)
    assert empty.shape == (0, 3)
    empty.sum().backward()
    np.testing.assert_array_equal(w.grad, 0)


def test_dropout_keeps_the_mean_and_repeats_with_its_key():
    x = Tensor(np.ones(200_000, np.float32), requires_grad=True)
    y = F.dropout(x, 0.2, key=(1, 2))
    y.sum().backward()
    np.testing.assert_array_equal(y.numpy(), x.grad)  # the mask came back in the backward pass
    assert set(np.unique(y.numpy())) == {np.float32(0), np.float32(1.25)}
    assert y.numpy().mean() == pytest.approx(1, abs=0.01)
    assert not np.array_equal(y.numpy(), F.dropout(x, 0.2, key=(1, 3)).numpy())
    np.testing.assert_array_equal(F.dropout(x, 0.2, training=False).numpy(), 1)
    assert (F.dropout(x, 1.0).numpy() == 0).all()


def test_sentences_for_misuse():
    with pytest.raises(IndexRangeError, match=r"id 5 at position \(1, 0\).*vocabulary of 5"):
        F.embedding([[0], [5]], random(5, 3))
    with pytest.raises(IndexRangeError, match="id -1 at position 2"):
        F.embedding([0, 1, -1], random(5, 3))
    with pytest.raises(DTypeError, match="ids must be integers"):
        F.embedding(np.array([0.5]), random(5, 3))
    with pytest.raises(ShapeError, match=r"x of shape \(2, 4\) and weight of shape \(3, 5\)"):
        F.linear(random(2, 4), random(3, 5))
    with pytest.raises(ShapeError, match=r"bias must have shape \(3,\)"):
        F.linear(random(2, 5), random(3, 5), random(4))
    with pytest.raises(ShapeError, match=r"weight must have the length of the last axis"):
        F.layer_norm(random(2, 5), random(4))
    with pytest.raises(ShapeError, match=r"must have one shape"):
        F.add_layer_norm(random(2, 5), random(5), random(5), random(5))
    with pytest.raises(ConfigError, match="probability must be in 0 .. 1, got -0.1"):
        F.dropout(random(3), -0.1)
