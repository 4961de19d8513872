"""The steps towards multi-head attention, each against an outside oracle and against the next."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import ConfigError, GraphError, ShapeError

# Raschka's six words "Your journey starts with one step" as vectors, chapter 3 of the book.
WORDS = np.array(
    [
        [0.43, 0.15, 0.89],
        [0.55, 0.87, 0.66],
        [0.57, 0.85, 0.64],
        [0.22, 0.58, 0.33],
        [0.77, 0.25, 0.10],
        [0.05, 0.80, 0.55],
    ]
)


def oracle(x, wq, wk, wv, causal=False):
    """Attention by a loop over positions: x (T, d_in), weights (d_in, D)."""
    q, k, v = x @ wq, x @ wk, x @ wv
    rows = []
    for i in range(len(x)):
        last = i + 1 if causal else len(x)
        score = np.array([q[i] @ k[j] for j in range(last)]) / np.sqrt(q.shape[1])
        weight = np.exp(score) / np.exp(score).sum()
        rows.append(sum(w * v[j] for j, w in enumerate(weight)))
    return np.array(rows)


def weights_of(*layers):
    return [layer.weight.data.T for layer in layers]


def test_first_step_equals_the_loop():
    step = nn.SelfAttentionV1(3, 2).to("float64")
    want = oracle(WORDS, step.w_query.data, step.w_key.data, step.w_value.data)
    np.testing.assert_allclose(step(tg.tensor(WORDS)).data, want, rtol=1e-10)
    tg.gradcheck(step, [WORDS])


def test_first_step_takes_rows_of_a_batch_one_by_one(rng):
    step = nn.SelfAttentionV1(3, 2).to("float64")
    batch = rng.normal(size=(2, 5, 3))
    for x, y in zip(batch, step(tg.tensor(batch)).data, strict=True):
        np.testing.assert_allclose(y, step(tg.tensor(x)).data, rtol=1e-12)


def test_second_step_equals_the_first():
    one, two = nn.SelfAttentionV1(3, 2).to("float64"), nn.SelfAttentionV2(3, 2).to("float64")
    one.w_query.data, one.w_key.data, one.w_value.data = weights_of(two.query, two.key, two.value)
    np.testing.assert_allclose(one(tg.tensor(WORDS)).data, two(WORDS).data, rtol=1e-12)
    np.testing.assert_allclose(two.attention_weights(WORDS).data.sum(-1), 1, rtol=1e-12)
    tg.gradcheck(nn.SelfAttentionV2(3, 2, qkv_bias=True), [WORDS])


def test_causal_step_equals_the_loop_and_sees_no_future():
    step = nn.CausalAttention(3, 2, context_length=6).to("float64")
    batch = np.stack([WORDS, WORDS[::-1]])
    got = step(batch).data
    for x, y in zip(batch, got, strict=True):
        want = oracle(x, *weights_of(step.query, step.key, step.value), causal=True)
        np.testing.assert_allclose(y, want, rtol=1e-10)
    weights = step.attention_weights(batch).data
    assert (weights[:, ~np.tri(6, dtype=bool)] == 0).all()
    changed = batch.copy()
    changed[:, 4:] = 100
    np.testing.assert_array_equal(step(changed).data[:, :4], got[:, :4])
    tg.gradcheck(step, [batch])
    with pytest.raises(ShapeError, match="context_length=6"):
        step(np.zeros((1, 7, 3)))


def test_dropout_of_attention_weights_is_inactive_in_eval():
    step = nn.CausalAttention(3, 2, 6, dropout=0.5)
    x = WORDS.astype(np.float32)
    assert (step(x).data != step(x).data).any()
    step.eval()
    np.testing.assert_array_equal(step(x).data, step(x).data)


def test_wrapper_joins_the_heads(rng):
    wrapper = nn.MultiHeadAttentionWrapper(3, 2, 6, num_heads=2).to("float64")
    got = wrapper(WORDS).data
    assert got.shape == (6, 4)
    for i, head in enumerate(wrapper.heads):
        np.testing.assert_array_equal(got[:, 2 * i : 2 * i + 2], head(WORDS).data)
    tg.gradcheck(wrapper, [rng.normal(size=(2, 4, 3))])


def copied_from(wrapper, width):
    """A MultiHeadAttention with the wrapper's weights and a projection that changes nothing."""
    heads = list(wrapper.heads)
    attention = nn.MultiHeadAttention(width, len(heads), qkv_bias=False).to("float64")
    parts = [[h.query for h in heads], [h.key for h in heads], [h.value for h in heads]]
    attention.qkv.weight.data = np.concatenate([m.weight.data for part in parts for m in part])
    attention.projection.weight.data = np.eye(width)
    attention.projection.bias.data[...] = 0
    return attention


