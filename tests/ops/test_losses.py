"""cross_entropy and linear_cross_entropy: ignored targets, chunks, extremes, messages."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.errors import ConfigError, DTypeError, IndexRangeError, ShapeError
from tinygrad_llm.nn import Parameter
from tinygrad_llm.optim import AdamW


def random(*shape, seed=0, dtype=np.float64):
    return Tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=True)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary():
    assert F.cross_entropy(np.zeros((3, 50)), [1, 2, 3]).item() == pytest.approx(math.log(50))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_all_ignored_is_zero_with_zero_gradient(reduction):
    logits = random(2, 3, 7)
    loss = F.cross_entropy(logits, np.full((2, 3), -100), reduction=reduction)
    loss.sum().backward()
    assert (loss.numpy() == 0).all()
    assert (logits.grad == 0).all()


def test_all_ignored_chunked():
    x, w = random(2, 3, 4), random(5, 4, seed=1)
    loss = F.linear_cross_entropy(x, w, np.full((2, 3), -100), chunk_rows=4)
    loss.backward()
    assert loss.item() == 0
    assert (x.grad == 0).all()
    assert (w.grad == 0).all()


@pytest.mark.parametrize("v", [16384, 16385, 40000])
def test_gradients_over_a_vocabulary_like_gpt2s(v):
    x, w, b = random(3, 2), random(v, 2, seed=1), random(v, seed=2)
    targets = [5, v - 1, v // 2]
    F.linear_cross_entropy(x, w, targets, b, chunk_rows=2).backward()
    logits = x.data @ w.data.T + b.data
    dlogits = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    dlogits[[0, 1, 2], targets] -= 1
    dlogits /= 3
    np.testing.assert_allclose(x.grad, dlogits @ w.data, rtol=1e-9)
    np.testing.assert_allclose(w.grad, dlogits.T @ x.data, rtol=1e-9, atol=1e-18)
    np.testing.assert_allclose(b.grad, dlogits.sum(axis=0), rtol=1e-9, atol=1e-18)


def test_logits_too_large_for_exp():
    logits = Tensor(np.array([[1e4, 0, -1e4]], dtype=np.float32), requires_grad=True)
    loss = F.cross_entropy(logits, [1])
    loss.backward()
    assert loss.item() == 1e4
    np.testing.assert_array_equal(logits.grad, [[1, -1, 0]])


def test_a_class_of_probability_zero_is_no_nan():
    logits = Tensor(np.array([[0.0, -np.inf, 1.0]]), requires_grad=True)
    F.cross_entropy(logits, [2]).backward()
    assert logits.grad[0, 1] == 0
    assert np.isfinite(logits.grad).all()


@given(n=st.integers(1, 23), v=st.integers(1, 12), chunk=st.integers(1, 30), data=st.data())
@settings(max_examples=30, deadline=None)
def test_chunks_change_nothing(n, v, chunk, data):
    targets = np.array(
        data.draw(st.lists(st.one_of(st.just(-100), st.integers(0, v - 1)), min_size=n, max_size=n))
    )
    x, w, b = random(n, 5), random(v, 5, seed=1), random(v, seed=2)
    loss = F.linear_cross_entropy(x, w, targets, b, chunk_rows=chunk)
    (loss * 3.0).backward()
    got = [t.grad for t in (x, w, b)]
    for t in (x, w, b):
        t.grad = None
    whole = F.cross_entropy(F.linear(x, w, b), targets)
    (whole * 3.0).backward()
    assert loss.item() == pytest.approx(whole.item(), abs=1e-12)
    for g, t in zip(got, (x, w, b), strict=True):
        np.testing.assert_allclose(g, t.grad, atol=1e-12)


def test_the_logits_never_exist_at_once():
    rows, v, c = 2048, 3000, 8  # all logits: 24 MB
    x, w = random(rows, c, dtype=np.float32), random(v, c, seed=1, dtype=np.float32)
    tracemalloc.start()
    F.linear_cross_entropy(x, w, np.zeros(rows, int), chunk_rows=64).backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


class Head:
    """A weight in an optimizer's flat buffer, and hidden states."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.weight = Parameter(rng.normal(size=(40, 6)).astype(np.float32))
        self.optimizer = AdamW([self.weight], lr=0.1)
        self.x = Tensor(rng.normal(size=(9, 6)).astype(np.float32), requires_grad=True)
        self.buffer = self.weight.gradient_sink

    def loss(self, target=3):
        targets = np.full(9, target)
        return F.linear_cross_entropy(self.x, self.weight, targets, chunk_rows=4)

    def gradient(self, target):
        """By the plain path: logits, then the loss."""
        w = Tensor(self.weight.numpy().copy(), requires_grad=True)
        F.cross_entropy(F.linear(self.x, w), np.full(9, target)).backward()
        return w.grad


