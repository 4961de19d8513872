"""GPT-2's two vocabulary files: token -> id as JSON, and the merges as lines.

OpenAI named them ``encoder.json`` and ``vocab.bpe``; Hugging Face names the same content
``vocab.json`` and ``merges.txt``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tinygrad_llm.backend import strict_json
from tinygrad_llm.backend.files import write_atomic
from tinygrad_llm.errors import TokenizerError
from tinygrad_llm.tokenizers.byte_map import to_visible
from tinygrad_llm.tokenizers.file_format import GPT2_FILES, saving
from tinygrad_llm.tokenizers.special_tokens import END_OF_TEXT

PAIRS_OF_NAMES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
HEADER = "#version: 0.2"


def write(
    folder: Path,
    merges: Sequence[tuple[bytes, bytes]],
    ranks: Mapping[bytes, int],
    special_tokens: Mapping[str, int],
) -> None:
    """Write ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json`` for transformers.

    Raises:
        TokenizerError: the folder cannot be written.
    """
    vocabulary = dict(special_tokens) | visible_ids(ranks)  # which come first, where spelled alike
    lines = [HEADER, *(f"{to_visible(left)} {to_visible(right)}" for left, right in merges)]
    contents = (
        json.dumps(vocabulary, ensure_ascii=False),
        "\n".join(lines) + "\n",
        json.dumps(_config(special_tokens), ensure_ascii=False, indent=2),
    )
    with saving(folder) as staged:
        for name, content in zip(GPT2_FILES, contents, strict=True):
            write_atomic(staged / name, content.encode("utf-8"))


def visible_ids(ranks: Mapping[bytes, int]) -> dict[str, int]:
    """Token -> id with the tokens in visible characters, as ``vocab.json`` has them."""
    return {to_visible(token): i for token, i in ranks.items()}


def _config(special_tokens: Mapping[str, int]) -> dict[str, object]:
    end = END_OF_TEXT if END_OF_TEXT in special_tokens else None
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        "bos_token": end,
        "eos_token": end,
        "unk_token": end,
        "added_tokens_decoder": {
            str(i): {"content": name, "special": True, **flags}
            for name, i in special_tokens.items()
        },
    }


def find(folder: Path) -> tuple[Path, Path] | None:
    """The vocabulary and merges file in a folder, under either pair of names."""
    for vocabulary, merges in PAIRS_OF_NAMES:
        if (folder / vocabulary).is_file() and (folder / merges).is_file():
            return folder / vocabulary, folder / merges
    return None


def parse(vocabulary: bytes, merges: bytes, source: str) -> tuple[list[str], dict[str, int]]:
    """The merge lines, and token -> id.

    Args:
        vocabulary: content of ``vocab.json`` or ``encoder.json``.
        merges: content of ``merges.txt`` or ``vocab.bpe``.
        source: where they come from, for messages.

    Raises:
        TokenizerError: not such files.
    """
    try:
        ids = strict_json.loads(vocabulary.decode("utf-8-sig"))
        lines = merges.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except ValueError as error:
        raise TokenizerError(f"{source}: not GPT-2's vocabulary files ({error}).") from error
    numbers = isinstance(ids, dict) and all(type(i) is int for i in ids.values())
    if not numbers:
        raise TokenizerError(f"{source}: expected a JSON object of token -> id.")
    return [line for line in lines if line and not line.startswith("#version")], ids
