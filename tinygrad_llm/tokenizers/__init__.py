"""Tokenizers: text to token ids and back.

    WordTokenizer   words and punctuation (the book, chapter 2)
    CharTokenizer   characters
    BPETokenizer    byte-level byte-pair encoding, trained here
    gpt2()          GPT-2's own byte-pair encoding

Each has ``encode``, ``decode``, ``save``, ``load``, ``vocab_size``; `load` opens any saved one.
"""

from __future__ import annotations

from pathlib import Path

from tinygrad_llm.backend.files import reading_errors
from tinygrad_llm.errors import TokenizerError
from tinygrad_llm.tokenizers import file_format, gpt2_files, huggingface_file
from tinygrad_llm.tokenizers.base import Tokenizer
from tinygrad_llm.tokenizers.bpe import BPETokenizer
from tinygrad_llm.tokenizers.char import CharTokenizer
from tinygrad_llm.tokenizers.gpt2 import from_gpt2_files, gpt2
from tinygrad_llm.tokenizers.stream import StreamDecoder
from tinygrad_llm.tokenizers.word import WordTokenizer

__all__ = [
    "BPETokenizer",
    "CharTokenizer",
    "StreamDecoder",
    "Tokenizer",
    "WordTokenizer",
    "from_dict",
    "gpt2",
    "load",
]

_CLASSES: dict[str, type[Tokenizer]] = {
    c.kind: c for c in (WordTokenizer, CharTokenizer, BPETokenizer)
}


def load(folder: str | Path) -> Tokenizer:
    """The tokenizer that was saved in a folder, of whichever class.

    A folder that holds only GPT-2's own files (as from Hugging Face, whose version 5 writes one
    ``tokenizer.json``) is opened as well.

    Raises:
        TokenizerError: there is none, or it is damaged.
    """
    path = Path(folder)
    with reading_errors(path, TokenizerError):
        file_format.verify(path)
        foreign = path.is_dir() and not (path / file_format.FILE_NAME).exists()
        if foreign and (gpt2_files.find(path) or (path / huggingface_file.NAME).is_file()):
            return from_gpt2_files(path)
        kind, content = file_format.read(file_format.find(path))
    return from_dict({"type": kind, **content})


def from_dict(description: dict) -> Tokenizer:
    """The tokenizer that ``{"type": tokenizer.kind, **tokenizer.to_dict()}`` describes.

    Raises:
        TokenizerError: an unknown type, or a damaged description.
    """
    kind = description.get("type")
    if kind not in _CLASSES:
        raise TokenizerError(f"tokenizer of type {kind!r}: expected one of {sorted(_CLASSES)}.")
    return _CLASSES[kind].from_dict(description)
