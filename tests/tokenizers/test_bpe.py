"""Byte-pair encoding: training against a naive trainer, encoding against tiktoken, files."""

import json
import re
import sys
import unicodedata
from pathlib import Path

import pytest
import regex
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_llm import tokenizers
from tinygrad_llm.errors import TokenizerError
from tinygrad_llm.tokenizers import BPETokenizer, StreamDecoder
from tinygrad_llm.tokenizers.byte_map import BYTE_TO_CHARACTER, from_visible, to_visible
from tinygrad_llm.tokenizers.pre_split import GPT2_PATTERN, split_pieces

EOT = "<|endoftext|>"
TEXT = """It's the end of the world as we know it, and we'll feel fine: the weather was fine, the
  whether 123 1234 not.\n\n\tThey're naïve café people — 日本語 日本 🙂🙂 … don't you think?"""

dense_text = st.text(alphabet="ab '\n\t\u00a0ls3ðŸ🙂") | st.text(alphabet="a ")
any_text = st.text() | dense_text


@pytest.fixture(scope="module")
def trained() -> BPETokenizer:
    return BPETokenizer.train([TEXT, TEXT[::-1]], 340, [EOT, "<|user|>"])


def test_sizes_and_ids(trained: BPETokenizer) -> None:
    assert trained.vocab_size == 340
    assert trained.special_tokens == {EOT: 338, "<|user|>": 339}
    assert trained.end_of_text_id == 338
    assert trained.token_bytes(0) == b"!"
    assert trained.encode(EOT, allowed_special="all") == [338]


def test_merges_that_run_out_give_a_smaller_tokenizer_and_a_warning() -> None:
    with pytest.warns(UserWarning, match="after 2 of 744 merges; the vocabulary has 258 tokens"):
        tokenizer = BPETokenizer.train("abc", 1000)
    assert tokenizer.vocab_size == 258
    for text in ("", "a"):
        with pytest.warns(UserWarning, match="no pair is left"):
            assert BPETokenizer.train(text, 300).vocab_size == 256


def test_special_tokens_in_the_training_text_are_not_learned() -> None:
    with pytest.warns(UserWarning, match="no pair is left"):
        tokenizer = BPETokenizer.train(f"ab{EOT}ab", 300, [EOT])
    assert tokenizer.merges == [(b"a", b"b")]


@given(any_text)
def test_round_trip_and_equality_of_both_encoders(trained: BPETokenizer, text: str) -> None:
    ids = trained.encode(text, disallowed_special=())
    assert trained.encode_readable(text, disallowed_special=()) == ids
    assert trained.decode(ids) == text


@given(st.lists(st.sampled_from([EOT, "<|user|>", "<|", "end", "|>", " ", "x", "🙂"])))
def test_special_tokens_are_equal_in_both_encoders_and_in_tiktoken(
    trained: BPETokenizer, parts: list[str]
) -> None:
    oracle = tiktoken.Encoding(
        "oracle",
        pat_str=GPT2_PATTERN,
        mergeable_ranks=trained.ranks,
        special_tokens=trained.special_tokens,
    )
    text = "".join(parts)
    for policy in (
        {"allowed_special": "all"},
        {"disallowed_special": ()},
        {"allowed_special": {EOT}, "disallowed_special": ()},
    ):
        ids = oracle.encode(text, **policy)
        assert trained.encode(text, **policy) == ids
        assert trained.encode_readable(text, **policy) == ids
    refused = EOT in text or "<|user|>" in text
    if refused:
        with pytest.raises(TokenizerError, match="not allowed"):
            trained.encode(text)
    else:
        assert trained.encode(text) == oracle.encode(text)


def test_longest_special_token_wins() -> None:
    tokenizer = BPETokenizer([], ["<a>", "<a><b>"])
    assert tokenizer.encode("<a><b><a>", allowed_special="all") == [257, 256]


@pytest.mark.parametrize("text", ["\ud83d\ude42", "a\ud800b", "\udc00"])
def test_surrogates_are_repaired_as_tiktoken_does(trained: BPETokenizer, text: str) -> None:
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert trained.decode(trained.encode(text)) == expected
    assert trained.encode_readable(text) == trained.encode(text)


