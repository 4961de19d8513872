"""Instructions with answers, in the format of Alpaca: the set of chapter 7 of Raschka's book.

A file is a JSON list of objects with "instruction", "input" (may be empty) and "output"; in a
``.jsonl`` file each line is such an object. The real set has 1,100 of them; a small made-up set
ships with the package, so that the example runs offline.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygrad_llm.backend import strict_json
from tinygrad_llm.backend.download import fetch
from tinygrad_llm.backend.files import cache_folder
from tinygrad_llm.data.documents import read_text
from tinygrad_llm.data.remote import REMOTE
from tinygrad_llm.data.splits import shuffled, split_sizes
from tinygrad_llm.data.templates import Turn
from tinygrad_llm.errors import DataError

FIELDS = ("instruction", "input", "output")
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
        source: a ``.json`` or ``.jsonl`` file; ``"instruction-data"`` for the book's set,
            downloaded once; None for the made-up set of the package.
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
    places = _entries(path, read_text(path))
    found = [_instruction(place, entry) for place, entry in places]
    unread = sorted({name for _, entry in places for name in entry} - set(FIELDS))
    if unread:
        warnings.warn(
            f"{path}: the fields {unread[:5]} are not read; only {list(FIELDS)} are.", stacklevel=2
        )
    return found


def _entries(path: Path, text: str) -> list[tuple[str, Any]]:
    """Where each entry stands, for messages, and the entry."""
    if path.suffix.lower() == ".jsonl":
        lines = enumerate(text.split("\n"), start=1)
        places = [(f"{path}, line {number}", line) for number, line in lines if line.strip()]
        listed = [(place, _parsed(place, line)) for place, line in places]
    else:
        whole = _parsed(str(path), text)
        if not isinstance(whole, list):
            raise DataError(
                f"{path}: expected a JSON list of entries, got {whole!r:.60}. Write [...] around "
                "them; a file with one entry in each line is called .jsonl."
            )
        listed = [(f"{path}, entry {number}", entry) for number, entry in enumerate(whole)]
    if not listed:
        raise DataError(f"{path}: expected at least one entry.")
    return listed


def _parsed(place: str, text: str) -> Any:
    try:
        return strict_json.loads(text)
    except ValueError as error:
        raise DataError(f"{place}: not JSON ({error}).") from error


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


def _instruction(place: str, entry: Any) -> Instruction:
    if not isinstance(entry, dict):
        raise DataError(f'{place}: expected {{"instruction": ...}}, got {entry!r:.60}.')
    missing = [name for name in ("instruction", "output") if name not in entry]
    if missing:
        raise DataError(
            f"{place}: {missing} is missing; it has {sorted(entry)!r:.80}. Expected "
            '"instruction", "input" (may be empty) and "output".'
        )
    about = entry.get("input")
    fields = [entry["instruction"], "" if about is None else about, entry["output"]]
    for name, field in zip(FIELDS, fields, strict=True):
        if not isinstance(field, str):
            raise DataError(
                f"{place}: {name} must be a string, got {json.dumps(field):.60}. Put it in quotes, "
                "or remove the entry."
            )
    if not fields[0].strip() or not fields[2].strip():
        raise DataError(
            f"{place}: the instruction or the answer is empty. There is nothing "
            "to learn from it; remove it."
        )
    return Instruction(*fields)
