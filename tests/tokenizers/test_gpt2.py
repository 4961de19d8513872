"""GPT-2's tokenizer: against tiktoken, against the book, and where its files may lie."""

import json
import random
import shutil
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_llm import tokenizers
from tinygrad_llm.backend.download import RemoteFile
from tinygrad_llm.errors import TokenizerError
from tinygrad_llm.tokenizers import BPETokenizer, gpt2

gpt2_module = __import__("sys").modules["tinygrad_llm.tokenizers.gpt2"]

EOT = "<|endoftext|>"
SHARED_CACHE = Path(__file__).parents[2].parent / "shared" / "data" / "tiktoken-cache"

HARD = [
    "",
    " ",
    "\n\n \n",
    "\u00a0\u2003\u3000 \x1c\x1d\x1e\x1f\x85x",
    "it's we'll I'D don't 'tis 's's''s 've",
    "1234567 ①②③ Ⅷ ½ ٣٤٥ 𝟘",
    "日本語の文章。한국어 العربية हिन्दी ไทย",
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 e\u0301 \u0301 \ufeff \ufffd",
    "\0\x01\x7f\x80\x9f\t\v\f\r",
    "a" * 5000,
    " " * 3000 + "x",
    "\t" * 700 + "\n" * 700,
    "ab" * 2500,
    "!?" * 1500,
    "\U00010000\U0001f600\U0002a6df\U000e0001\U0010ffff",
    "<|endoftext|",
    "a\ud800b\ude00 \ud83d\ude42",
]


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    with pytest.MonkeyPatch.context() as patch:
        if SHARED_CACHE.is_dir():
            patch.setenv("TIKTOKEN_CACHE_DIR", str(SHARED_CACHE))
        patch.setattr(gpt2_module, "fetch", _no_download)
        try:
            return gpt2()
        except TokenizerError:
            pytest.skip("GPT-2's vocabulary is not on this machine")


def _no_download(*_: object) -> Path:
    raise gpt2_module.DataError("no download in tests")


@pytest.fixture(scope="module")
def oracle(tokenizer: BPETokenizer) -> Callable[[str], list[int]]:
    """tiktoken's own GPT-2, from the same files, with its own reader and pattern."""
    tiktoken = pytest.importorskip("tiktoken")
    if not SHARED_CACHE.is_dir():
        pytest.skip("tiktoken's cache is not on this machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(SHARED_CACHE))
        encoding = tiktoken.get_encoding("gpt2")
    return lambda text: encoding.encode(text, disallowed_special=())


def test_the_books_example(tokenizer: BPETokenizer) -> None:
    text = "Hello, do you like tea? <|endoftext|> In the sunlit terracesof someunknownPlace."
    ids = [
        15496,
        11,
        466,
        345,
        588,
        8887,
        30,
        220,
        50256,
        554,
        262,
        4252,
        18250,
        8812,
        2114,
        1659,
        617,
        34680,
        27271,
        13,
    ]
    assert tokenizer.encode(text, allowed_special={EOT}) == ids
    assert tokenizer.encode_readable(text, allowed_special="all") == ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.vocab_size == 50257
    assert tokenizer.end_of_text_id == 50256


@pytest.mark.parametrize("text", HARD, ids=lambda text: ascii(text[:12]))
def test_hard_text_equals_tiktoken(tokenizer: BPETokenizer, oracle: Callable, text: str) -> None:
    expected = oracle(text)
    assert tokenizer.encode(text, disallowed_special=()) == expected
    assert tokenizer.encode_readable(text, disallowed_special=()) == expected


@given(text=st.text(st.characters(exclude_categories=["Cs", "Cn"])))
def test_any_text_equals_tiktoken(tokenizer: BPETokenizer, oracle: Callable, text: str) -> None:
    expected = oracle(text)
    assert tokenizer.encode(text, disallowed_special=()) == expected
    assert tokenizer.encode_readable(text, disallowed_special=()) == expected
    assert tokenizer.decode(expected) == text


@pytest.mark.slow
def test_120_000_random_strings_equal_tiktoken(tokenizer: BPETokenizer, oracle: Callable) -> None:
    rng = random.Random(0)
    n_equal = 0
    for _ in range(120_000):
        text = random_string(rng)
        expected = oracle(text)
        assert tokenizer.encode(text, disallowed_special=()) == expected, ascii(text)
        assert tokenizer.encode_readable(text, disallowed_special=()) == expected, ascii(text)
        n_equal += 1
    print(f"{n_equal} random strings: all equal to tiktoken")


def random_string(rng: random.Random) -> str:
    """A string out of one of several worlds: English, dense white space, any code point...

    Code points that Python's Unicode does not have may be letters to one library alone.
    """
    words = [
        "the",
        " The",
        "it's",
        "'ll",
        "'S",
        " 42",
        "don't",
        "naïve",
        " über",
        "日本",
        "🙂",
        "\n",
    ]
    pick = {
        0: lambda: rng.choice(words),
        1: lambda: rng.choice(" \t\n\r\u00a0\u3000\x1c\x85ab'"),
        2: lambda: chr(rng.randrange(32, 127)),
        3: lambda: chr(rng.randrange(256)),
        4: lambda: chr(rng.randrange(0xD800)),
        5: lambda: chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])),
        6: lambda: rng.choice("'stremvdl 1aA."),
    }[rng.randrange(7)]
    picked = "".join(pick() for _ in range(rng.randrange(1, 25)))
    return "".join(sign for sign in picked if unicodedata.category(sign) != "Cn")


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any vocabulary and without a network; returns the cache folder."""
    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    monkeypatch.setenv("TINYGRAD_LLM_CACHE", str(tmp_path / "cache"))
    for name in ("ENCODER", "MERGES"):
        remote = getattr(gpt2_module, name)
        unreachable = RemoteFile(remote.name, "http://127.0.0.1:9/" + remote.name, remote.sha256)
        monkeypatch.setattr(gpt2_module, name, unreachable)
    return tmp_path / "cache" / "gpt2"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with GPT-2's two files, for a small vocabulary."""
    folder = tmp_path / "small"
    BPETokenizer.train("the cat and the hat, the end", 262, [EOT]).save(folder)
    (folder / "tinygrad_llm_tokenizer.json").unlink()
    (folder / "checksums.json").unlink()
    return folder


