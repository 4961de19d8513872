"""GPT-2's tokenizer: 256 bytes, 50,000 merges, and ``<|endoftext|>``.

Its vocabulary is two files of OpenAI's (1.5 MB together). They are looked for on this machine
first, then downloaded; `BPETokenizer` does the rest.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tinygrad_llm.backend.download import RemoteFile, fetch, sha256_of
from tinygrad_llm.backend.files import cache_folder
from tinygrad_llm.errors import DataError, TokenizerError
from tinygrad_llm.tokenizers import file_format, gpt2_files, huggingface_file
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
    """A tokenizer from a folder with GPT-2's files, under either pair of names, or in one file.

    Tokens that no merge makes are special tokens; ``added_tokens.json``, ``tokenizer_config.json``
    and ``tokenizer.json`` may hold more of them.

    Raises:
        TokenizerError: the files are missing, damaged, number their tokens otherwise, or describe
            a tokenizer of another kind.
    """
    file_format.verify(folder)
    files, one = gpt2_files.find(folder), folder / huggingface_file.NAME
    added = huggingface_file.added_tokens(folder)
    if files is not None:
        return _build(*files, added)
    if one.is_file():
        lines, ids, more = huggingface_file.parse(one)
        return _assemble(one, lines, ids, more | added)
    raise TokenizerError(
        f"{folder}: no GPT-2 vocabulary there. Expected encoder.json and vocab.bpe, or vocab.json "
        f"and merges.txt, or {huggingface_file.NAME}."
    )


def _build(encoder: Path, merges: Path, added: Mapping[str, int] | None = None) -> BPETokenizer:
    try:
        contents = encoder.read_bytes(), merges.read_bytes()
    except OSError as error:
        raise TokenizerError(f"{encoder.parent}: cannot be read ({error}).") from error
    return _assemble(encoder, *gpt2_files.parse(*contents, str(encoder)), added or {})


def _assemble(
    source: Path, lines: list[str], ids: Mapping[str, int], added: Mapping[str, int]
) -> BPETokenizer:
    """The tokenizer of these merges, if its ids are those of the files."""
    try:
        merges = parse_merges(lines)
        ordinary = gpt2_files.visible_ids(BPETokenizer(merges).ranks)
    except TokenizerError as error:
        raise TokenizerError(f"{source}: {error}") from error
    beyond = {name: i for name, i in ids.items() if name not in ordinary}
    for name in beyond.keys() - added.keys():
        if not name.startswith(("<", "[")):
            raise TokenizerError(
                f"{source}: no merge makes the token {name!r}, and it does not look like a special "
                "token (<...> or [...]). The list of merges is cut off."
            )
    # An added token may be spelled like an ordinary one, and have an id of its own or that one's.
    special = beyond | {name: i for name, i in added.items() if i != ids.get(name, i + 1)}
    in_order = sorted(special, key=lambda name: special[name])
    n_first = next((i for i, name in enumerate(in_order) if special[name] != i), len(in_order))
    tokenizer = BPETokenizer(merges, in_order[n_first:], in_order[:n_first])
    _check_ids(source, ids, gpt2_files.visible_ids(tokenizer.ranks))
    _check_ids(source, special, tokenizer.special_tokens)
    return tokenizer


def _check_ids(source: Path, found: Mapping[str, int], expected: Mapping[str, int]) -> None:
    """The file numbers its tokens as GPT-2 does: bytes, merges, special tokens (or these first)."""
    if (missing := next((name for name in expected if name not in found), None)) is not None:
        raise TokenizerError(
            f"{source}: the vocabulary lacks {missing!r}, which is one of the 256 bytes or made by "
            "a merge. Texts with it would have no ids; train the tokenizer with all bytes."
        )
    wrong = next((name for name in expected if found.get(name) != expected[name]), None)
    if wrong is not None:
        raise TokenizerError(
            f"{source}: token {wrong!r} has id {found.get(wrong)}, expected {expected[wrong]} from "
            "the merges. The files do not belong together, or are not in GPT-2's order."
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
