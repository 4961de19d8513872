"""The run's log: one JSON object per line.

    log.jsonl      what was computed: step, loss, learning rate, gradient norm, validation. The
                   same bytes for the same run, however often it was interrupted.
    timing.jsonl   how fast, and with how much memory: differs from time to time.

A resumed run first cuts off the lines that came after its checkpoint; it writes them again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
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
        """Add a line. Numbers are written so that reading gives the same bits."""
        try:
            if self._file is None:
                self._file = open(self.path, "a", encoding="utf-8")
            self._file.write(json.dumps(values) + "\n")
            self._file.flush()
        except OSError as error:
            self.close()
            raise DataError(
                f"{self.path}: cannot be written ({error.strerror}). Check the free space and the "
                "permissions; the last checkpoint is intact, go on with --resume."
            ) from error

    def sync(self) -> None:
        """Bring what was written to the disk: before a checkpoint that counts on it."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def cut_after(self, step: int) -> None:
        """Drop the lines of later steps, and a last line that was not finished."""
        self.close()
        if self.path.is_file():
            kept = [
                line
                for line in self.path.read_bytes().splitlines(keepends=True)
                if line.endswith(b"\n") and _step_of(line) <= step
            ]
            write_atomic(self.path, b"".join(kept))

    def close(self) -> None:
        """Close the file; a later `write` opens it again."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # what could not be written was reported by `write`
                file.close()


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a torn line


def read_log(path: Path) -> list[Any]:
    """The lines of a log; one that was not finished is left out.

    Raises:
        DataError: no such file, or a line within it is no JSON.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Expected a run's log.") from error
    records = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise DataError(f"{path}, line {number}: is no JSON ({error}).") from error
    return records
