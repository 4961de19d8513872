"""Byte-pair encoding of odd texts: the same merges and ids, and work that grows with the text."""

import random
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_llm.tokenizers import BPETokenizer, fast_pairs, pre_split
from tinygrad_llm.tokenizers.byte_pair import learn_merges_readable, merge_piece
from tinygrad_llm.tokenizers.fast_pairs import learn_merges, merge_long_piece
from tinygrad_llm.tokenizers.pre_split import cut_long_spaces, split_pieces

TEXT = """It's the end of the world as we know it, and we'll feel fine: the weather was fine, the
  whether 123 1234 not.\n\n\tThey're naïve café people — 日本語 日本 🙂🙂 … don't you think?"""


def genome(n: int) -> bytes:
    return "".join(random.Random(1).choices("ACGT", k=n)).encode()


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=12) | st.text("ab", min_size=1).map(str.encode),
        st.integers(1, 9),
        max_size=12,
    ),
    st.integers(0, 40),
)
def test_fast_and_readable_training_find_the_same_merges(pieces: dict, n_merges: int) -> None:
    assert learn_merges(pieces, n_merges) == learn_merges_readable(pieces, n_merges)


def test_fast_and_readable_training_agree_on_prose() -> None:
    pieces = {piece.encode(): n for piece, n in Counter(split_pieces(TEXT * 3)).items()}
    merges = learn_merges_readable(pieces, 400)
    assert 60 < len(merges) < 400, "until no pair is left"
    assert learn_merges(pieces, 400) == merges


@pytest.mark.parametrize("learn", [learn_merges, learn_merges_readable])
def test_training_on_the_example_of_sennrich_et_al(learn) -> None:
    pieces = {b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}
    merges = learn(pieces, 4)
    assert merges[:2] == [(b"e", b"s"), (b"es", b"t")]
    assert (b"l", b"o") in merges


@given(
    st.lists(st.text("ab", min_size=1, max_size=30).map(str.encode), min_size=1, max_size=4),
    st.integers(0, 30),
    st.text("abc").map(str.encode),
)
def test_long_and_readable_encoding_give_the_same_ids(
    texts: list[bytes], n_merges: int, piece: bytes
) -> None:
    ranks = BPETokenizer(learn_merges(Counter(texts), n_merges)).ranks
    assert merge_long_piece(piece, ranks) == merge_piece(piece, ranks)


@pytest.mark.parametrize("piece", [genome(30_000), b"a" * 30_000, b"ab" * 15_000])
def test_a_long_piece_is_encoded_as_tiktoken_does_it(piece: bytes) -> None:
    tokenizer = BPETokenizer(learn_merges({piece: 1}, 60))
    assert tokenizer._fast is not None
    ids = tokenizer._fast.encode_ordinary(piece.decode())
    assert merge_long_piece(piece, tokenizer.ranks) == ids
    assert tokenizer.encode_readable(piece.decode()) == ids


def test_learning_looks_at_each_place_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    where_still = fast_pairs._Row.where_still

    def counting(row, pair, places):
        looked_at.append(len(places))
        return where_still(row, pair, places)

    monkeypatch.setattr(fast_pairs._Row, "where_still", counting)
    assert len(learn_merges({genome(20_000): 1}, 700)) == 700
    assert sum(looked_at) < 10 * 20_000
    assert len(looked_at) < 10 * 700


@given(st.lists(st.sampled_from([" ", "\n", "   ", "\u3000" * 4, "\x1c", "a", "1"]), max_size=9))
def test_cutting_long_spaces_changes_nothing(parts: list[str]) -> None:
    text = "".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pre_split, "LONG_SPACE", 3)
        cut = cut_long_spaces(text)
    assert "".join(cut) == text
    assert [piece for part in cut for piece in split_pieces(part)] == split_pieces(text)


@pytest.mark.parametrize("run", [1, 99, 199, 1_000_000])
def test_looking_for_long_spaces_reads_a_text_about_once(
    monkeypatch: pytest.MonkeyPatch, run: int
) -> None:
    spaces, read = pre_split._spaces, []

    class Counting:
        def match(self, text, place):
            found = spaces.match(text, place)
            read.append(1 if found is None else len(found[0]))
            return found

    monkeypatch.setattr(pre_split, "_spaces", Counting())
    monkeypatch.setattr(pre_split, "LONG_SPACE", 100)
    text = (" " * run + "x") * (100_000 // run) + " " * 50_000
    cut_long_spaces(text)
    assert sum(read) <= 2 * len(text)


def test_learning_from_one_long_piece_is_bounded_in_memory():
    piece = np.random.default_rng(0).integers(0, 200, 100_000, np.uint8).tobytes()
    tracemalloc.start()
    learn_merges({piece: 1}, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 52 * len(piece)
