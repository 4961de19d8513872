"""The run's log: one JSON object per line.

    log.jsonl      what was computed: step, loss, learning rate, gradient norm, validation. The
                   same bytes for the same run, however often it was interrupted.
    timing.jsonl   how fast, and with how much memory: differs from time to time.

A resumed run first cuts off the lines that came after its checkpoint; it writes them again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from tinygrad_llm.backend.files import write_atomic
from tinygrad_llm.errors import DataError

LOG_NAME, TIMING_NAME = "log.jsonl", "timing.jsonl"


class LineLog:
    """Appends to one file of lines.

    Args:
        path: the file; it is made, or continued.

    Raises:
        DataError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def write(self, values: Mapping[str, object]) -> None:
        """Add a line. Numbers are written so that reading gives the same bits; NaN is null."""
        with self._in_one_sentence():
            if self._file is None:
                self._file = open(self.path, "a", encoding="utf-8")
            self._file.write(json.dumps(without_nan(values), allow_nan=False) + "\n")
            self._file.flush()

    def sync(self) -> None:
        """Bring what was written to the disk: before a checkpoint that counts on it.

        Raises:
            DataError: it cannot be written.
        """
        if self._file is not None:
            with self._in_one_sentence():
                os.fsync(self._file.fileno())

    def cut_after(self, step: int) -> None:
        """Drop the lines of later steps, and a last line that was not finished.

        Raises:
            DataError: the file cannot be read or written, or is none.
        """
        self.close()
        if not self.path.exists():
            return
        if not self.path.is_file():  # opening a pipe would wait for its other end
            raise DataError(f"{self.path}: is no file, and the log belongs there. Move it away.")
        with self._in_one_sentence():
            kept = [
                line
                for line in self.path.read_bytes().splitlines(keepends=True)
                if line.endswith(b"\n") and _step_of(line) <= step
            ]
            write_atomic(self.path, b"".join(kept))

    @contextmanager
    def _in_one_sentence(self) -> Iterator[None]:
        """Inside, an error of the system becomes a `DataError`, and the file is closed."""
        try:
            yield
        except OSError as error:
            self.close()
            raise DataError(
                f"{self.path}: cannot be written ({error.strerror}). Check the free space and the "
                "permissions; the last checkpoint is intact, go on with --resume."
            ) from error

    def close(self) -> None:
        """Close the file; a later `write` opens it again."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # what could not be written was reported by `write`
                file.close()


def without_nan(value: Any) -> Any:
    """The value with None in the place of NaN and infinities, which JSON does not have."""
    if isinstance(value, Mapping):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")  # a torn line


def read_log(path: Path) -> list[Any]:
    """The lines of a log, each a table with a "step"; one that was not finished is left out.

    Raises:
        DataError: no such file, or a line within it is no such table in JSON.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError("not a file")
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Expected a run's log.") from error
    records = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: is no JSON ({error}).") from error
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            raise DataError(
                f'{path}, line {number}: expected a table with a "step", got {line!r:.60}.'
            )
        records.append(record)
    return records
