"""Characters that do something where they are written, made visible.

A name from somebody's file, or what a model writes, may hold any character. As it is, an escape
would move a terminal's cursor or change its title, and a mark of the writing direction would turn
the rest of the line around.
"""

from __future__ import annotations

_DIRECTIONS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def visible(text: str) -> str:
    """The text with control characters as signs to look at; line breaks and tabs stay."""
    return "".join(map(_visible, text))


def _visible(letter: str) -> str:
    code = ord(letter)
    if letter in "\n\t" or (code >= 32 and code not in range(0x7F, 0xA0)):
        return "\ufffd" if code in _DIRECTIONS else letter
    return chr(0x2400 + code) if code < 32 else "\ufffd"
