"""Characters that do something where they are written, made visible.

A name from somebody's file, or what a model writes, may hold any character. As it is, an escape
would move a terminal's cursor or change its title, and a mark of the writing direction would turn
the rest of the line around.
"""

from __future__ import annotations

import re

_LINE, _LINES = 2000, 100  # characters of a line, and lines, that somebody may want to read
_WORD = 300  # characters of a word
_UNSEEN = (*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SIGNS = {
    **{code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"},
    **dict.fromkeys(_UNSEEN, "\ufffd"),
}
# All at which a terminal, or `str.splitlines`, begins a new line.
_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_BREAKS = {ord(end): end.encode("unicode_escape").decode() for end in _ENDS}


def visible(text: str) -> str:
    """The text with control characters as signs to look at; line breaks and tabs stay."""
    return text.translate(_SIGNS)


def one_line(name: object) -> str:
    """A name, such as a path, as `visible`, and with line breaks as escapes: ``\\n``.

    A file may have a name that would look like a line of the program's own.
    """
    return visible(str(name).translate(_BREAKS))


def readable(text: str) -> str:
    """The text as `visible`, without the middle of what is too long to be read: words, lines."""
    lines = text.split("\n")
    if len(lines) > _LINES:
        left_out = f"... ({len(lines) - _LINES} lines are left out) ..."
        lines = [*lines[: _LINES // 2], left_out, *lines[-_LINES // 2 :]]
    return visible("\n".join(map(_shortened, lines)))


def _shortened(line: str) -> str:
    line = re.sub(rf"\S{{{_WORD},}}", _without_middle, line)
    if len(line) <= _LINE:
        return line
    end = _LINE // 4
    left_out = len(line) - _LINE
    return f"{line[: _LINE - end]}... ({left_out} characters are left out) ...{line[-end:]}"


def _without_middle(word: re.Match[str]) -> str:
    return f"{word[0][:100]}[{len(word[0]) - 120:,} letters]{word[0][-20:]}"
