"""What every tokenizer of this package can do.

A tokenizer is a bijection, as far as it goes, between text and a list of token ids. The three
kinds differ in what a token is: a word, a character, or a run of bytes. Special tokens, files and
decoding are the same for all, and stand here.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from tinygrad_llm.errors import TokenizerError
from tinygrad_llm.tokenizers import file_format
from tinygrad_llm.tokenizers.special_tokens import END_OF_TEXT, SpecialSet, resolve, split

Self = TypeVar("Self", bound="Tokenizer")
Encode = Callable[[str], list[int]]


class Tokenizer(ABC):
    """Base class. A subclass says how ordinary text becomes ids, and ids become bytes."""

    kind: ClassVar[str]
    special_tokens: dict[str, int]

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of tokens, special ones included; ids run from 0 to ``vocab_size - 1``."""

    @abstractmethod
    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of a text in which special tokens are not looked for."""

    @abstractmethod
    def token_bytes(self, token_id: int, first: bool = False) -> bytes:
        """The UTF-8 bytes that a token adds to the text; ``first`` at the start of a text."""

    @abstractmethod
    def to_dict(self) -> dict[str, object]:
        """Everything needed to build this tokenizer again, in JSON's types."""

    @classmethod
    @abstractmethod
    def from_dict(cls: type[Self], content: Mapping[str, Any]) -> Self:
        """The tokenizer that `to_dict` described."""

    @property
    def end_of_text_id(self) -> int | None:
        """The id of ``<|endoftext|>``, which stands between documents; None where there is none."""
        return self.special_tokens.get(END_OF_TEXT)

    def encode(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | Collection[str] = frozenset(),
        disallowed_special: Literal["all"] | Collection[str] = "all",
    ) -> list[int]:
        """The ids of a text.

        A text from outside may contain the spelling of a special token, by accident or by malice.
        As in tiktoken, this is refused unless the caller says what is meant.

        Args:
            text: any string.
            allowed_special: special tokens whose spelling becomes their single id; "all" for all.
            disallowed_special: spellings that are refused; "all" means every special token that
                is not allowed; an empty collection reads them as ordinary text.

        Raises:
            TokenizerError: a disallowed special token stands in the text, ``text`` is not a
                string, or it holds something that the vocabulary cannot express.
        """
        return self._encode_with(self.encode_ordinary, text, allowed_special, disallowed_special)

    def _encode_with(
        self, ordinary: Encode, text: str, allowed: SpecialSet, disallowed: SpecialSet
    ) -> list[int]:
        if not isinstance(text, str):
            raise TokenizerError(
                f"encode: text must be a string, got {type(text).__name__}. "
                "Decode bytes first: data.decode('utf-8')."
            )
        names = resolve(self.special_tokens, allowed, disallowed, text)
        ids: list[int] = []
        for part, is_special in split(text, names):
            ids.extend([self.special_tokens[part]] if is_special else ordinary(part))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of a list, array or tensor of ids.

        Bytes that are no UTF-8 (a model may stop within a character) become U+FFFD.

        Raises:
            TokenizerError: an id outside ``0 .. vocab_size - 1``, or not an integer.
        """
        checked = [self.check_id(i) for i in flat_ids(ids)]
        pieces = [self.token_bytes(i, first=position == 0) for position, i in enumerate(checked)]
        return b"".join(pieces).decode("utf-8", errors="replace")

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that become ``<|unk|>``; most tokenizers can express any text."""
        return []

    def check_id(self, token_id: object) -> int:
        """``token_id`` as a Python integer within the vocabulary.

        Raises:
            TokenizerError: it is no integer, or out of range.
        """
        try:
            value = operator.index(token_id)  # type: ignore[arg-type]
        except TypeError:
            raise TokenizerError(
                f"decode: a token id must be an integer, got {token_id!r:.60}."
            ) from None
        if not 0 <= value < self.vocab_size:
            raise TokenizerError(
                f"decode: token id {value} is out of range; this tokenizer has {self.vocab_size} "
                f"tokens (0 .. {self.vocab_size - 1}). Was the text encoded by another tokenizer?"
            )
        return value

    def save(self, folder: str | Path) -> Path:
        """Write the tokenizer into a folder, which is made if need be; returns the file's path."""
        return file_format.write(Path(folder), self.kind, self.to_dict())

    @classmethod
    def load(cls: type[Self], folder: str | Path) -> Self:
        """Read a tokenizer that `save` wrote: the folder, or the file itself.

        Raises:
            TokenizerError: no such file, a damaged one, or one of another kind of tokenizer.
        """
        file_format.verify(Path(folder))
        path = file_format.find(Path(folder))
        kind, content = file_format.read(path)
        if kind != cls.kind:
            raise TokenizerError(
                f'{path}: holds a tokenizer of type "{kind}", but {cls.__name__} reads '
                f'"{cls.kind}". Use tinygrad_llm.tokenizers.load(folder), which finds the class.'
            )
        return cls.from_dict(content)


def flat_ids(ids: object) -> list[object]:
    """The ids as a flat list: from a list, an array, a Tensor, or a single id."""
    values = getattr(ids, "data", ids) if hasattr(ids, "requires_grad") else ids
    values = values.get() if hasattr(values, "get") and hasattr(values, "dtype") else values
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes)):
        return [values]
    flat = list(values)
    if flat and isinstance(flat[0], (list, tuple)):
        raise TokenizerError(
            f"decode: expected one sequence of ids, got {len(flat)} nested ones. "
            "Decode each row on its own: [tokenizer.decode(row) for row in ids]."
        )
    return flat
