"""Kernels in float32 against the ops' array code in float64, at drawn shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm import kernels
from tinygrad_llm.backend import random as backend_random

KEY = (0x51ED270B, 0x2545F491)
few = settings(max_examples=4, derandomize=True)
sizes = st.integers(1, 40)


def _by_ops(call, arrays, dy_of):
    """(outputs, gradients) of an op on float64 copies, through its array code."""
    tensors = [tg.tensor(a.astype(np.float64), requires_grad=True) for a in arrays]
    with tg.use_kernels("off"):
        y = call(*tensors)
        dy = dy_of(y.shape)
        y.backward(dy.astype(np.float64))
    return y.numpy(), [t.grad for t in tensors], dy


def _close(actual, expected):
    np.testing.assert_allclose(
        np.asarray(actual, np.float64), np.asarray(expected), rtol=2e-4, atol=2e-5
    )


def _check(call, kernel, arrays, seed):
    """kernel(dy, *arrays) -> (y, gradients)"""
    rng = np.random.default_rng(seed)
    y, gradients, dy = _by_ops(call, arrays, lambda s: rng.standard_normal(s).astype(np.float32))
    got_y, got = kernel(dy, *arrays)
    _close(got_y, y)
    for actual, expected in zip(got, gradients, strict=True):
        _close(actual, expected)


def _normal(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@few
@given(m=sizes, n=st.integers(2, 70), seed=st.integers(0, 99))
def test_layer_norm(m, n, seed):
    def kernel(dy, x, w, b):
        y, mean, rstd = kernels.layer_norm(x, w, b)
        return y, kernels.layer_norm_backward(dy, x, w, mean, rstd)

    # a constant offset per column keeps the rows of two elements away from zero variance
    x, w, b = _normal(seed, (m, n), (n,), (n,))
    _check(tg.functional.layer_norm, kernel, [x + 3 * np.arange(n, dtype=np.float32), w, b], seed)


@few
@given(m=sizes, n=sizes, seed=st.integers(0, 99), approximate=st.sampled_from(["tanh", "none"]))
def test_gelu(m, n, seed, approximate):
    def kernel(dy, x):
        dx, _ = kernels.bias_gelu_backward(dy, x, None, approximate)
        return kernels.bias_gelu(x, None, approximate), [dx]

    _check(lambda x: tg.functional.gelu(x, approximate), kernel, _normal(seed, (m, n)), seed)


@few
@given(m=sizes, n=sizes, seed=st.integers(0, 99))
def test_softmax(m, n, seed):
    def kernel(dy, x):
        y = kernels.softmax(x)
        return y, [kernels.softmax_backward(dy, y)]

    _check(tg.functional.softmax, kernel, _normal(seed, (m, n)), seed)


@few
@given(m=sizes, v=st.integers(2, 60), seed=st.integers(0, 99))
def test_cross_entropy(m, v, seed):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, v, m)
    targets[rng.random(m) < 0.2] = -100
    counted = np.float32(max((targets != -100).sum(), 1))

    def kernel(dy, logits):
        losses, lse = kernels.cross_entropy(logits, targets)
        dloss = np.reshape(dy / counted, 1).astype(np.float32)
        gradient = kernels.cross_entropy_backward(logits, targets, lse, dloss)
        return losses.sum() / counted, [gradient]

    _check(lambda x: tg.functional.cross_entropy(x, targets), kernel, _normal(seed, (m, v)), seed)


@few
@given(m=sizes, v=st.integers(2, 60), c=sizes, seed=st.integers(0, 99))
def test_linear_cross_entropy(m, v, c, seed):
    targets = np.random.default_rng(seed).integers(0, v, m)

    def kernel(dy, x, weight):
        loss, dx, dw, _ = kernels.linear_cross_entropy(x, weight, targets, chunk_rows=16)
        return loss, [dx * dy, dw * dy]

    def call(x, weight):
        return tg.functional.linear_cross_entropy(x, weight, targets)

    _check(call, kernel, _normal(seed, (m, c), (v, c)), seed)


@few
@given(m=sizes, v=st.integers(1, 30), c=sizes, seed=st.integers(0, 99))
def test_embedding(m, v, c, seed):
    ids = np.random.default_rng(seed).integers(0, v, m)

    def kernel(dy, weight):
        return kernels.embedding(ids, weight), [kernels.embedding_backward(dy, ids, v)]

    _check(lambda w: tg.functional.embedding(ids, w), kernel, _normal(seed, (v, c)), seed)


@few
@given(m=sizes, n=sizes, p=st.sampled_from([0.1, 0.5, 0.9]), seed=st.integers(0, 99))
def test_dropout_has_the_same_mask(m, n, p, seed):
    def kernel(dy, x):
        return kernels.dropout(x, p, KEY), [kernels.dropout_backward(dy, p, KEY)]

    _check(lambda x: tg.functional.dropout(x, p, key=KEY), kernel, _normal(seed, (m, n)), seed)


def test_random_bits_are_those_of_the_backend():
    ones = np.ones(1000, np.float32)
    threshold = round(0.37 * 2**32)
    bits = backend_random.random_bits(np, KEY, 1000)
    np.testing.assert_array_equal(kernels.dropout(ones, 0.37, KEY) != 0, bits >= threshold)


@few
@given(
    shape=st.tuples(
        st.integers(1, 2),
        st.integers(1, 3),
        sizes,
        st.integers(0, 20),
        st.sampled_from([3, 16, 20]),
    ),
    causal=st.booleans(),
    p=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 99),
)
def test_attention(shape, causal, p, seed):
    b, h, t, longer, d = shape
    options = {"causal": causal, "dropout_p": p, "key": KEY}

    def kernel(dy, q, k, v):
        o, lse = kernels.attention(q, k, v, **options)
        return o, kernels.attention_backward(dy, q, k, v, o, lse, **options)

    def call(q, k, v):
        return tg.functional.scaled_dot_product_attention(q, k, v, **options)

    s = t + longer
    _check(call, kernel, _normal(seed, (b, h, t, d), (b, h, s, d), (b, h, s, d)), seed)


@few
@given(
    b=st.integers(1, 2),
    t=sizes,
    h=st.integers(1, 3),
    d=st.sampled_from([2, 16]),
    p=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 99),
)
def test_attention_qkv(b, t, h, d, p, seed):
    options = {"dropout_p": p, "key": KEY}

    def kernel(dy, qkv):
        y, lse = kernels.attention_qkv(qkv, h, **options)
        return y, [kernels.attention_qkv_backward(dy, qkv, y, lse, h, **options)]

    def call(qkv):
        return tg.functional.attention_qkv(qkv, h, **options)

    _check(call, kernel, _normal(seed, (b, t, 3 * h * d)), seed)


def test_add_layer_norm():
    x, residual, w, b = _normal(5, (3, 7, 33), (3, 7, 33), (33,), (33,))
    with tg.use_kernels("off"):
        s, y = tg.functional.add_layer_norm(*(tg.tensor(a) for a in (x, residual, w, b)))
    got = kernels.add_layer_norm(x, residual, w, b)
    _close(got[0], s.numpy())
    _close(got[1], y.numpy())


def test_a_wrong_kernel_is_noticed(monkeypatch):
    """The comparison can fail: a gradient off by a thousandth does not pass."""

    def kernel(dy, x):
        y = kernels.softmax(x)
        return y, [kernels.softmax_backward(dy, y) * np.float32(1.001)]

    with pytest.raises(AssertionError):
        _check(tg.functional.softmax, kernel, _normal(1, (9, 9)), 1)
