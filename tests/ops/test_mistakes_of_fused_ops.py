"""A planted mistake of a fused op is the gradient of the wrong formula that it is named after."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.autograd import REGISTRY
from tinygrad_llm.autograd.registry import planted

F = tg.functional


def gradient(run, x, *args, dy=1.0, **kwargs):
    t = tg.tensor(x, requires_grad=True)
    out = run(t, *args, **kwargs)
    out.backward(np.broadcast_to(np.float64(dy), out.shape).copy())
    return t.grad


def mistaken(op, mistake, x, *args, **kwargs):
    broken = planted(REGISTRY[op].function, REGISTRY[op].wrong[mistake])
    return gradient(broken.apply, x, *args, **kwargs)


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(5, 4))


TARGETS = np.array([1, 0, -100, 3, 2])


def test_the_sum_is_the_sum(x):
    expected = gradient(F.cross_entropy, x, TARGETS, reduction="sum", dy=0.7)
    found = mistaken("cross_entropy", "sum instead of mean", x, TARGETS, dy=0.7)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_without_the_one_hot_softmax_is_left(x):
    found = mistaken("cross_entropy", "one-hot forgotten", x, TARGETS)
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, p / 4 * (TARGETS >= 0)[:, None], rtol=1e-12)


def linear_loss(chunks):
    """The mean of the losses of each chunk of rows, averaged over all chunks."""

    def run(t, weight):
        rows = [t[i : i + 2] @ weight.T for i in (0, 2, 4)]
        losses = [F.cross_entropy(z, TARGETS[2 * i : 2 * i + 2]) for i, z in enumerate(rows)]
        return chunks(losses)

    return run


def test_the_mean_per_chunk_is_the_mean_of_the_chunks_means(x):
    weight = np.random.default_rng(1).normal(size=(4, 4))
    found = mistaken(
        "linear_cross_entropy", "mean taken per chunk", x, weight, TARGETS, chunk_rows=2
    )
    expected = gradient(linear_loss(lambda losses: sum(losses) / 3), x, weight)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_of_the_last_chunk_nothing_is_left(x):
    weight = np.random.default_rng(1).normal(size=(4, 4))
    found = mistaken(
        "linear_cross_entropy", "the last chunk lost", x, weight, TARGETS, chunk_rows=2
    )
    right = gradient(F.linear_cross_entropy, x, tg.tensor(weight), TARGETS)
    np.testing.assert_allclose(found[:4], right[:4], rtol=1e-9, atol=1e-12)
    assert (found[4] == 0).all()
    assert (right[4] != 0).all()


def test_gelu_without_the_product_rule_is_h_dy(x):
    found = mistaken("gelu", "product rule forgotten", x, dy=0.3)
    np.testing.assert_allclose(found, 0.3 * F.gelu(tg.tensor(x)).data / x, rtol=1e-9)


def test_the_slope_of_the_sigmoid_form_is_that_of_the_sigmoid_form(x):
    expected = gradient(lambda t: t * (t * 1.702).sigmoid(), x)
    found = mistaken("gelu", "slope of the sigmoid form", x)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_dropout_without_the_scale_keeps_the_mask(x):
    found = mistaken("dropout", "scale forgotten", x, p=0.3, key=(7, 11))
    kept = F.dropout(tg.tensor(np.ones_like(x)), p=0.3, key=(7, 11)).data != 0
    np.testing.assert_allclose(found, kept, rtol=1e-12)


def test_attention_without_the_scale(x):
    k, v = np.random.default_rng(1).normal(size=(2, 5, 4))
    found = mistaken("scaled_dot_product_attention", "scale forgotten", x, k, v, scale=0.5)
    right = gradient(F.scaled_dot_product_attention, x, tg.tensor(k), tg.tensor(v), scale=0.5)
    np.testing.assert_allclose(found, right / 0.5, rtol=1e-9)