def test_the_gradient_of_the_weight_is_made_in_the_optimizers_buffer():
    head = Head()
    loss = head.loss()
    assert head.weight.grad is None
    assert not head.buffer.is_free()  # the op holds the array: nobody else is given it
    loss.backward()
    assert head.weight.grad is head.weight.gradient_sink.array is head.buffer.array
    np.testing.assert_allclose(head.buffer.array, head.gradient(3), atol=1e-7)


def test_a_loss_that_dies_gives_the_buffer_back():
    head = Head()
    loss = head.loss()
    del loss
    assert head.buffer.is_free()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_losses_before_two_backwards(order):
    head = Head()
    losses = [head.loss(3), head.loss(5)]
    for i in order:
        losses[i].backward()
    expected = head.gradient(3) + head.gradient(5)
    np.testing.assert_allclose(head.weight.grad, expected, atol=1e-7)
    head.optimizer.gradients()
    assert head.weight.grad is head.buffer.array
    np.testing.assert_allclose(head.buffer.array, expected, atol=1e-7)


def test_accumulation_over_micro_batches_and_a_scaled_loss():
    head = Head()
    (head.loss(3) * 0.25).backward()
    (head.loss(5) * 0.75).backward()
    expected = 0.25 * head.gradient(3) + 0.75 * head.gradient(5)
    np.testing.assert_allclose(head.weight.grad, expected, atol=1e-7)


def test_a_kept_graph_can_be_walked_again():
    head = Head()
    loss = head.loss(3)
    loss.backward(retain_graph=True)
    loss.backward()
    np.testing.assert_allclose(head.weight.grad, 2 * head.gradient(3), atol=1e-6)


def test_float16_logits_are_summed_in_float32():
    logits = Tensor(np.zeros((1, 4096), np.float16), requires_grad=True)
    loss = F.cross_entropy(logits, [0])
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4096), rel=1e-6)
    assert logits.grad.dtype == np.float16


def test_sentences_for_misuse():
    logits = random(2, 3, 7)
    with pytest.raises(IndexRangeError, match=r"id 7 at position \(0, 1\).*0 \.\. 6"):
        F.cross_entropy(logits, [[0, 7, 1], [0, 0, 0]])
    with pytest.raises(IndexRangeError, match="id -1 at position 0"):
        F.linear_cross_entropy(random(2, 4), random(5, 4), [-1, 2])
    with pytest.raises(ShapeError, match=r"one target for each row, shape \(2, 3\), got \(6,\)"):
        F.cross_entropy(logits, [0] * 6)
    with pytest.raises(DTypeError, match="ids must be integers, got float64"):
        F.cross_entropy(logits, np.zeros((2, 3)))
    with pytest.raises(ConfigError, match="reduction must be one of"):
        F.cross_entropy(logits, np.zeros((2, 3), int), reduction="average")
    with pytest.raises(ConfigError, match="chunk_rows must be at least 1"):
        F.linear_cross_entropy(random(2, 4), random(5, 4), [1, 2], chunk_rows=0)
