"""GPT-2's way to write bytes as characters that can be seen.

A vocabulary file should hold text, but a token may be any bytes. GPT-2 therefore writes each of
the 256 bytes as one printable character: printable ones as themselves, the others (control
characters, the space, and so on) as the characters from U+0100 on. So a leading space shows as
"Ġ". (Radford et al. 2019, file encoder.py, function bytes_to_unicode.)
"""

from __future__ import annotations


def byte_order() -> list[int]:
    """The 256 bytes in the order of GPT-2's token ids: those with a printable character first."""
    printable = [b for b in range(256) if chr(b).isprintable() and b != ord(" ")]
    return printable + [b for b in range(256) if b not in set(printable)]


def _characters() -> dict[int, str]:
    order = byte_order()
    n_printable = 188
    shown = {b: chr(b) for b in order[:n_printable]}
    hidden = {b: chr(0x100 + i) for i, b in enumerate(order[n_printable:])}
    return shown | hidden


BYTE_TO_CHARACTER = _characters()
CHARACTER_TO_BYTE = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}


def to_visible(token: bytes) -> str:
    """Bytes as visible characters: ``b" the"`` -> ``"Ġthe"``."""
    return "".join(BYTE_TO_CHARACTER[byte] for byte in token)


def from_visible(text: str) -> bytes:
    """The bytes behind visible characters.

    Raises:
        KeyError: a character that stands for no byte.
    """
    return bytes(CHARACTER_TO_BYTE[character] for character in text)
