"""WordTokenizer against the numbers that Raschka's book prints, CharTokenizer by its round trip."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_llm import tokenizers
from tinygrad_llm.errors import TokenizerError
from tinygrad_llm.tokenizers import CharTokenizer, StreamDecoder, WordTokenizer

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
TEXT = 'The cat sat, and the dog -- it sat too. Did it? "Yes!" (it\'s so)'


def test_the_books_ids_on_the_verdict() -> None:
    path = SHARED / "the-verdict.txt"
    if not path.exists():
        pytest.skip("the-verdict.txt is not here")
    tokenizer = WordTokenizer.train(path.read_text(encoding="utf-8"))
    text = "Hello, do you like tea? <|endoftext|> In the sunlit terraces of the palace."
    ids = [1131, 5, 355, 1126, 628, 975, 10, 1130, 55, 988, 956, 984, 722, 988, 1131, 7]
    assert tokenizer.vocab_size == 1132
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == (
        "<|unk|>, do you like tea? <|endoftext|> In the sunlit terraces of the <|unk|>."
    )


def test_word_vocabulary_is_sorted_and_special_tokens_come_last() -> None:
    tokenizer = WordTokenizer.train([TEXT, "a zebra"])
    words = tokenizer.tokens[:-2]
    assert words == sorted(set(words))
    assert tokenizer.tokens[-2:] == ["<|endoftext|>", "<|unk|>"]
    assert tokenizer.end_of_text_id == tokenizer.vocab_size - 2


def test_word_decode_repairs_spacing() -> None:
    tokenizer = WordTokenizer.train(TEXT)
    decoded = tokenizer.decode(tokenizer.encode("The cat sat , and the dog . Did it ?"))
    assert decoded == "The cat sat, and the dog. Did it?"


def test_word_encoding_of_its_own_decoding_is_stable() -> None:
    tokenizer = WordTokenizer.train(TEXT)
    ids = tokenizer.encode(TEXT)
    assert tokenizer.encode(tokenizer.decode(ids)) == ids


def test_word_without_unk_refuses_an_unknown_word() -> None:
    tokenizer = WordTokenizer.train(TEXT, special_tokens=())
    with pytest.raises(TokenizerError, match="'horse' is not in the vocabulary"):
        tokenizer.encode("the horse")


def test_word_reads_a_special_spelling_as_unknown_when_told_so() -> None:
    tokenizer = WordTokenizer.train(TEXT)
    ids = tokenizer.encode("cat <|endoftext|>", allowed_special=(), disallowed_special=())
    assert ids[1] == tokenizer.special_tokens["<|unk|>"]
    with pytest.raises(TokenizerError, match="<|endoftext|>"):
        tokenizer.encode("cat <|endoftext|>", allowed_special=())


@given(st.text(min_size=1))
def test_char_round_trip(text: str) -> None:
    tokenizer = CharTokenizer.train(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == len(set(text))


def test_char_vocabulary_of_tiny_shakespeare_is_nanogpts() -> None:
    path = SHARED / "tiny-shakespeare.txt"
    if not path.exists():
        pytest.skip("tiny-shakespeare.txt is not here")
    tokenizer = CharTokenizer.train(path.read_text(encoding="utf-8"))
    assert tokenizer.vocab_size == 65
    assert tokenizer.encode("hii there") == [46, 47, 47, 1, 58, 46, 43, 56, 43]


def test_char_unknown_character() -> None:
    with pytest.raises(TokenizerError, match=r"'é' \(U\+00E9\) at position 1"):
        CharTokenizer.train("abc").encode("béb")
    with_unknown = CharTokenizer.train("abc", special_tokens=["<|unk|>"])
    assert with_unknown.encode("béb", disallowed_special=()) == [1, 3, 1]


def test_char_special_tokens() -> None:
    tokenizer = CharTokenizer.train("abc", special_tokens=["<|endoftext|>"])
    assert tokenizer.encode("a<|endoftext|>b", allowed_special="all") == [0, 3, 1]
    assert tokenizer.decode([0, 3, 1]) == "a<|endoftext|>b"


@pytest.mark.parametrize("cls", [WordTokenizer, CharTokenizer])
def test_save_and_load(cls: type, tmp_path: Path) -> None:
    tokenizer = cls.train(TEXT, special_tokens=["<|endoftext|>", "<|unk|>"])
    tokenizer.save(tmp_path / "new" / "folder")
    for opened in (cls.load(tmp_path / "new" / "folder"), tokenizers.load(tmp_path / "new/folder")):
        assert type(opened) is cls
        assert opened.tokens == tokenizer.tokens
        assert opened.special_tokens == tokenizer.special_tokens
        assert opened.encode("The cat", disallowed_special=()) == tokenizer.encode("The cat")


def test_decode_takes_arrays_and_refuses_bad_ids() -> None:
    tokenizer = CharTokenizer.train("abc")
    assert tokenizer.decode(np.array([0, 1, 2])) == "abc"
    assert tokenizer.decode(np.int64(2)) == "c"
    assert tokenizer.decode([]) == ""
    for bad, message in [([3], "id 3 is out of range"), ([-1], "id -1"), ([0.5], "integer")]:
        with pytest.raises(TokenizerError, match=message):
            tokenizer.decode(bad)
    with pytest.raises(TokenizerError, match="one sequence of ids"):
        tokenizer.decode(np.zeros((2, 2), dtype=int))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: WordTokenizer.train(""), "vocabulary is empty"),
        (lambda: WordTokenizer.train(" \n\t"), "vocabulary is empty"),
        (lambda: CharTokenizer.train([]), "vocabulary is empty"),
        (lambda: CharTokenizer.train([b"bytes"]), "number 0 is a bytes"),
        (lambda: CharTokenizer("aba"), "more than once"),
        (lambda: CharTokenizer(["ab"]), "length 1"),
        (lambda: CharTokenizer("ab", "<|unk|>"), "expected a list of strings"),
        (lambda: CharTokenizer("ab", ["x", "x"]), "different, non-empty"),
        (lambda: CharTokenizer.train("ab").encode(b"ab"), "must be a string, got bytes"),
        (lambda: CharTokenizer.train("ab").encode("a", allowed_special="x"), 'must be "all"'),
    ],
)
def test_misuse(call, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        call()


def test_damaged_files(tmp_path: Path) -> None:
    path = CharTokenizer.train("abc").save(tmp_path)
    good = path.read_text(encoding="utf-8")
    body = json.loads(good)
    (tmp_path / "checksums.json").unlink()
    with pytest.raises(TokenizerError, match='of type "char"'):
        WordTokenizer.load(tmp_path)
    cases = {
        good[:-10]: "not a readable tokenizer file",
        good.replace('"b"', '"d"'): "checksum does not fit",
        json.dumps({**body, "version": 99}): "version 99",
        json.dumps([1]): 'JSON object with a "type"',
        json.dumps({"type": "char", "version": 1}): "is missing or wrong",
        json.dumps({"type": "sentence", "version": 1}): "expected one of",
    }
    for content, message in cases.items():
        path.write_text(content, encoding="utf-8")
        with pytest.raises(TokenizerError, match=message):
            tokenizers.load(tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TokenizerError, match="not a readable"):
        tokenizers.load(tmp_path)
    with pytest.raises(TokenizerError, match="no tokenizer there"):
        tokenizers.load(tmp_path / "absent")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(TokenizerError, match="cannot be written"):
        CharTokenizer.train("abc").save(tmp_path / "file" / "folder")


@given(st.data())
def test_stream_of_words_equals_decode(data: st.DataObject) -> None:
    tokenizer = WordTokenizer.train(TEXT)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    decoder = StreamDecoder(tokenizer)
    assert "".join(map(decoder.push, ids)) + decoder.finish() == tokenizer.decode(ids)
