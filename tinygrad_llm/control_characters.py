"""Characters that do something where they are written, made visible.

A name from somebody's file, or what a model writes, may hold any character. As it is, an escape
would move a terminal's cursor or change its title, and a mark of the writing direction would turn
the rest of the line around.
"""

from __future__ import annotations

_UNSEEN = (*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SIGNS = {
    **{code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"},
    **dict.fromkeys(_UNSEEN, "\ufffd"),
}


def visible(text: str) -> str:
    """The text with control characters as signs to look at; line breaks and tabs stay."""
    return text.translate(_SIGNS)
