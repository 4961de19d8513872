"""Instructions with answers, in the format of Alpaca: the set of chapter 7 of Raschka's book.

A file is a JSON list of objects with "instruction", "input" (may be empty) and "output". The real
set has 1,100 of them; a small made-up set ships with the package, so that the example runs offline.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygrad_llm.backend.download import fetch
from tinygrad_llm.backend.files import cache_folder
from tinygrad_llm.data.documents import read_text
from tinygrad_llm.data.remote import REMOTE
from tinygrad_llm.data.splits import shuffled, split_sizes
from tinygrad_llm.data.templates import Turn
from tinygrad_llm.errors import DataError

MADE_UP = Path(__file__).with_name("assets") / "made_up_instructions.json"


@dataclass(frozen=True)
class Instruction:
    """A task, what it is about (may be empty), and the right answer."""

    instruction: str
    input: str
    output: str

    def turns(self) -> list[Turn]:
        """The entry as a conversation, for a template to render."""
        about = [Turn("input", self.input)] if self.input else []
        return [Turn("user", self.instruction), *about, Turn("assistant", self.output)]


def load(
    source: str | Path | None = None, cache_dir: str | Path | None = None, progress: bool = True
) -> list[Instruction]:
    """The entries of a file.

    Args:
        source: a ``.json`` file; ``"instruction-data"`` for the book's set, downloaded once; None
            for the made-up set of the package.
        cache_dir: where the download is kept; default `backend.files.cache_folder`.
        progress: show a bar while downloading.

    Raises:
        DataError: no such file, not JSON of this format, an entry without instruction or answer,
            or no entry at all.
    """
    if source == "instruction-data":
        path = fetch(REMOTE["instruction-data"], cache_folder(cache_dir), progress)
    else:
        path = MADE_UP if source is None else Path(source)
    try:
        entries = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not JSON ({error}).") from error
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: expected a JSON list with at least one entry.")
    return [_instruction(path, number, entry) for number, entry in enumerate(entries)]


def split(
    entries: Sequence[Instruction],
    train: float = 0.85,
    validation: float = 0.05,
    seed: int | None = 123,
) -> tuple[list[Instruction], list[Instruction], list[Instruction]]:
    """Training, validation and test entries; shuffled first, unless ``seed`` is None.

    Raises:
        ConfigError: the fractions are not positive, or leave nothing for the test.
        DataError: too few entries for three parts.
    """
    order = list(entries) if seed is None else shuffled(entries, seed)
    first, second, third = split_sizes(len(order), train, validation, what="instructions")
    return order[slice(*first)], order[slice(*second)], order[slice(*third)]


def _instruction(path: Path, number: int, entry: Any) -> Instruction:
    if not isinstance(entry, dict):
        raise DataError(f"{path}, entry {number}: expected an object, got {entry!r:.60}.")
    missing = [name for name in ("instruction", "output") if name not in entry]
    if missing:
        raise DataError(
            f"{path}, entry {number}: {missing} is missing; it has {sorted(entry)}. Expected "
            '"instruction", "input" (may be empty) and "output".'
        )
    about = entry.get("input")
    fields = [entry["instruction"], "" if about is None else about, entry["output"]]
    other = next((field for field in fields if not isinstance(field, str)), None)
    if other is not None:
        raise DataError(
            f"{path}, entry {number}: every field must be a string, got {other!r:.60}. Put it in "
            "quotes."
        )
    if not fields[0].strip() or not fields[2].strip():
        raise DataError(
            f"{path}, entry {number}: the instruction or the answer is empty. There is nothing "
            "to learn from it; remove it."
        )
    return Instruction(*fields)
