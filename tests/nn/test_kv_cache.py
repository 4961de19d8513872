"""Cached and uncached passes agree, row by row, with padding and without."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import ConfigError, ShapeError


@pytest.fixture(scope="module")
def model():
    tg.manual_seed(0)
    model = nn.GPT(nn.GPTConfig(13, 16, 2, 2, 8)).to("float64")
    for p in model.parameters():
        p.data += tg.Generator(2).normal(p.shape, 0.3)
    return model.eval()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 3))
def test_any_split_into_pieces_gives_the_uncached_logits(model, pieces, batch):
    total = min(sum(pieces), 16)
    ids = np.random.default_rng(total).integers(0, 13, (batch, total))
    want = model(ids).data
    cache = model.new_cache(batch)
    start = 0
    for piece in pieces:
        stop = min(start + piece, total)
        if stop > start:
            got = model(ids[:, start:stop], cache=cache).data
            np.testing.assert_allclose(got, want[:, start:stop], rtol=1e-9, atol=1e-9)
        start = stop
    assert cache.length == total


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 8), min_size=1, max_size=4), st.integers(0, 4))
def test_left_padded_rows_equal_each_row_alone(model, lengths, n_more):
    rng = np.random.default_rng(sum(lengths))
    prompts = [rng.integers(0, 13, n).tolist() for n in lengths]
    more = rng.integers(0, 13, (len(prompts), n_more))
    ids, padding = nn.left_pad(prompts, pad_id=12)
    cache = model.new_cache(len(prompts), padding=padding)
    steps = [model(ids, cache=cache).data[:, -1]]
    steps += [model(more[:, i : i + 1], cache=cache).data[:, -1] for i in range(n_more)]
    for row, prompt in enumerate(prompts):
        alone = model(np.array([[*prompt, *more[row]]])).data[0]
        for i, got in enumerate(steps):
            np.testing.assert_allclose(got[row], alone[len(prompt) - 1 + i], rtol=1e-9, atol=1e-9)


def test_padding_may_push_columns_beyond_the_context_length(model):
    prompts = [[1] * 10, [2]]
    ids, padding = nn.left_pad(prompts)
    cache = model.new_cache(2, max_length=20, padding=padding)
    model(ids, cache=cache)
    with pytest.raises(ShapeError, match="17 positions are more than context_length=16"):
        model(np.ones((2, 7), int), cache=cache)


def test_explicit_mask_and_positions_do_the_same_without_a_cache(model):
    ids, padding = nn.left_pad([[3, 4, 5], [6]])
    columns = np.arange(3)
    mask = columns >= padding[:, None]
    positions = np.maximum(columns - padding[:, None], 0)
    got = model(ids, positions=positions, mask=mask).data
    np.testing.assert_allclose(got[1, -1], model([[6]]).data[0, 0], rtol=1e-9)
    np.testing.assert_allclose(got[0], model([[3, 4, 5]]).data[0], rtol=1e-9)
    with pytest.raises(ShapeError, match="position 16"):
        model([[1]], positions=[16])
    with pytest.raises(ShapeError, match="mask must have shape"):
        model([[1]], mask=[True])


def test_truncate_goes_back_and_select_rows_reorders(model):
    ids = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    want = model(ids).data
    cache = model.new_cache(2)
    model(ids[:, :3], cache=cache)
    cache.truncate(2)
    got = model(ids[:, 2:], cache=cache).data
    np.testing.assert_allclose(got, want[:, 2:], rtol=1e-9, atol=1e-9)
    cache.truncate(3)
    swapped = cache.select_rows([1, 0, 1])
    got = model(ids[[1, 0, 1], 3:], cache=swapped).data
    np.testing.assert_allclose(got[:, 0], want[[1, 0, 1], 3], rtol=1e-9, atol=1e-9)
    assert cache.length == 3
    assert swapped.length == 4
    with pytest.raises(ConfigError, match="from 0 to 3"):
        cache.truncate(4)


def test_size_and_errors(model):
    cache = model.new_cache(2, 10)
    assert cache.nbytes == 2 * 2 * (2 * 2 * 10 * 4) * 8
    with pytest.raises(ShapeError, match="do not fit into max_length=10"):
        model(np.ones((2, 11), int), cache=cache)
    with pytest.raises(ShapeError, match="expected keys of shape"):
        model(np.ones((3, 1), int), cache=model.new_cache(2))
    with pytest.raises(ConfigError, match="padding must be one integer"):
        model.new_cache(2, padding=[1])
    with pytest.raises(ShapeError, match="at least one token"):
        nn.left_pad([[1], []])


def test_a_cached_pass_records_no_graph(model):
    assert not model([[1, 2]], cache=model.new_cache(1)).requires_grad
    assert model([[1, 2]]).requires_grad