def test_nothing_there_says_which_files_to_put_where(nowhere: Path) -> None:
    with pytest.raises(TokenizerError) as caught:
        gpt2()
    message = str(caught.value)
    for part in (
        "encoder.json",
        "vocab.bpe",
        "vocab.json",
        "merges.txt",
        str(nowhere),
        "TIKTOKEN_CACHE_DIR",
    ):
        assert part in message


def test_either_pair_of_names_and_the_own_cache(nowhere: Path, small: Path) -> None:
    first = gpt2(small)
    nowhere.mkdir(parents=True)
    shutil.copy(small / "vocab.json", nowhere / "encoder.json")
    shutil.copy(small / "merges.txt", nowhere / "vocab.bpe")
    for other in (gpt2(), gpt2(nowhere), tokenizers.load(small)):
        assert other.to_dict() == first.to_dict()
    assert first.end_of_text_id == 261


def test_tiktokens_cache_is_used_when_intact(
    nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not SHARED_CACHE.is_dir():
        pytest.skip("tiktoken's cache is not on this machine")
    cache = tmp_path / "tiktoken"
    shutil.copytree(SHARED_CACHE, cache)
    base = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
    for name in ("ENCODER", "MERGES"):
        remote = getattr(gpt2_module, name)
        real = RemoteFile(remote.name, base + remote.name, remote.sha256)
        monkeypatch.setattr(gpt2_module, name, real)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
    assert gpt2().vocab_size == 50257
    damaged = next(cache.iterdir())
    damaged.chmod(0o644)
    damaged.write_bytes(b"damaged")
    monkeypatch.setattr(gpt2_module, "fetch", _no_download)
    with pytest.raises(TokenizerError, match="no download in tests"):
        gpt2()


def test_added_tokens(small: Path) -> None:
    (small / "added_tokens.json").write_text('{"<|user|>": 262}', encoding="utf-8")
    assert tokenizers.load(small).special_tokens == {EOT: 261, "<|user|>": 262}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("vocab.json", lambda text: text[:-5], "not GPT-2's vocabulary files"),
        ("vocab.json", lambda text: "[1, 2]", "token -> id"),
        ("vocab.json", lambda text: json.dumps({"a": "b"}), "token -> id"),
        ("vocab.json", lambda text: text.replace('"he": ', '"he": 9'), "token 'he' has id"),
        ("merges.txt", lambda text: text.replace("h e", "h", 1), "expected two tokens"),
        ("merges.txt", lambda text: text + "zz zz\n", "joins a token not made before"),
        ("merges.txt", lambda text: "\n".join(text.split("\n")[:-2]), "merges is cut off"),
    ],
)
def test_damaged_vocabularies(small: Path, name: str, change: Callable, message: str) -> None:
    path = small / name
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(TokenizerError, match=message):
        gpt2(small)


def test_a_folder_without_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="vocab.json and merges.txt"):
        gpt2(tmp_path)
