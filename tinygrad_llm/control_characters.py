"""Characters that do something where they are written, made visible.

A name from somebody's file, or what a model writes, may hold any character. As it is, an escape
would move a terminal's cursor or change its title, and a mark of the writing direction would turn
the rest of the line around.
"""

from __future__ import annotations

_LINE, _LINES = 2000, 100  # characters of a line, and lines, that somebody may want to read
_UNSEEN = (*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SIGNS = {
    **{code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"},
    **dict.fromkeys(_UNSEEN, "\ufffd"),
}


def visible(text: str) -> str:
    """The text with control characters as signs to look at; line breaks and tabs stay."""
    return text.translate(_SIGNS)


def readable(text: str) -> str:
    """The text as `visible`, without the middle where it, or a line, is too long to be read."""
    lines = text.split("\n")
    if len(lines) > _LINES:
        left_out = f"... ({len(lines) - _LINES} lines are left out) ..."
        lines = [*lines[: _LINES // 2], left_out, *lines[-_LINES // 2 :]]
    return visible("\n".join(map(_shortened, lines)))


def _shortened(line: str) -> str:
    if len(line) <= _LINE:
        return line
    end = _LINE // 4
    left_out = len(line) - _LINE
    return f"{line[: _LINE - end]}... ({left_out} characters are left out) ...{line[-end:]}"
