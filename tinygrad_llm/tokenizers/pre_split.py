"""GPT-2's pre-split: text is cut into pieces, and byte pairs are merged within pieces only.

A piece is an English contraction; or letters, digits or other signs with at most one space before
them; or white space that leaves its last character to the word that follows. ``\\p{L}`` and
``\\p{N}`` are the letters and numbers of Unicode, which the package ``regex`` knows and Python's
own ``re`` does not.

Source: Radford et al. 2019, the file encoder.py, which has this pattern for the same package.
"""

from __future__ import annotations

import regex

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# The same for tiktoken: "++" never gives back what it took, so long runs need no stack.
FAST_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"

LONG_SPACE = 20_000

_pieces = regex.compile(GPT2_PATTERN)


def split_pieces(text: str) -> list[str]:
    """The pieces of a text; joined they are the text.

    A letter that only a newer Unicode has may be one for ``regex`` and none for tiktoken yet.
    """
    return _pieces.findall(text)


def cut_long_spaces(text: str) -> list[str]:
    """The text in parts that encode on their own to the same ids; most texts are one part.

    tiktoken overflows its stack on a million spaces before a word, so long white space becomes a
    part of its own: all of it but the last character, which belongs to the word.
    """
    if len(text) < LONG_SPACE:
        return [text]
    cuts = [0]
    for run in regex.finditer(rf"\s{{{LONG_SPACE},}}", text):
        cuts.extend([run.start(), run.end() - (run.end() < len(text))])
    cuts.append(len(text))
    return [text[a:b] for a, b in zip(cuts, cuts[1:], strict=False) if a < b]
