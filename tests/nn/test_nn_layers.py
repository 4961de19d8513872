"""The small layers: values, gradients, initial values, errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import ConfigError, IndexRangeError, ShapeError


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.booleans(), st.integers(0, 3))
def test_linear(n_in, n_out, bias, n_axes):
    rng = np.random.default_rng(n_in * 10 + n_out)
    layer = nn.Linear(n_in, n_out, bias)
    x = rng.normal(size=(2, 3, 4)[:n_axes] + (n_in,))
    y = layer.to("float64")(x)
    want = x @ layer.weight.data.T + (layer.bias.data if bias else 0)
    np.testing.assert_allclose(y.data, want, rtol=1e-12)
    assert len(tg.gradcheck(layer, [x]).entries) == 2 + bias


def test_embedding_sums_the_gradients_of_repeated_ids(rng):
    table = nn.Embedding(5, 3)
    ids = np.array([[1, 1, 4], [1, 0, 4]])
    np.testing.assert_array_equal(table(ids).data, table.weight.data[ids])
    table(ids).sum().backward()
    np.testing.assert_array_equal(table.weight.grad[:, 0], [1, 3, 0, 0, 2])
    tg.gradcheck(lambda w: tg.functional.embedding(ids, w), [rng.normal(size=(5, 3))])
    with pytest.raises(IndexRangeError, match="5"):
        table([[5]])


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm(rng, bias):
    norm = nn.LayerNorm(6, bias=bias)
    x = rng.normal(3, 2, size=(2, 4, 6))
    y = norm(x).data
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(-1), 1, rtol=1e-4)
    norm.weight.data[...] = rng.normal(size=6)
    tg.gradcheck(norm, [x])


def test_layer_norms_eps_counts_on_both_ways(rng):
    norm = nn.LayerNorm(5, eps=0.7).to("float64")
    a, b = tg.tensor(rng.normal(size=(4, 5))), tg.tensor(rng.normal(size=(4, 5)))
    x = (a + b).data
    want = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 0.7)
    np.testing.assert_allclose(norm(tg.tensor(x)).data, want, rtol=1e-10)
    np.testing.assert_allclose(norm.add(a, b)[1].data, want, rtol=1e-10)


def test_layer_norm_add_equals_the_two_steps(rng):
    norm = nn.LayerNorm(5).to("float64")
    x, residual = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 5))
    s, y = norm.add(x, residual)
    np.testing.assert_allclose(s.data, x + residual)
    np.testing.assert_allclose(y.data, norm(x + residual).data, rtol=1e-10, atol=1e-12)
    tg.gradcheck(lambda a, b: norm.add(a, b), [x, residual])


@pytest.mark.parametrize("add", [False, True])
def test_layer_norms_gradients_are_summed_in_the_type_of_the_optimizer(rng, add):
    pytest.importorskip("triton")
    pytest.importorskip("ml_dtypes")
    norm = nn.LayerNorm(8).to("bfloat16")
    optimizer = tg.optim.AdamW(norm)
    x, dy = (tg.tensor(rng.normal(size=(500, 8))).astype("bfloat16") for _ in "xy")
    with tg.use_kernels("force"):
        y = norm.add(x, x)[1] if add else norm(x)
        y.backward(dy)
    assert optimizer.buffers[0].grad.dtype == np.float32
    exact = dy.data.astype(np.float64).sum(0)  # of which bfloat16 would keep 8 bits
    np.testing.assert_allclose(norm.bias.grad, exact, rtol=1e-5, atol=1e-5)


def test_feed_forward(rng):
    layer = nn.FeedForward(4).to("float64")
    assert layer.expand.weight.shape == (16, 4)
    x = rng.normal(size=(2, 3, 4))
    h = x @ layer.expand.weight.data.T + layer.expand.bias.data
    h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    want = h @ layer.project.weight.data.T + layer.project.bias.data
    np.testing.assert_allclose(layer(x).data, want, rtol=1e-10)
    tg.gradcheck(layer, [x])


def test_dropout_drops_in_training_only_and_keeps_the_mean():
    drop = nn.Dropout(0.25)
    x = tg.tensor(np.ones((200, 200), np.float32), requires_grad=True)
    y = drop(x)
    kept = y.data != 0
    assert abs(kept.mean() - 0.75) < 0.01
    np.testing.assert_allclose(y.data[kept], 4 / 3, rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)
    assert drop.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x


def test_dropout_follows_the_seed_or_its_own_generator():
    x = tg.tensor(np.ones(1000, np.float32))
    drop = nn.Dropout(0.5)
    tg.manual_seed(3)
    first, second = drop(x).data, drop(x).data
    assert (first != second).any()
    tg.manual_seed(3)
    np.testing.assert_array_equal(drop(x).data, first)
    own = nn.Dropout(0.5, generator=tg.Generator(8))
    before = tg.default_generator().state()
    mine = own(x).data
    assert tg.default_generator().state() == before
    np.testing.assert_array_equal(nn.Dropout(0.5, tg.Generator(8))(x).data, mine)


def test_initial_values_follow_the_seed_and_have_pytorchs_spread():
    tg.manual_seed(5)
    a = nn.Linear(100, 400)
    tg.manual_seed(5)
    b = nn.Linear(100, 400)
    np.testing.assert_array_equal(a.weight.data, b.weight.data)
    assert np.abs(a.weight.data).max() <= 0.1
    assert abs(a.weight.data.std() - 0.1 / np.sqrt(3)) < 1e-3
    c = nn.Linear(100, 400, generator=tg.Generator(1))
    np.testing.assert_array_equal(
        c.weight.data, nn.Linear(100, 400, generator=tg.Generator(1)).weight.data
    )
    assert abs(nn.Embedding(200, 200).weight.data.std() - 1) < 0.02
    assert a.weight.dtype == np.float32


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Linear(0, 3),
        lambda: nn.Linear(3, 2.5),
        lambda: nn.Linear(True, 2),
        lambda: nn.Embedding(-1, 3),
        lambda: nn.LayerNorm((3, 4)),
        lambda: nn.FeedForward(4, hidden=0),
        lambda: nn.Dropout(1.0),
        lambda: nn.Dropout(-0.1),
        lambda: nn.Dropout("0.1"),
    ],
)
def test_bad_settings_are_refused(build):
    with pytest.raises(ConfigError, match="must be"):
        build()


@pytest.mark.parametrize(
    "build",
    [
        lambda g: nn.Linear(3, 4, generator=g),
        lambda g: nn.Embedding(5, 3, generator=g),
        lambda g: nn.FeedForward(3, generator=g),
        lambda g: nn.SelfAttentionV1(3, 2, generator=g),
        lambda g: nn.SelfAttentionV2(3, 2, qkv_bias=True, generator=g),
        lambda g: nn.CausalAttention(3, 2, 5, generator=g),
        lambda g: nn.MultiHeadAttentionWrapper(3, 2, 5, generator=g),
        lambda g: nn.MultiHeadAttention(4, 2, generator=g),
        lambda g: nn.TransformerBlock(4, 2, generator=g),
        lambda g: nn.LoRALinear(nn.Linear(3, 4, generator=g), generator=g),
        lambda g: nn.GPT(nn.GPTConfig(7, 4, 1, 2, 4), generator=g),
    ],
)
def test_all_initial_values_come_from_the_generator_that_is_given(build):
    tg.manual_seed(1)
    before = tg.default_generator().state()
    first = build(tg.Generator(5))
    assert tg.default_generator().state() == before
    tg.manual_seed(2)
    for p, q in zip(first.parameters(), build(tg.Generator(5)).parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    other = build(tg.Generator(6))
    matrices = [
        (p, q)
        for p, q in zip(first.parameters(), other.parameters(), strict=True)
        if p.ndim == 2 and p.data.any()
    ]
    assert matrices
    assert all((p.data != q.data).any() for p, q in matrices)


def test_a_wrong_width_says_both_shapes():
    with pytest.raises(ShapeError, match=r"\(2, 3\).*\(5, 4\)"):
        nn.Linear(4, 5)(np.zeros((2, 3)))
