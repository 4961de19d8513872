"""Checks that the tokenizers share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from tinygrad_llm.errors import TokenizerError


def as_texts(texts: str | Iterable[str]) -> Iterator[str]:
    """One string as a single text; otherwise each string of an iterable.

    Raises:
        TokenizerError: something in it is not a string.
    """
    for index, text in enumerate([texts] if isinstance(texts, str) else texts):
        if not isinstance(text, str):
            raise TokenizerError(
                f"train: texts must be strings, but number {index} is a {type(text).__name__}. "
                "Read files with encoding='utf-8'."
            )
        yield text


def is_token(token: object) -> bool:
    """Whether this is a string that is not empty and that UTF-8 can write (no lone surrogate)."""
    try:
        return isinstance(token, str) and bool(token.encode("utf-8"))
    except UnicodeEncodeError:
        return False


def check_vocabulary(argument: str, tokens: Sequence[str], special: Sequence[str]) -> list[str]:
    """Ordinary tokens and special ones as one list, in the order of their ids.

    Raises:
        TokenizerError: no ordinary token, a token that is no string, or one that comes twice.
    """
    if not tokens:
        raise TokenizerError(f"{argument}: the vocabulary is empty. Was the training text empty?")
    listed = [*tokens, *special]
    wrong = [token for token in listed if not is_token(token)]
    if wrong:
        raise TokenizerError(
            f"{argument}: every token must be a non-empty string of Unicode characters, got "
            f"{wrong[0]!r:.60}."
        )
    if len(set(listed)) < len(listed):
        twice = sorted(token for token, count in Counter(listed).items() if count > 1)
        raise TokenizerError(f"{argument}: these tokens come more than once: {twice[:5]}.")
    return listed
