"""Sliding windows, splits and batches: the order is exact, complete, and can be continued."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_llm.data import BatchLoader, Document, TokenDataset, encode_documents, split_ids
from tinygrad_llm.data.order import permuted, random_below, round_keys
from tinygrad_llm.errors import ConfigError, DataError
from tinygrad_llm.tokenizers import BPETokenizer, CharTokenizer

EOT = "<|endoftext|>"


def test_documents_are_joined_with_end_of_text() -> None:
    tokenizer = BPETokenizer([], [EOT])
    ids = encode_documents([Document("a", "hi"), "", Document("b", EOT)], tokenizer)
    assert ids.dtype == np.uint16
    assert tokenizer.decode(ids) == "hi" + EOT + EOT + EOT
    assert list(ids[2:4]) == [256, 256]
    assert len(ids) == 4 + len(EOT)  # the last one is ordinary text, byte by byte


def test_documents_without_end_of_text_are_joined_directly() -> None:
    tokenizer = CharTokenizer.train("abc")
    assert tokenizer.decode(encode_documents(["ab", "c"], tokenizer)) == "abc"
    for nothing in ([], [""]):
        with pytest.raises(DataError, match="no token in the documents"):
            encode_documents(nothing, tokenizer)


@given(st.integers(2, 60), st.integers(1, 9), st.integers(1, 9))
def test_windows_against_the_books_loop(n: int, context: int, stride: int) -> None:
    ids = np.arange(100, 100 + n)
    expected = [
        (ids[i : i + context], ids[i + 1 : i + context + 1]) for i in range(0, n - context, stride)
    ]
    if not expected:
        with pytest.raises(DataError, match="shorter than a window"):
            TokenDataset(ids, context, stride)
        return
    dataset = TokenDataset(ids, context, stride)
    assert len(dataset) == len(expected)
    for (x, y), (book_x, book_y) in zip(
        map(dataset.__getitem__, range(len(dataset))), expected, strict=True
    ):
        assert x.dtype == y.dtype == np.int64
        assert np.array_equal(x, book_x)
        assert np.array_equal(y, book_y)


def test_windows_by_default_make_every_token_a_target_once() -> None:
    dataset = TokenDataset(np.arange(21), 5)
    targets = np.concatenate([y for _, y in dataset])
    assert targets.tolist() == list(range(1, 21))


@pytest.mark.parametrize(
    ("ids", "context", "stride", "error", "message"),
    [
        (np.arange(9), 0, None, ConfigError, "context_length: expected at least 1"),
        (np.arange(9), 3, 0, ConfigError, "stride: expected at least 1"),
        (np.arange(4), 4, None, DataError, "4 tokens, shorter than a window of 4"),
        (np.zeros((3, 3), int), 1, None, DataError, "a row of integers"),
        (np.zeros(9), 1, None, DataError, "float64"),
        ([1, 2, 3], 1, None, DataError, "got list"),
    ],
)
def test_bad_datasets(ids, context, stride, error, message) -> None:
    with pytest.raises(error, match=message):
        TokenDataset(ids, context, stride)


def test_split_holds_out_the_end() -> None:
    train, validation = split_ids(np.arange(100), 0.2, context_length=8)
    assert np.concatenate([train, validation]).tolist() == list(range(100))
    assert len(validation) == 20
    with pytest.raises(DataError, match="validation part has 10 of 100 tokens"):
        split_ids(np.arange(100), 0.1, context_length=10)
    for outside in (1.5, 1.0, -0.1):
        with pytest.raises(ConfigError, match="from 0 up to 1"):
            split_ids(np.arange(100), outside)
    everything, nothing = split_ids(np.arange(9), 0, context_length=8)
    assert (len(everything), len(nothing)) == (9, 0)
    with pytest.raises(DataError, match="training part has 9 of 9 tokens"):
        split_ids(np.arange(9), 0, context_length=9)


def loader(batch_size: int = 3, n: int = 101, **options) -> BatchLoader:
    return BatchLoader(TokenDataset(np.arange(n), 4), batch_size, **options)


def first_tokens(batches) -> list[int]:
    return [int(row[0]) for x, _ in batches for row in x]


def test_shapes_and_targets() -> None:
    x, y = loader().next_batch()
    assert x.shape == y.shape == (3, 4)
    assert x.dtype == y.dtype == np.int64
    assert np.array_equal(x + 1, y)


@given(st.integers(1, 12), st.integers(0, 3))
def test_an_epoch_visits_each_window_once(batch_size: int, seed: int) -> None:
    batches = loader(batch_size, seed=seed, drop_last=False)
    seen = first_tokens(batches)
    assert sorted(seen) == list(range(0, 100, 4))
    again = first_tokens(batches)
    assert sorted(again) == sorted(seen)
    assert again != seen
    assert batches.epoch == 2
    assert len(batches) == -(-25 // batch_size)


def test_order_depends_on_the_seed_and_on_nothing_else() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    orders = [first_tokens(loader(seed=s)) for s in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert np.array_equal(np.random.get_state()[1], before)
    assert orders[0][:6] == [84, 80, 24, 96, 52, 20]  # the same on every machine and NumPy


def test_without_shuffling_batches_follow_the_text() -> None:
    assert first_tokens(loader(shuffle=False)) == list(range(0, 96, 4))


@given(
    st.integers(0, 40),
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([{}, {"random_crops": True}, {"shuffle": False}]),
)
def test_a_restored_position_continues_exactly(
    steps: int, batch_size: int, new_batch_size: int, options: dict
) -> None:
    a = loader(batch_size, seed=5, **options)
    for _ in range(steps):
        a.next_batch()
    state = json.loads(json.dumps(a.state()))
    b = loader(batch_size, seed=99, **options)
    b.set_state(state)
    for _ in range(20):
        for left, right in zip(a.next_batch(), b.next_batch(), strict=True):
            assert np.array_equal(left, right)
    c = loader(new_batch_size, **options)
    one_by_one = loader(1, **options)
    one_by_one.set_state(state)
    c.set_state(state)
    epoch = c.epoch
    batch = c.next_batch()
    assert batch[0].shape == (new_batch_size, 4)
    if epoch == state["epoch"]:
        rest = [one_by_one.next_batch() for _ in range(new_batch_size)]
        assert first_tokens([batch]) == first_tokens(rest)


@given(st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_ranks_share_out_the_batches_of_one_process(
    batch_size: int, world_size: int, crops: bool
) -> None:
    one = loader(batch_size * world_size, seed=3, random_crops=crops)
    ranks = [
        loader(batch_size, seed=3, random_crops=crops, rank=r, world_size=world_size)
        for r in range(world_size)
    ]
    for _ in range(12):
        whole, _ = one.next_batch()
        parts = [rank.next_batch()[0] for rank in ranks]
        assert np.array_equal(np.concatenate(parts), whole)
    assert len({json.dumps(rank.state()) for rank in [one, *ranks]}) == 1


@given(st.integers(1, 3000), st.integers(0, 2**32), st.integers(0, 5))
def test_shuffled_numbers_are_a_permutation(n: int, seed: int, epoch: int) -> None:
    keys = round_keys(seed, epoch)
    found = permuted(np.arange(n), n, keys)
    assert np.array_equal(np.sort(found), np.arange(n))
    some = np.array([0, n // 2, n - 1])
    assert np.array_equal(permuted(some, n, keys), found[some])
    drawn = random_below(np.arange(n), n, keys)
    assert 0 <= drawn.min() <= drawn.max() < n


def test_shuffled_order_looks_random() -> None:
    """Neighbours are as far apart, and displacements as large, as in a true shuffle."""
    n = 5000
    found = np.stack([permuted(np.arange(n), n, round_keys(7, e)) for e in range(20)])
    gaps = np.abs(np.diff(found, axis=1)).mean(axis=1) / n  # uniform pairs: 1/3
    moved = np.abs(found - np.arange(n)).mean(axis=1) / n
    assert np.allclose(gaps, 1 / 3, atol=0.012)
    assert np.allclose(moved, 1 / 3, atol=0.02)
    fixed = (found == np.arange(n)).sum(axis=1)  # Poisson with mean 1
    assert fixed.mean() < 3
    place = found.argmin(axis=1)  # where number 0 goes differs from epoch to epoch
    assert len(set(place.tolist())) > 15
    drawn = np.bincount(random_below(np.arange(50_000), 50, round_keys(3, 0)), minlength=50)
    assert 850 < drawn.min() <= drawn.max() < 1150  # mean 1000, deviation 31


def test_order_of_a_billion_windows_takes_no_memory() -> None:
    class Endless:
        dtype, shape = np.dtype(np.uint16), (10**12,)

        def __len__(self) -> int:
            return 10**12

        def __getitem__(self, key: slice) -> np.ndarray:
            return np.arange(key.start, key.stop)

    for options in ({}, {"random_crops": True}):
        batches = BatchLoader(TokenDataset(Endless(), 1000), 4, **options)
        x, _ = batches.next_batch()
        assert len({int(row[0]) // 10**10 for row in x}) > 1


def test_random_crops_start_anywhere() -> None:
    starts = first_tokens(loader(n=1001, random_crops=True))
    assert {s % 4 for s in starts} == {0, 1, 2, 3}
    assert 0 <= min(starts) < 50
    assert 950 < max(starts) <= 996


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"windows": 7}, "windows = 7, but this run has 25"),
        ({"random_crops": True}, "random_crops = True"),
        ({"epoch": -1}, "damaged"),
        ({"samples": 26}, "damaged"),
        ({"seed": None}, "damaged"),
        ({"epoch": True}, "damaged"),
    ],
)
def test_foreign_or_damaged_positions(change: dict, message: str) -> None:
    batches = loader()
    with pytest.raises(DataError, match=message):
        batches.set_state({**batches.state(), **change})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ConfigError, "batch_size"),
        ({"batch_size": 26}, DataError, "25 windows of 4 tokens, fewer than a batch of 26"),
        ({"rank": 2, "world_size": 2}, ConfigError, r"expected 0 \.\. 1, got 2"),
        ({"world_size": 0}, ConfigError, "world_size"),
        ({"seed": -1}, ConfigError, "seed"),
        ({"drop_last": False, "world_size": 2}, ConfigError, "cannot be shared out"),
    ],
)
def test_bad_loaders(options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        loader(**options)