def test_without_tiktoken_the_readable_encoder_takes_over(
    trained: BPETokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = trained.encode(TEXT)
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    alone = BPETokenizer(trained.merges, list(trained.special_tokens))
    assert alone._fast is None
    assert alone.encode(TEXT) == ids


def kind_of(character: str) -> str:
    """Letter, number, space or other, from the character's own data in Python."""
    if character.isspace() and not "\x1c" <= character <= "\x1f":
        return "space"
    return {"L": "letter", "N": "number"}.get(unicodedata.category(character)[0], "other")


def split_by_hand(text: str) -> list[str]:
    """GPT-2's pre-split as a walk from character to character."""
    pieces: list[str] = []
    at = 0
    while at < len(text):
        contraction = re.compile("'(s|t|re|ve|m|ll|d)").match(text, at)
        first = at + (text[at] == " " and at + 1 < len(text))
        end = first
        if contraction:
            end = contraction.end()
        elif kind_of(text[first]) != "space":
            while end < len(text) and kind_of(text[end]) == kind_of(text[first]):
                end += 1
        else:
            end = at
            while end < len(text) and kind_of(text[end]) == "space":
                end += 1
            end -= end < len(text) and end - at > 1  # the last one is left to the word
        pieces.append(text[at:end])
        at = end
    return pieces


# The regex package may know a newer Unicode than this Python, so only assigned characters.
@given(st.text(st.characters(exclude_categories=["Cn", "Cs"])) | dense_text)
def test_pre_split_equals_a_walk_over_the_characters(text: str) -> None:
    assert split_pieces(text) == split_by_hand(text)


@pytest.mark.parametrize("kind", [r"\p{L}", r"\p{N}", r"\s"])
def test_every_code_point_has_the_class_that_tiktoken_gives_it(kind: str) -> None:
    every = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    single_bytes = {bytes([b]): b for b in range(256)}
    oracle = tiktoken.Encoding(
        "oracle", pat_str=kind, mergeable_ranks=single_bytes, special_tokens={}
    )
    theirs = bytes(oracle.encode_ordinary("".join(every))).decode("utf-8")
    ours = regex.findall(kind, "".join(every))
    assert set(theirs) <= set(ours)
    newer = set(ours) - set(theirs)  # assigned in a Unicode that tiktoken does not know yet
    assert (
        all(unicodedata.category(c) == "Cn" for c in newer)
        or unicodedata.unidata_version > "16.0.0"
    )


@pytest.mark.parametrize("run", [" ", "\n", "a", "^", "'"])
def test_a_run_of_a_million(trained: BPETokenizer, run: str) -> None:
    text = run * 1_000_000 + "x"
    assert trained.decode(trained.encode(text)) == text


def test_pre_split_examples() -> None:
    pieces = split_pieces("it's  we'LL 42nd\n\n x\t")
    assert pieces == ["it", "'s", " ", " we", "'", "LL", " 42", "nd", "\n\n", " x", "\t"]


def test_byte_map() -> None:
    assert to_visible(b" the\n") == "ĠtheĊ"
    assert len(set(BYTE_TO_CHARACTER.values())) == 256
    assert from_visible(to_visible(bytes(range(256)))) == bytes(range(256))


@given(st.lists(st.integers(0, 339)))
def test_stream_equals_decode(trained: BPETokenizer, ids: list[int]) -> None:
    decoder = StreamDecoder(trained)
    assert "".join(map(decoder.push, ids)) + decoder.finish() == trained.decode(ids)


def test_stream_holds_back_half_a_character() -> None:
    tokenizer = BPETokenizer([])
    decoder = StreamDecoder(tokenizer)
    pushed = [decoder.push(i) for i in tokenizer.encode("🙂é")]
    assert pushed == ["", "", "", "🙂", "", "é"]
    assert decoder.push(tokenizer.encode("é")[0]) == ""
    assert decoder.finish() == "\ufffd"
    assert decoder.finish() == ""
    with pytest.raises(TokenizerError, match="out of range"):
        decoder.push(256)


def test_adding_special_tokens_keeps_all_ids(trained: BPETokenizer) -> None:
    grown = trained.with_special_tokens(["<|pad|>"])
    assert grown.vocab_size == trained.vocab_size + 1
    assert grown.encode(TEXT) == trained.encode(TEXT)
    assert grown.special_tokens == {**trained.special_tokens, "<|pad|>": 340}
    with pytest.raises(TokenizerError, match="different, non-empty"):
        trained.with_special_tokens([EOT])


def test_save_and_load(trained: BPETokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path)
    for opened in (BPETokenizer.load(tmp_path), tokenizers.load(tmp_path)):
        assert opened.merges == trained.merges
        assert opened.special_tokens == trained.special_tokens
        assert opened.encode(TEXT) == trained.encode(TEXT)
    (tmp_path / "tinygrad_llm_tokenizer.json").unlink()
    (tmp_path / "checksums.json").unlink()
    from_gpt2_files = tokenizers.load(tmp_path)
    assert from_gpt2_files.to_dict() == trained.to_dict()
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["eos_token"] == EOT


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        (["a b", "a b"], "comes twice"),
        (["ab c"], "joins a token not made before"),
        (["abc"], "expected two tokens"),
        (["a b c"], "expected two tokens"),
        (["a \n"], "expected two tokens"),
        ([3], "missing or wrong"),
    ],
)
def test_damaged_merges(merges: list, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        BPETokenizer.from_dict({"special_tokens": [], "merges": merges})


def test_vocab_size_too_small() -> None:
    with pytest.raises(TokenizerError, match="need at least 257"):
        BPETokenizer.train("abc", 256, [EOT])


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_flipped_byte_in_the_file_is_noticed(
    trained: BPETokenizer, tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    path = trained.save(tmp_path_factory.mktemp("damaged"))
    content = bytearray(path.read_bytes())
    position %= len(content)
    if content[position] == value:
        return
    content[position] = value
    path.write_bytes(bytes(content))
    try:
        opened = tokenizers.load(path)
    except TokenizerError:
        return
    assert opened.to_dict() == trained.to_dict()  # only white space was changed
