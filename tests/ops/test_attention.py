"""Attention: causality, hidden rows, dropout's counters, long rows in blocks, precision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.errors import ConfigError, DTypeError, ShapeError
from tinygrad_llm.ops._attention_blocks import BLOCK_ROWS
from tinygrad_llm.ops.attention import attention_composed


def random(*shape, seed=0, dtype=np.float64):
    return Tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=True)


def gradients(function, *tensors):
    for x in tensors:
        x.grad = None
    y = function(*tensors)
    (y * Tensor(np.cos(np.arange(y.size)).reshape(y.shape))).sum().backward()
    return y.numpy(), [x.grad for x in tensors]


@given(
    t=st.integers(1, 2 * BLOCK_ROWS + 3),
    more=st.integers(0, 40),
    d=st.integers(1, 9),
    causal=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_blocks_give_what_the_whole_matrix_gives(t, more, d, causal):
    q, k, v = random(2, t, d), random(2, t + more, d, seed=1), random(2, t + more, d, seed=2)
    y, grads = gradients(lambda *a: F.scaled_dot_product_attention(*a, causal=causal), q, k, v)
    y2, grads2 = gradients(lambda *a: attention_composed(*a, causal=causal), q, k, v)
    np.testing.assert_allclose(y, y2, atol=1e-12)
    for a, b in zip(grads, grads2, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11)


def test_a_later_token_changes_nothing_before_it():
    x = np.random.default_rng(0).normal(size=(1, 300, 24))
    before = F.attention_qkv(x, n_head=2).numpy()
    x[:, 200:] += 1.0
    after = F.attention_qkv(x, n_head=2).numpy()
    np.testing.assert_array_equal(before[:, :200], after[:, :200])
    assert not np.allclose(before[:, 200:], after[:, 200:])


def test_a_row_that_sees_nothing_gives_zero_and_no_nan():
    q, k, v = random(1, 2, 4, 3), random(1, 2, 5, 3, seed=1), random(1, 2, 5, 3, seed=2)
    mask = np.ones((4, 5), dtype=bool)
    mask[2] = False
    y, (dq, dk, dv) = gradients(lambda *a: F.scaled_dot_product_attention(*a, mask=mask), q, k, v)
    assert (y[:, :, 2] == 0).all()
    assert (dq[:, :, 2] == 0).all()
    for a in (y, dq, dk, dv):
        assert np.isfinite(a).all()


def test_dropout_has_the_counters_of_the_whole_matrix():
    t = BLOCK_ROWS + 9
    q, k, v = (random(2, 3, t, 4, seed=i) for i in range(3))
    options = {"causal": True, "dropout_p": 0.3, "key": (123, 456)}
    y, grads = gradients(lambda *a: F.scaled_dot_product_attention(*a, **options), q, k, v)
    y2, grads2 = gradients(lambda *a: attention_composed(*a, **options), q, k, v)
    np.testing.assert_allclose(y, y2, atol=1e-12)
    for a, b in zip(grads, grads2, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11)


def test_dropping_everything_gives_zero():
    q = random(1, 1, 3, 2)
    y = F.scaled_dot_product_attention(q, q, q, dropout_p=1.0, key=(1, 2))
    assert (y.numpy() == 0).all()


@pytest.mark.parametrize("big", [1e4, 3e38])
def test_large_scores_do_not_overflow(big):
    q = Tensor(np.full((1, 1, 4, 1), np.sqrt(big), dtype=np.float32), requires_grad=True)
    y = F.scaled_dot_product_attention(q, q, q, causal=True, scale=0.5)
    y.sum().backward()
    np.testing.assert_allclose(y.numpy(), q.numpy(), rtol=1e-6)
    assert np.isfinite(q.grad).all()


@pytest.mark.parametrize("gap", [30.0, 90.0, 1e4])
def test_rows_far_below_the_largest_of_their_block(gap):
    q, k, v = random(1, 2, 70, 4), random(1, 2, 70, 4, seed=1), random(1, 2, 70, 4, seed=2)
    mask = np.zeros((70, 70))
    mask[::3] = -gap  # every third row, all of it: softmax does not feel it
    narrow = [Tensor(x.numpy().astype(np.float32), requires_grad=True) for x in (q, k, v)]
    lowered = mask.astype(np.float32)
    y, grads = gradients(lambda *a: F.scaled_dot_product_attention(*a, mask=lowered), *narrow)
    y2, grads2 = gradients(F.scaled_dot_product_attention, q, k, v)
    tolerance = 1e-5 * max(1.0, gap / 10)
    np.testing.assert_allclose(y, y2, atol=tolerance)
    for a, b in zip(grads, grads2, strict=True):
        np.testing.assert_allclose(a, b, atol=10 * tolerance)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_keeps_its_type_and_sums_in_float32(dtype):
    q, k, v = (random(1, 2, 200, 8, seed=i, dtype=np.float32) for i in range(3))
    exact = F.scaled_dot_product_attention(q, k, v, causal=True).numpy()
    y = F.scaled_dot_product_attention(*(x.to(dtype) for x in (q, k, v)), causal=True)
    assert y.dtype.name == dtype
    error = np.abs(y.numpy().astype(np.float32) - exact).max()
    assert error < (5e-3 if dtype == "float16" else 4e-2)


def test_sentences_for_misuse():
    q = random(1, 2, 4, 3)
    k = random(1, 2, 3, 3)
    with pytest.raises(ShapeError, match="causal needs at least as many keys"):
        F.scaled_dot_product_attention(q, k, k, causal=True)
    with pytest.raises(ShapeError, match=r"q \(1, 2, 4, 3\).*Expected q \(B, H, T, D\)"):
        F.scaled_dot_product_attention(q, random(1, 3, 4, 3), q)
    with pytest.raises(DTypeError, match="mask must be boolean"):
        F.scaled_dot_product_attention(q, q, q, mask=np.ones((4, 4), dtype=int))
    with pytest.raises(ShapeError, match="does not broadcast"):
        F.scaled_dot_product_attention(q, q, q, mask=np.ones((4, 5), dtype=bool))
    with pytest.raises(ConfigError, match="probability must be in 0 .. 1"):
        F.scaled_dot_product_attention(q, q, q, dropout_p=1.5)
    with pytest.raises(ShapeError, match=r"divisible by n_head=5"):
        F.attention_qkv(random(1, 4, 12), n_head=5)


def test_pytorchs_names_mean_what_ours_mean():
    q, k, v = (Tensor(np.random.default_rng(i).normal(size=(1, 2, 4, 3))) for i in range(3))
    seen = np.tri(4, dtype=bool)
    ours = F.scaled_dot_product_attention(q, k, v, causal=True).numpy()
    for names in (
        {"is_causal": True},
        {"attn_mask": seen},
        {"attn_mask": Tensor(seen)},
        {"attn_mask": np.where(seen, 0.0, -np.inf), "is_causal": False},
    ):
        theirs = F.scaled_dot_product_attention(q, k, v, dropout_p=0.0, **names).numpy()
        np.testing.assert_allclose(theirs, ours, rtol=1e-12)


def test_two_meanings_are_refused():
    q, k = (Tensor(np.zeros((1, 1, n, 3))) for n in (2, 5))
    with pytest.raises(ConfigError, match="another name of mask="):
        F.scaled_dot_product_attention(k, k, k, mask=np.tri(5), attn_mask=np.tri(5))
    with pytest.raises(ConfigError, match="is_causal= of causal="):
        F.scaled_dot_product_attention(k, k, k, causal=True, is_causal=False)
    with pytest.raises(ShapeError, match="2 queries and 5 keys has two meanings.*causal=True"):
        F.scaled_dot_product_attention(q, k, k, is_causal=True)
    F.scaled_dot_product_attention(q, k, k, is_causal=False)
    with pytest.raises(ConfigError, match=r"causal must be True or False, got ndarray.*attn_mask"):
        F.scaled_dot_product_attention(k, k, k, np.tri(5, dtype=bool))  # PyTorch's order
