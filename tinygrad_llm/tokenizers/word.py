"""The tokenizer of chapter 2 of Raschka's "Build a Large Language Model (From Scratch)".

A token is a word or a punctuation mark. The vocabulary is the sorted set of those in the training
text, followed by ``<|endoftext|>`` and ``<|unk|>``; any other word becomes ``<|unk|>``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from tinygrad_llm.errors import TokenizerError
from tinygrad_llm.tokenizers.base import Tokenizer
from tinygrad_llm.tokenizers.special_tokens import END_OF_TEXT, UNKNOWN, check_names, well_formed
from tinygrad_llm.tokenizers.texts import as_texts, check_vocabulary

SPLIT = re.compile(r"""([,.:;?_!"()']|--|\s)""")
NO_SPACE_BEFORE = ",.:;?!\"()'"


def split_words(text: str) -> list[str]:
    """Words and punctuation marks in order, white space dropped (the book, section 2.2)."""
    return [part.strip() for part in SPLIT.split(text) if part.strip()]


class WordTokenizer(Tokenizer):
    """Words and punctuation marks (the book, sections 2.2 to 2.4).

    Decoding joins tokens by spaces and takes away the space before punctuation, so the original
    spacing is not restored exactly.

    Args:
        words: the vocabulary, without special tokens; ids follow this order.
        special_tokens: appended after the words. Without ``<|unk|>`` an unknown word is an error.

    Raises:
        TokenizerError: an empty vocabulary, or a word twice.
    """

    kind = "word"

    def __init__(
        self, words: Sequence[str], special_tokens: Sequence[str] = (END_OF_TEXT, UNKNOWN)
    ) -> None:
        names = check_names(special_tokens)
        self.tokens = check_vocabulary("words", words, names)
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        self.special_tokens = {name: self._ids[name] for name in names}

    @classmethod
    def train(
        cls, texts: str | Iterable[str], special_tokens: Sequence[str] = (END_OF_TEXT, UNKNOWN)
    ) -> WordTokenizer:
        """A tokenizer whose vocabulary is the sorted set of the words of one or more texts.

        Raises:
            TokenizerError: there is no word in the texts.
        """
        words: set[str] = set()
        for text in as_texts(texts):
            words.update(split_words(well_formed(text)))
        return cls(sorted(words - set(special_tokens)), special_tokens)

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def encode(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | Collection[str] = "all",
        disallowed_special: Literal["all"] | Collection[str] = "all",
    ) -> list[int]:
        """The ids of a text; special tokens are read as such by default, as in the book.

        Raises:
            TokenizerError: see `Tokenizer.encode`.
        """
        return super().encode(
            text, allowed_special=allowed_special, disallowed_special=disallowed_special
        )

    def encode_ordinary(self, text: str) -> list[int]:
        unknown = self._ids.get(UNKNOWN) if UNKNOWN in self.special_tokens else None
        ids = []
        for word in split_words(well_formed(text)):
            token_id = unknown if word in self.special_tokens else self._ids.get(word, unknown)
            if token_id is None:
                raise TokenizerError(
                    f"encode: the word {word!r} is not in the vocabulary of {self.vocab_size} "
                    f"tokens. Train on text that has it, or with the special token {UNKNOWN!r}."
                )
            ids.append(token_id)
        return ids

    def unknown_words(self, text: str) -> list[str]:
        return [word for word in split_words(text) if word not in self._ids]

    def token_bytes(self, token_id: int, first: bool = False) -> bytes:
        token = self.tokens[token_id]
        space = "" if first or token[0] in NO_SPACE_BEFORE else " "
        return (space + token).encode("utf-8")

    def to_dict(self) -> dict[str, object]:
        n_words = len(self.tokens) - len(self.special_tokens)
        return {"special_tokens": list(self.special_tokens), "words": self.tokens[:n_words]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> WordTokenizer:
        try:
            return cls(content["words"], content["special_tokens"])
        except (KeyError, TypeError) as error:
            raise TokenizerError(f"word tokenizer file: {error!r} is missing or wrong.") from error
