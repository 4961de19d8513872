"""GPT-2's pre-split: text is cut into pieces, and byte pairs are merged within pieces only.

The pattern of GPT-2 (Radford et al. 2019, file encoder.py) is

    's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+

that is: an English contraction, or letters, digits or other signs with at most one space before
them, or white space that leaves its last character to the word that follows. ``\\p{L}`` and
``\\p{N}`` are the letters and numbers of Unicode, which the standard library's ``re`` does not
know. So the classes are written out here from ``unicodedata``.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# The same for tiktoken: "++" never gives back what it took, so long runs need no stack.
FAST_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"

# Unicode's White_Space. Python's \s has U+001C to U+001F besides, which Unicode does not count.
WHITE_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

LONG_SPACE = 20_000

# What Unicode 14 to 16 added, since an older Python knows these characters as unassigned while
# tiktoken knows them. (Python 3.10 has Unicode 13, Python 3.14 has Unicode 16.)
NEWER_LETTERS = """
    870-887 889-88E 8B5 8C8-8C9 C5D CDD 170D 171F 1B4C 1C89-1C8A 2C2F 2C5F 9FFD-9FFF A7C0-A7C1
    A7CB-A7CD A7D0-A7D1 A7D3 A7D5-A7DC A7F2-A7F4 10570-1057A 1057C-1058A 1058C-10592 10594-10595
    10597-105A1 105A3-105B1 105B3-105B9 105BB-105BC 105C0-105F3 10780-10785 10787-107B0
    107B2-107BA 10D4A-10D65 10D6F-10D85 10EC2-10EC4 10F70-10F81 11071-11072 11075 1123F-11240
    11380-11389 1138B 1138E 11390-113B5 113B7 113D1 113D3 11740-11746 11AB0-11ABF 11BC0-11BE0
    11F02 11F04-11F10 11F12-11F33 12F90-12FF0 1342F 13441-13446 13460-143FA 16100-1611D
    16A70-16ABE 16D40-16D6C 18CFF 1AFF0-1AFF3 1AFF5-1AFFB 1AFFD-1AFFE 1B11F-1B122 1B132 1B155
    1DF00-1DF1E 1DF25-1DF2A 1E030-1E06D 1E290-1E2AD 1E4D0-1E4EB 1E5D0-1E5ED 1E5F0 1E7E0-1E7E6
    1E7E8-1E7EB 1E7ED-1E7EE 1E7F0-1E7FE 2A6DE-2A6DF 2B735-2B739 2EBF0-2EE5D 31350-323AF
"""
NEWER_NUMBERS = """
    10D40-10D49 116D0-116E3 11BF0-11BF9 11F50-11F59 16130-16139 16AC0-16AC9 16D70-16D79
    1CCF0-1CCF9 1D2C0-1D2D3 1E4F0-1E4F9 1E5F1-1E5FA
"""


def split_pieces(text: str) -> list[str]:
    """The pieces of a text; joined they are the text."""
    return _pattern().findall(text)


def cut_long_spaces(text: str) -> list[str]:
    """The text in parts that encode on their own to the same ids; most texts are one part.

    tiktoken overflows its stack on a million spaces before a word, so long white space becomes a
    part of its own: all of it but the last character, which belongs to the word.
    """
    if len(text) < LONG_SPACE:
        return [text]
    cuts = [0]
    for run in re.finditer(f"[{WHITE_SPACE}]{{{LONG_SPACE},}}", text):
        cuts.extend([run.start(), run.end() - (run.end() < len(text))])
    cuts.append(len(text))
    return [text[a:b] for a, b in zip(cuts, cuts[1:], strict=False) if a < b]


@cache
def _pattern() -> re.Pattern[str]:
    letter, number, space = character_classes().values()
    return re.compile(
        "'s|'t|'re|'ve|'m|'ll|'d"
        f"| ?[{letter}]+| ?[{number}]+| ?[^{space}{letter}{number}]+"
        f"|[{space}]+(?![^{space}])|[{space}]+"
    )


def character_classes() -> dict[str, str]:
    """The insides of ``[...]`` for letters, numbers and white space."""
    return {
        "letter": _character_class("L", NEWER_LETTERS),
        "number": _character_class("N", NEWER_NUMBERS),
        "space": WHITE_SPACE,
    }


def _character_class(category: str, newer: str) -> str:
    """The characters of a general category of Unicode, such as "L" for letters, as ranges."""
    codes = {c for c in range(0x110000) if unicodedata.category(chr(c))[0] == category}
    for span in newer.split():
        low, _, high = span.partition("-")
        codes.update(range(int(low, 16), int(high or low, 16) + 1))
    ordered = sorted(codes)
    starts = [c for c in ordered if c - 1 not in codes]
    ends = [c for c in ordered if c + 1 not in codes]
    return "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in zip(starts, ends, strict=True))
