"""A token is a character: the smallest vocabulary that can write everything it was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tinygrad_llm.errors import TokenizerError
from tinygrad_llm.tokenizers.base import Tokenizer
from tinygrad_llm.tokenizers.special_tokens import UNKNOWN, check_names, well_formed
from tinygrad_llm.tokenizers.texts import as_texts, check_vocabulary


class CharTokenizer(Tokenizer):
    """Characters (Unicode code points), as in nanoGPT's Shakespeare example.

    Args:
        characters: the vocabulary; ids follow this order.
        special_tokens: appended after the characters. With ``<|unk|>`` among them, a character
            that is not in the vocabulary becomes that token; without it, it is an error.

    Raises:
        TokenizerError: an empty vocabulary, or a character twice.
    """

    kind = "char"

    def __init__(self, characters: Sequence[str], special_tokens: Sequence[str] = ()) -> None:
        names = check_names(special_tokens)
        self.tokens = check_vocabulary("characters", characters, names)
        self._ids = {token: i for i, token in enumerate(self.tokens[: -len(names) or None])}
        self.special_tokens = {n: len(self._ids) + i for i, n in enumerate(names)}
        if any(len(character) != 1 for character in self._ids):
            raise TokenizerError("characters: each must be a string of length 1.")

    @classmethod
    def train(cls, texts: str | Iterable[str], special_tokens: Sequence[str] = ()) -> CharTokenizer:
        """A tokenizer whose vocabulary is the sorted set of the characters of the texts.

        Raises:
            TokenizerError: there is no character in the texts.
        """
        characters: set[str] = set()
        for text in as_texts(texts):
            characters.update(well_formed(text))
        return cls(sorted(characters), special_tokens)

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def encode_ordinary(self, text: str) -> list[int]:
        text = well_formed(text)
        if UNKNOWN in self.special_tokens:
            unknown = self.special_tokens[UNKNOWN]
            return [self._ids.get(character, unknown) for character in text]
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            character = error.args[0]
            raise TokenizerError(
                f"encode: the character {character!r} (U+{ord(character):04X}) at position "
                f"{text.index(character)} is not among the {len(self._ids)} characters of this "
                "tokenizer. Train it on text that has it, or with special_tokens=['<|unk|>']."
            ) from None

    def token_bytes(self, token_id: int, first: bool = False) -> bytes:
        return self.tokens[token_id].encode("utf-8")

    def to_dict(self) -> dict[str, object]:
        return {"special_tokens": list(self.special_tokens), "characters": list(self._ids)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> CharTokenizer:
        try:
            return cls(content["characters"], content["special_tokens"])
        except (KeyError, TypeError) as error:
            raise TokenizerError(f"char tokenizer file: {error!r} is missing or wrong.") from error
