"""The folder into which a save is written before its files appear."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tinygrad_llm.backend.files import remove, sync_folder
from tinygrad_llm.backend.folder_lock import lock, locked, unlock

_PREFIX = ".saving-"
_STAGED = re.compile(rf"{re.escape(_PREFIX)}\d+-[a-z0-9_]{{8}}")  # as `mkdtemp` makes it


@dataclass
class Save:
    """What is being saved by this thread.

    Attributes:
        folder: where the files are to stand.
        staged: where they are written.
        touched: the parts that are saved.
        instead_of: files that are removed, whoever wrote them.
        part_of: file -> the part that it belongs to.
    """

    folder: Path
    staged: Path
    touched: set[str] = field(default_factory=set)
    instead_of: set[str] = field(default_factory=set)
    part_of: dict[str, str] = field(default_factory=dict)

    def is_for(self, folder: Path) -> bool:
        return _absolute(folder) in (_absolute(self.folder), _absolute(self.staged))

    @contextmanager
    def writing(self, part: str, instead_of: Collection[str]) -> Iterator[Path]:
        """Files that are new at the end of the block belong to the part, or to one within it."""
        before = set(os.listdir(self.staged))
        self.touched.add(part)
        self.instead_of.update(instead_of)
        yield self.staged
        for name in set(os.listdir(self.staged)) - before:
            self.part_of.setdefault(name, part)


@contextmanager
def staging(folder: Path) -> Iterator[Save]:
    """A new folder to write into; it is gone at the end unless it was renamed."""
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _remove_leftovers(folder)
        name = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=folder)
        staged = folder / Path(name).name
        held = lock(staged)
    try:
        yield Save(folder, staged)
    finally:
        unlock(held)
        remove(staged, quietly=True)
        if made:
            with suppress(OSError):  # it is not empty: the save came to its end
                folder.rmdir()


def _remove_leftovers(folder: Path) -> None:
    """Remove what savers left that were killed: nobody holds their locks."""
    for leftover in folder.glob(f"{_PREFIX}*"):
        if not (_STAGED.fullmatch(leftover.name) and leftover.is_dir()):
            continue
        held = lock(leftover, wait=False)
        if held is not None:
            unlock(held)
            remove(leftover, quietly=True)


def flush(folder: Path) -> None:
    """Bring files and entries of a folder to the disk."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)


def _absolute(path: Path) -> str:
    return os.path.abspath(path)
