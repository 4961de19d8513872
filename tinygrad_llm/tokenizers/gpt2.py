"""GPT-2's tokenizer: 256 bytes, 50,000 merges, and ``<|endoftext|>``.

Its vocabulary is two files of OpenAI's (1.5 MB together). They are looked for on this machine
first, then downloaded; `BPETokenizer` does the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from tinygrad_llm.backend.download import RemoteFile, fetch, sha256_of
from tinygrad_llm.backend.files import cache_folder
from tinygrad_llm.errors import DataError, TokenizerError
from tinygrad_llm.tokenizers import file_format, gpt2_files
from tinygrad_llm.tokenizers.bpe import BPETokenizer, parse_merges

_BASE = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
ENCODER = RemoteFile(
    "encoder.json",
    _BASE + "encoder.json",
    "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
)
MERGES = RemoteFile(
    "vocab.bpe",
    _BASE + "vocab.bpe",
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
)


def gpt2(folder: str | Path | None = None) -> BPETokenizer:
    """GPT-2's tokenizer, 50,257 tokens.

    The vocabulary is taken from the first of these that has it:

    1. ``folder``, if given: ``encoder.json`` and ``vocab.bpe`` (OpenAI's names) or ``vocab.json``
       and ``merges.txt`` (Hugging Face's names of the same files);
    2. tiktoken's cache: ``$TIKTOKEN_CACHE_DIR``, ``$DATA_GYM_CACHE_DIR``, or its default folder;
    3. this package's cache, ``$TINYGRAD_LLM_CACHE/gpt2`` (by default
       ``~/.cache/tinygrad_llm/gpt2``);
    4. a download into that cache, checked.

    Raises:
        TokenizerError: none of them has it (the message says which files to put where), or the
            files are damaged.
    """
    if folder is not None:
        return from_gpt2_files(Path(folder))
    for place in _tiktoken_caches():
        encoder, merges = place / _cached_name(ENCODER), place / _cached_name(MERGES)
        if _intact(encoder, ENCODER) and _intact(merges, MERGES):
            return _build(encoder, merges)
    cache = cache_folder() / "gpt2"
    if (files := gpt2_files.find(cache)) is not None:
        return _build(*files)
    try:
        return _build(fetch(ENCODER, cache), fetch(MERGES, cache))
    except DataError as error:
        raise TokenizerError(
            f"gpt2: no vocabulary on this machine, and it cannot be downloaded. {error}. Both "
            f"{ENCODER.name} and {MERGES.name} are needed, from {_BASE} (Hugging Face calls them "
            f"vocab.json and merges.txt). Put them into {cache}, or anywhere and call "
            "gpt2(folder), or set TIKTOKEN_CACHE_DIR to a folder where tiktoken has cached them."
        ) from error


def from_gpt2_files(folder: Path) -> BPETokenizer:
    """A tokenizer from a folder with GPT-2's files, under either pair of names.

    Tokens that no merge makes are special tokens; ``added_tokens.json`` may hold more of them.

    Raises:
        TokenizerError: the files are missing, damaged, or number their tokens otherwise.
    """
    file_format.verify(folder)
    files = gpt2_files.find(folder)
    if files is None:
        raise TokenizerError(
            f"{folder}: no GPT-2 vocabulary there. Expected encoder.json and vocab.bpe, or "
            "vocab.json and merges.txt."
        )
    return _build(*files, folder / "added_tokens.json")


def _build(encoder: Path, merges: Path, added: Path | None = None) -> BPETokenizer:
    try:
        lines, ids = gpt2_files.parse(encoder.read_bytes(), merges.read_bytes(), str(encoder))
        more = json.loads(added.read_bytes()) if added is not None and added.is_file() else {}
        ids |= more
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, TokenizerError):
            raise
        raise TokenizerError(f"{encoder.parent}: cannot be read ({error}).") from error
    plain = BPETokenizer(parse_merges(lines))
    ordinary = gpt2_files.visible_ids(plain.ranks)
    special = sorted(ids.keys() - ordinary.keys(), key=lambda name: ids[name])
    for name in special:
        if name not in more and not name.startswith(("<", "[")):
            raise TokenizerError(
                f"{merges}: no merge makes the token {name!r} of {encoder.name}, and it does not "
                "look like a special token (<...> or [...]). The file of merges is cut off."
            )
    tokenizer = plain.with_special_tokens(special)
    _check_ids(encoder, ids, ordinary | tokenizer.special_tokens)
    return tokenizer


def _check_ids(encoder: Path, ids: dict[str, int], expected: dict[str, int]) -> None:
    """The file numbers its tokens as GPT-2 does: bytes, merges, special tokens."""
    if ids != expected:
        wrong = next(name for name in expected if ids.get(name) != expected[name])
        raise TokenizerError(
            f"{encoder}: token {wrong!r} has id {ids.get(wrong)}, expected {expected[wrong]} from "
            "the merges beside it. The two files do not belong together, or are not in GPT-2's "
            "order."
        )


def _tiktoken_caches() -> list[Path]:
    named = [os.environ.get("TIKTOKEN_CACHE_DIR"), os.environ.get("DATA_GYM_CACHE_DIR")]
    return [Path(n) for n in named if n] + [Path(tempfile.gettempdir()) / "data-gym-cache"]


def _cached_name(remote: RemoteFile) -> str:
    """tiktoken names a cached file by the SHA-1 of its address."""
    return hashlib.sha1(remote.url.encode("ascii"), usedforsecurity=False).hexdigest()


def _intact(path: Path, remote: RemoteFile) -> bool:
    try:
        return path.is_file() and sha256_of(path) == remote.sha256
    except OSError:
        return False
