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
_spaces = regex.compile(r"\s++")


def split_pieces(text: str) -> list[str]:
    """The pieces of a text; joined they are the text.

    A letter that only a newer Unicode has may be one for ``regex`` and none for tiktoken yet.
    """
    return _pieces.findall(text)


def cut_long_spaces(text: str) -> list[str]:
    """The text in parts that encode on their own to the same ids; most texts are one part.

    tiktoken overflows its stack on a million spaces before a word, so a part ends with long white
    space: with all of it but the last character, which belongs to the word.
    """
    step = LONG_SPACE // 2  # long white space covers a place that is looked at, and a step more
    cuts = [0]
    for place in range(0, len(text), step):
        run = _spaces.match(text, place) if place >= cuts[-1] else None
        if run is not None and run.end() == len(text):
            break
        if run is not None and run.end() - place >= step:
            cuts.append(run.end() - 1)
    cuts.append(len(text))
    return [text[a:b] for a, b in zip(cuts, cuts[1:], strict=False) if a < b]
