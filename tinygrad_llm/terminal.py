"""What a terminal is given: its width, styles, and text broken between words.

In a pipe or a file lines and styles stay as they are. Control characters are made visible there,
too: behind a pipe there is a terminal as well, and a file may be shown on one.
"""

from __future__ import annotations

import errno
import os
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from tinygrad_llm.control_characters import visible
from tinygrad_llm.errors import OutputError

_STYLES = {"bold": "1", "dim": "2", "green": "32", "cyan": "36"}
_TAB = 8


def columns(stream: TextIO) -> int:
    """Width of the terminal behind a stream in letters; 0 for none, or one that does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError):
        return 0


def can_redraw(stream: TextIO) -> bool:
    """Whether a line can be written over, as a progress bar does.

    A notebook is no terminal in this sense: what is written over there is kept in the saved file.
    """
    return columns(stream) > 0 and not _is_dumb()


def styled(text: str, style: str, stream: TextIO | None = None) -> str:
    """The text in a style, where a terminal shows it and nobody has said NO_COLOR.

    Args:
        text: of one line.
        style: ``"bold"``, ``"dim"``, ``"green"`` or ``"cyan"``.
        stream: where it will be written; by default the standard output.
    """
    stream = stream or sys.stdout
    if not stream.isatty() or _is_dumb() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def say(
    text: object = "",
    style: str = "",
    *,
    end: str = "\n",
    file: TextIO | None = None,
    flush: bool = False,
) -> None:
    """Print for a person: control characters are visible, whatever names the text holds.

    Args:
        text: what to print.
        style: as for `styled`; "" for none.
        end, file, flush: as for `print`. What the standard error cannot take is lost: a note that
            nobody can read ends no command.

    Raises:
        OutputError, BrokenPipeError: as `writing`.
    """
    shown = visible(str(text))
    is_note = file is sys.stderr and file is not sys.stdout
    with suppress(OSError) if is_note else writing():
        print(styled(shown, style, file) if style else shown, end=end, file=file, flush=flush)


@contextmanager
def writing() -> Iterator[None]:
    """A scope that writes to the standard output.

    Raises:
        OutputError: it takes nothing more, as a file on a full disk.
        BrokenPipeError, OSError: nobody reads it: a pipe's reader or the terminal is gone.
    """
    try:
        yield
    except OSError as error:
        if is_unread(error):
            raise
        raise OutputError(f"standard output: cannot be written ({error.strerror}).") from error


def is_unread(error: OSError) -> bool:
    """Whether printing failed since a pipe has no reader, or the terminal is gone."""
    return error.errno in (errno.EPIPE, errno.EIO)


def _is_dumb() -> bool:
    return os.environ.get("TERM") == "dumb"


def width_of(text: str) -> int:
    """Columns that a text of one line takes: two for a letter of Chinese, none for an accent."""
    return sum(map(_width, text))


def _width(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def fitting(text: str, stream: TextIO) -> str:
    """A finished text as a stream shows it best: on a terminal, lines end between words."""
    text, room = visible(text), columns(stream)
    if not room:
        return text
    wrapper = textwrap.TextWrapper(room, replace_whitespace=False, break_on_hyphens=False)
    parts: list[str] = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        wrapper.subsequent_indent = indent if len(indent) < room // 2 else ""
        parts += wrapper.wrap(line) or [""]
    return "\n".join(part.rstrip() for part in parts)


def print_as_it_comes(pieces: Iterable[str], column: int = 0) -> None:
    """Print pieces of one text while they are made; on a terminal, lines end between words.

    Args:
        pieces: the text; where a piece ends says nothing about words.
        column: where on its line the text begins.
    """
    lines = Lines(sys.stdout, column)
    try:
        for piece in pieces:
            lines.write(piece)
    finally:  # an interrupted text is shown to its last letter
        lines.finish()


class Lines:
    """Writes a text that arrives in pieces; a word that does not fit begins a new line.

    A word is held back until it is complete. The width is asked for anew at each word, so a window
    may change its size.

    Args:
        stream: where to.
        column: where on its line the text begins.
    """

    def __init__(self, stream: TextIO, column: int = 0) -> None:
        self._stream, self._column = stream, column
        self._gap, self._word = "", ""

    def write(self, piece: str) -> None:
        """Take a piece."""
        with writing():
            if not columns(self._stream):
                self._stream.write(visible(piece))
            else:
                for letter in visible(piece):
                    self._take(letter)
            self._stream.flush()

    def finish(self) -> None:
        """Write what was held back."""
        with writing():
            self._put()
            self._stream.flush()

    def _take(self, letter: str) -> None:
        if letter == "\n":
            self._put()
            self._stream.write("\n")
            self._column, self._gap = 0, ""
        elif letter in " \t":
            if self._word:
                self._put()
            self._gap += letter.expandtabs(_TAB)
        else:
            if self._word and _width(letter) == 2:  # between letters of Chinese a line may end
                self._put()
            self._word += letter

    def _put(self) -> None:
        """Write the word, on a new line if this one has no room for it."""
        width, room = width_of(self._word), columns(self._stream)
        if self._column and room and self._column + len(self._gap) + width > room:
            self._stream.write("\n")
            self._column, self._gap = 0, ""
        self._stream.write(self._gap + self._word)
        self._column += len(self._gap) + width
        if room and self._column > room:  # longer than a line: the terminal broke it
            self._column %= room
        self._gap = self._word = ""