def test_multi_head_attention_equals_the_wrapper(rng):
    wrapper = nn.MultiHeadAttentionWrapper(6, 2, 5, num_heads=3).to("float64")
    x = rng.normal(size=(2, 5, 6))
    np.testing.assert_allclose(
        copied_from(wrapper, 6)(x).data, wrapper(x).data, rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize(("causal", "dropout"), [(True, 0.0), (False, 0.0), (True, 0.3)])
def test_multi_head_attention_gradients(rng, causal, dropout):
    attention = nn.MultiHeadAttention(6, 2, dropout, causal=causal)
    tg.gradcheck(attention, [rng.normal(size=(2, 4, 6))])


def test_mask_hides_keys_and_the_two_paths_agree(rng):
    attention = nn.MultiHeadAttention(6, 2).to("float64")
    x = rng.normal(size=(2, 4, 6))
    everything = np.ones((2, 1, 1, 4), bool)
    np.testing.assert_allclose(
        attention(x, mask=everything).data, attention(x).data, rtol=1e-10, atol=1e-12
    )
    mask = everything.copy()
    mask[0, ..., 0] = False  # row 0 begins with padding
    got = attention(x, mask=mask).data
    np.testing.assert_allclose(got[:1, 1:], attention(x[:1, 1:]).data, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(got[1:], attention(x[1:]).data, rtol=1e-10, atol=1e-12)
    tg.gradcheck(lambda a: attention(a, mask=mask), [x])


def test_without_causal_every_position_sees_the_later_ones_too(rng):
    attention = nn.MultiHeadAttention(6, 2, causal=False).to("float64")
    x = rng.normal(size=(2, 5, 6))
    want = attention(x).data
    changed = x.copy()
    changed[:, 4] = 9
    assert (attention(changed).data[:, 0] != want[:, 0]).any()
    got = attention(x, mask=np.ones((1, 1, 1, 5), bool)).data
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
    cache = nn.KVCache(1, 2, 2, 5, 3, "float64").layers[0]
    with tg.no_grad():
        attention(x[:, :2], cache=cache)
        got = attention(x[:, 2:], cache=cache).data  # three queries, five keys
    np.testing.assert_allclose(got, want[:, 2:], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("way", ["packed", "mask", "context", "cache"])
def test_attention_weights_are_dropped_on_every_way(rng, way):
    attention = nn.MultiHeadAttention(8, 2, dropout=0.5, causal=False).to("float64")
    attention.residual_dropout.p = 0.0
    x = rng.normal(size=(1, 6, 8))
    cache = nn.KVCache(1, 1, 2, 12, 4, "float64").layers[0]
    if way == "cache":
        with tg.no_grad():
            attention(x, cache=cache)
    options = {
        "packed": {},
        "mask": {"mask": np.ones((1, 1, 1, 6), bool)},
        "context": {"context": x},
        "cache": {"cache": cache},
    }[way]
    with tg.no_grad():
        dropped = attention(x, **options).data
        if way == "cache":
            cache.length = 6
        kept = attention.eval()(x, **options).data
    assert (dropped != kept).any(axis=-1).all()


def test_cross_attention_takes_keys_and_values_from_the_context(rng):
    attention = nn.MultiHeadAttention(4, 1).to("float64")
    attention.projection.weight.data, attention.projection.bias.data[...] = np.eye(4), 0
    x, context = rng.normal(size=(1, 2, 4)), rng.normal(size=(1, 5, 4))
    w, b = attention.qkv.weight.data, attention.qkv.bias.data
    q = x[0] @ w[:4].T + b[:4]
    k, v = context[0] @ w[4:8].T + b[4:8], context[0] @ w[8:].T + b[8:]
    scores = np.exp(q @ k.T / 2)
    want = scores / scores.sum(-1, keepdims=True) @ v
    np.testing.assert_allclose(attention(x, context=context).data[0], want, rtol=1e-10)
    tg.gradcheck(lambda a, c: attention(a, context=c), [x, context])


def test_bad_heads_name_the_possible_ones():
    with pytest.raises(ConfigError, match="n_head can be 1, 2, 3, 4, 6"):
        nn.MultiHeadAttention(12, 5)
    attention = nn.MultiHeadAttention(4, 2)
    cache = nn.KVCache(1, 1, 2, 4, 2)
    with pytest.raises(ConfigError, match="exclude each other"):
        attention(np.zeros((1, 1, 4)), context=np.zeros((1, 1, 4)), cache=cache.layers[0])


def test_block_is_two_residual_steps(rng):
    block = nn.TransformerBlock(6, 2).to("float64")
    x = rng.normal(size=(2, 4, 6))
    s = tg.tensor(x) + block.attention(block.norm1(x))
    want = s + block.feed_forward(block.norm2(s))
    np.testing.assert_allclose(block(x).data, want.data, rtol=1e-10, atol=1e-12)
    tg.gradcheck(block, [x])
    tg.gradcheck(nn.TransformerBlock(4, 2, dropout=0.2, qkv_bias=False), [x[..., :4]])


def test_pytorchs_names_of_our_arguments(rng):
    x = rng.normal(size=(2, 4, 8)).astype(np.float32)
    mask = rng.integers(0, 2, (4, 4)).astype(bool) | np.eye(4, dtype=bool)
    for kind in (nn.MultiHeadAttention, nn.TransformerBlock):
        module = kind(8, 2, is_causal=False)
        np.testing.assert_array_equal(
            module(x, attn_mask=mask).numpy(), module(x, mask=mask).numpy()
        )
        with pytest.raises(ConfigError, match="attn_mask= is another name of mask="):
            module(x, mask=mask, attn_mask=mask)
        with pytest.raises(ConfigError, match=f"{kind.__name__}: is_causal= is another name"):
            kind(8, 2, causal=True, is_causal=True)
    qkv = rng.normal(size=(1, 4, 12))
    np.testing.assert_array_equal(
        tg.functional.attention_qkv(qkv, 2, is_causal=False).numpy(),
        tg.functional.attention_qkv(qkv, 2, causal=False).numpy(),
    )


def test_a_cache_is_refused_where_gradients_would_get_lost_in_it():
    attention = nn.MultiHeadAttention(4, 2)
    cache = nn.KVCache(1, 1, 2, 8, 2).layers[0]
    x = tg.tensor(np.ones((1, 2, 4), np.float32))
    with tg.no_grad():
        attention(x, cache=cache)
    with pytest.raises(GraphError, match="no gradient goes through a cache.*no_grad"):
        attention(x, cache=cache)
    attention.requires_grad_(False)
    assert attention(x, cache=cache).shape == (1, 2, 4)
