"""Decoding token by token, for text that appears while it is generated."""

from __future__ import annotations

import codecs

from tinygrad_llm.tokenizers.base import Tokenizer


class StreamDecoder:
    """Turns ids into text one at a time, never showing half a character.

    A character of UTF-8 takes up to four bytes, and a byte-level token may end within one. Such
    bytes wait for the tokens that complete them. Everything that was pushed, followed by
    `finish`, is the same string as ``tokenizer.decode(ids)``.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._first = True

    def push(self, token_id: int) -> str:
        """The text that this token completes; may be empty.

        Raises:
            TokenizerError: the id is out of range.
        """
        token_id = self._tokenizer.check_id(token_id)
        piece = self._tokenizer.token_bytes(token_id, first=self._first)
        self._first = False
        return self._utf8.decode(piece)

    def finish(self) -> str:
        """What is left: U+FFFD for an unfinished character, else nothing. Starts afresh."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        self._first = True
        return rest
