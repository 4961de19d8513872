"""Damages of bytes, as bad disks, broken copies and wrong editors make them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[bytearray, int, random.Random], "bytes | bytearray"]


def _flipped(raw: bytearray, place: int, rng: random.Random) -> bytearray:
    raw[place] ^= 1 << rng.randrange(8)
    return raw


def _another_byte(raw: bytearray, place: int, rng: random.Random) -> bytearray:
    raw[place] = (raw[place] + rng.randrange(1, 256)) % 256
    return raw


def _another_digit(raw: bytearray, place: int, rng: random.Random) -> bytearray:
    """A number of a header or of JSON is another one, or another byte where there is none."""
    digits = [i for i, byte in enumerate(raw) if chr(byte).isdigit()]
    if not digits:
        return _another_byte(raw, place, rng)
    place = rng.choice(digits)
    raw[place] = rng.choice([c for c in b"0123456789" if c != raw[place]])
    return raw


def _zeroed(raw: bytearray, place: int, rng: random.Random) -> bytearray:
    length = rng.choice((1, 16, 512, 4096))
    raw[place : place + length] = bytes(len(raw[place : place + length]))
    return raw


def _swapped(raw: bytearray, place: int, rng: random.Random) -> bytearray:
    """Two blocks of 16 bytes change places."""
    other = rng.randrange(len(raw))
    first, second = sorted((place // 16 * 16, other // 16 * 16))
    if second + 16 <= len(raw):
        one = bytes(raw[first : first + 16])
        raw[first : first + 16] = raw[second : second + 16]
        raw[second : second + 16] = one
    return raw


DAMAGES: dict[str, Damage] = {
    "a bit flipped": _flipped,
    "another byte": _another_byte,
    "another digit": _another_digit,
    "zeros": _zeroed,
    "blocks swapped": _swapped,
    "cut off": lambda raw, place, rng: raw[:place],
    "a byte lost": lambda raw, place, rng: raw[:place] + raw[place + 1 :],
    "a byte more": lambda raw, place, rng: raw[:place] + bytes([rng.randrange(256)]) + raw[place:],
    "bytes behind": lambda raw, place, rng: raw + bytes(rng.randrange(1, 64)),
    "empty": lambda raw, place, rng: b"",
}


def damage_a_file(folder: Path, rng: random.Random) -> str:
    """Damage one file of a folder; returns what was done to which, "" if nothing changed."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()]
    path = rng.choice([p for p in files if p.stat().st_size])
    raw = path.read_bytes()
    name = rng.choice(list(DAMAGES))
    place = rng.randrange(len(raw))
    changed = bytes(DAMAGES[name](bytearray(raw), place, rng))
    if changed == raw:
        return ""
    path.write_bytes(changed)
    return f"{path.relative_to(folder)}: {name} at {place}"
