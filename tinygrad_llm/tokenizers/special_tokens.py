"""Special tokens: which spellings count, which are refused, and where they stand in a text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

from tinygrad_llm.errors import TokenizerError
from tinygrad_llm.tokenizers.texts import is_token

END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "<|unk|>"

SpecialSet = Literal["all"] | Collection[str]


def resolve(
    special_tokens: Mapping[str, int], allowed: SpecialSet, disallowed: SpecialSet, text: str
) -> list[str]:
    """The special tokens to look for in ``text``, after refusing those that are disallowed.

    Raises:
        TokenizerError: a disallowed spelling stands in the text.
    """
    for argument, value in (("allowed_special", allowed), ("disallowed_special", disallowed)):
        if isinstance(value, str) and value != "all":
            raise TokenizerError(
                f'encode: {argument} must be "all" or a set of special tokens, got the string '
                f'{value!r}. Write {argument}={{"{value}"}}.'
            )
    names = [name for name in special_tokens if allowed == "all" or name in allowed]
    refused = set(special_tokens) - set(names) if disallowed == "all" else set(disallowed)
    for name in sorted(refused):
        if name in text:
            raise TokenizerError(
                f"encode: the text contains the special token {name!r} at position "
                f"{text.index(name)}, which is not allowed. Pass allowed_special={{{name!r}}} to "
                "encode it as that token, or disallowed_special=() to read it as ordinary text."
            )
    return names


def split(text: str, names: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """The text cut at special tokens: parts, each with whether it is a special token.

    Where one name is the beginning of another, the longer one wins.
    """
    if not names:
        yield text, False
        return
    longest_first = sorted(names, key=len, reverse=True)
    cut = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
    for index, part in enumerate(cut.split(text)):
        if part:
            yield part, index % 2 == 1


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Special tokens as a tuple, none empty, none twice.

    Raises:
        TokenizerError: a bare string, an empty name, or a name given twice.
    """
    if isinstance(names, str):
        raise TokenizerError(
            f"special_tokens: expected a list of strings, got the string {names!r}. "
            f"Write [{names!r}]."
        )
    unique = tuple(names)
    if not all(map(is_token, unique)) or len(set(unique)) < len(unique):
        raise TokenizerError(
            "special_tokens: expected different, non-empty strings of Unicode characters, got "
            f"{list(unique)!r:.500}."
        )
    return unique


def well_formed(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates replaced by U+FFFD.

    Python strings can hold surrogates (from ``json.loads`` or ``surrogateescape``) that UTF-8
    cannot; tiktoken repairs them the same way.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
