import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_llm.backend.random import Generator
from tinygrad_llm.errors import ConfigError, DataError
from tinygrad_llm.finetuning.collate import IGNORE, buckets, last_real, pack, pad, truncate
from tinygrad_llm.finetuning.loader import BucketLoader


def share_of_padding(lengths, batches):
    """Part of all places that padding fills, from 0 to 1."""
    sizes = np.asarray(lengths)
    places = sum(len(batch) * int(sizes[batch].max()) for batch in batches)
    return 1 - float(sizes.sum()) / max(places, 1)


rows = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), min_size=1, max_size=20)


@given(rows)
def test_padding_can_be_taken_off_again(lists):
    ids, lengths = pad(lists, fill=99)
    assert [row[:n].tolist() for row, n in zip(ids, lengths, strict=True)] == lists
    assert all((row[n:] == 99).all() for row, n in zip(ids, lengths, strict=True))
    assert ids[np.arange(len(lists)), last_real(lengths)].tolist() == [row[-1] for row in lists]


def test_padding_to_a_given_length():
    ids, _ = pad([[1, 2]], 0, length=4)
    assert ids.tolist() == [[1, 2, 0, 0]]
    with pytest.raises(DataError, match="more than length=1"):
        pad([[1, 2]], 0, length=1)


@pytest.mark.parametrize("lists", [[], [[1], []]])
def test_rows_without_tokens_are_refused(lists):
    with pytest.raises(DataError, match="at least one token"):
        pad(lists, 0)


def test_truncation_keeps_the_start_or_the_end():
    assert truncate([1, 2, 3], 2) == [1, 2]
    assert truncate([1, 2, 3], 2, keep="end") == [2, 3]
    with pytest.raises(ConfigError):
        truncate([1], 0)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 4))
def test_buckets_hold_every_row_once_with_like_lengths(lengths, batch_size, pool):
    batches = buckets(lengths, batch_size, Generator(1), pool)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert max(map(len, batches)) <= batch_size
    if pool:
        return
    spans = sorted((min(lengths[i] for i in b), max(lengths[i] for i in b)) for b in batches)
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))


def test_buckets_save_padding():
    lengths = Generator(1).integers(5, 100, (200,))
    at_random = [np.arange(i, i + 10) for i in range(0, 200, 10)]
    all_sorted, pooled = buckets(lengths, 10, Generator(2)), buckets(lengths, 10, Generator(2), 4)
    shares = [share_of_padding(lengths, b) for b in (all_sorted, pooled, at_random)]
    assert shares == sorted(shares)
    assert shares[0] < 0.1 < 0.3 < shares[2]


def test_the_order_differs_between_epochs_and_can_be_continued():
    lengths = [3, 4, 5, 6, 7, 8, 9, 10, 3, 4]
    loader = BucketLoader(lengths, 2, seed=3)
    seen = [loader.next_batch()[0].tolist() for _ in range(len(loader))]
    state = loader.state()
    following = [loader.next_batch()[0].tolist() for _ in range(7)]
    assert following[: len(loader)] != seen
    other = BucketLoader(lengths, 2, seed=9)
    other.set_state(state)
    assert [other.next_batch()[0].tolist() for _ in range(7)] == following


@given(rows)
def test_packing_loses_nothing_and_separates_examples(lists):
    targets = [[i + 10 for i in row] for row in lists]
    packed = pack(lists, targets, length=12, fill=99)
    real = packed.targets != IGNORE
    assert sorted((packed.ids[real] + 10).tolist()) == sorted(t for row in targets for t in row)
    assert (packed.targets[real] == packed.ids[real] + 10).all()
    assert (packed.ids[~real] == 99).all()
    starts = (packed.positions == 0) & real
    assert starts.sum() == len(lists)
    example = np.where(real, np.cumsum(starts, axis=1), 0)  # (B, T)
    same = example[:, :, None] == example[:, None, :]
    np.testing.assert_array_equal(packed.mask[:, 0], same)


def test_an_example_longer_than_a_row_cannot_be_packed():
    with pytest.raises(DataError, match="1 to 3 tokens"):
        pack([[1, 2, 3, 4]], [[1, 2, 3, 4]], length=3, fill=0)
