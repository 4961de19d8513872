"""Folders that are saved as a whole or not at all, and that notice damage when they are opened.

    with saving("runs/spam") as staged:         a new folder, runs/spam/.saving-4711-k2v9x
        write_atomic(staged / "a.json", ...)    any number of files
                                                then all are flushed, listed in checksums.json, and
                                                the folder is renamed to runs/spam/.saved
    verify("runs/spam")                         compares the files with the list

The rename is the moment that counts. Before it the old files stand untouched; after it the new ones
are complete, and are moved to their places one by one: by the saver, or, if that was killed, by
whoever opens the folder or saves into it next (`settle`). Files that were not saved this way stay
as they are.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from tinygrad_llm.backend.checksums import (
    CHECKSUMS_NAME,
    FORMATS,
    VERSION,
    Files,
    checksums_of,
    compare,
    is_plain_name,
    is_verifying,
    read_sealed,
    recorded,
    sealed,
)
from tinygrad_llm.backend.files import reading_errors, sync_folder
from tinygrad_llm.backend.folder_lock import locked
from tinygrad_llm.backend.staging import Save, flush, staging
from tinygrad_llm.errors import CheckpointError, TokenizerError

SAVED_NAME = ".saved"


_going_on: ContextVar[Save | None] = ContextVar("the save that is going on", default=None)


@contextmanager
def saving(
    folder: str | os.PathLike[str], part: str = "files", instead_of: Collection[str] = ()
) -> Iterator[Path]:
    """A folder to write files into, which replace those of ``folder`` together when the block ends.

    Within another `saving` of the same folder it is the outer one's: all is saved together.

    Args:
        folder: where the files are to stand; made if need be.
        part: what is saved, such as ``"model"``. Files of an earlier save of the same part that are
            not written again are removed; other parts stay.
        instead_of: files that contradict the new ones and are removed, listed or not.

    Raises:
        CheckpointError: it cannot be written (a full disk, no permission), and the old files are
            as they were; or the files are complete and cannot be moved, which `settle` goes on
            with.
    """
    path = Path(folder)
    outer = _going_on.get()
    if outer is not None and outer.is_for(path):
        with outer.writing(part, instead_of) as staged:
            yield staged
        return
    with _explained(path), staging(path) as save:
        token = _going_on.set(save)
        try:
            with save.writing(part, instead_of) as staged:
                yield staged
        except (CheckpointError, TokenizerError) as error:  # name the folder that the caller knows
            raise type(error)(str(error).replace(str(save.staged), str(path))) from error
        finally:
            _going_on.reset(token)
        _commit(save)


@contextmanager
def joined(folder: Path) -> Iterator[None]:
    """Within this block, `saving` of ``folder`` writes straight into it.

    For a caller who makes the whole folder appear, such as a training checkpoint.
    """
    token = _going_on.set(Save(folder, folder))
    try:
        yield
    finally:
        _going_on.reset(token)


def settle(folder: str | os.PathLike[str]) -> None:
    """Move the files of a save in place that was interrupted after it was complete.

    Raises:
        CheckpointError: they cannot be moved.
    """
    path = Path(folder)
    with reading_errors(path, CheckpointError):
        if not (path / SAVED_NAME).is_dir():
            return
    with _explained(path), locked(path):
        _put_in_place(path)


def verify(
    folder: str | os.PathLike[str],
    names: Collection[str] | None = None,
    otherwise: Files | None = None,
    skip: bool = False,
) -> frozenset[str]:
    """Compare the files of a folder with the checksums that were saved with them.

    A folder without checksums is foreign or older: nothing is compared. Neither is anything where
    the environment says ``TINYGRAD_LLM_VERIFY=off``.

    Args:
        folder: that is to be read; an interrupted save is brought to its end first.
        names: the files that are to be read; None for all.
        otherwise: checksums from elsewhere, for files that the folder's own list does not name.
        skip: compare nothing.

    Returns:
        the names that were compared.

    Raises:
        CheckpointError: a file, or the list of checksums, is damaged or missing.
    """
    path = Path(folder)
    settle(path)
    if skip or not is_verifying():
        return frozenset()
    files = {**(otherwise or {}), **recorded(path)}
    wanted = {name: files[name] for name in files if names is None or name in names}
    compare(path, wanted)
    return frozenset(wanted)


@contextmanager
def reading(folder: str | os.PathLike[str]) -> Iterator[None]:
    """A block that opens several files of a folder, and must not get them of two saves.

    Raises:
        CheckpointError: somebody saved into the folder meanwhile, or the system refuses to read.
    """
    path = Path(folder)
    settle(path)
    before = _latest(path)
    try:
        with reading_errors(path, CheckpointError):
            yield
    except (CheckpointError, TokenizerError):
        if _latest(path) == before:
            raise
    if _latest(path) != before:
        raise CheckpointError(f"{path}: was saved anew while it was read. Open it again.")


def _latest(folder: Path) -> list[tuple[int, int] | None]:
    """What differs after a save: the lists of checksums, and whether files are being moved."""
    return [_stamp(folder / name) for name in (*FORMATS, SAVED_NAME)]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except OSError:  # not there
        return None
    return about.st_ino, about.st_mtime_ns


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{folder}: cannot be written ({error.strerror or error}). Check the free space and "
            "the permissions."
        ) from error


def _commit(save: Save) -> None:
    """Flush the files, write their list, and rename the folder; then move them in place."""
    new = checksums_of(save.staged.iterdir())
    for name, entry in new.items():
        entry["part"] = save.part_of[name]
    with locked(save.folder):
        _put_in_place(save.folder)
        earlier = _earlier(save.folder)
        of_its_parts = {n for n, entry in earlier.items() if entry.get("part") in save.touched}
        contradict = {name for name in save.instead_of if (save.folder / name).exists()}
        stale = sorted((of_its_parts | contradict) - set(new))
        kept = {name: entry for name, entry in earlier.items() if name not in stale}
        body = {
            "format": FORMATS[CHECKSUMS_NAME],
            "version": VERSION,
            "files": {**kept, **new},
            "removed": stale,
        }
        (save.staged / CHECKSUMS_NAME).write_bytes(sealed(body))
        _refuse_folders(save.folder, new)
        flush(save.staged)
        os.rename(save.staged, save.folder / SAVED_NAME)
        sync_folder(save.folder)
        _put_in_place(save.folder)


def _earlier(folder: Path) -> Files:
    """What the list in the folder says, which the new one goes on with."""
    path = folder / CHECKSUMS_NAME
    try:
        return read_sealed(path)["files"] if path.exists() else {}
    except CheckpointError as error:
        raise CheckpointError(
            f"{path}: stands in the way of what is to be saved: it is damaged, or another "
            "program's. Move it away, or choose another folder."
        ) from error


def _refuse_folders(folder: Path, names: Collection[str]) -> None:
    for path in (folder / name for name in names):
        if path.is_dir():
            raise CheckpointError(
                f"{path}: is a folder, where a file is to be saved. Move it away, or choose "
                "another folder."
            )


def _put_in_place(folder: Path) -> None:
    """Move the files of a complete save to their places, the list of checksums last."""
    saved = folder / SAVED_NAME
    if (saved / CHECKSUMS_NAME).is_file():
        removed = read_sealed(saved / CHECKSUMS_NAME).get("removed", [])
        for path in sorted(saved.iterdir()):
            if path.name != CHECKSUMS_NAME:
                os.replace(path, folder / path.name)
        for name in filter(is_plain_name, removed):
            (folder / name).unlink(missing_ok=True)
        sync_folder(folder)
        os.replace(saved / CHECKSUMS_NAME, folder / CHECKSUMS_NAME)
        sync_folder(folder)
    if saved.is_dir():
        saved.rmdir()
