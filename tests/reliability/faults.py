"""Strikes this process at a chosen file event: kills it, or lets the event fail.

A file event changes the disk below a watched folder: opening for writing, each write, a flush to
the disk, mkdir, rename, unlink, rmdir, a link. Python's audit hook tells of most of them before
they happen; writes and flushes, which it leaves out, are seen by the file objects that `open`
gives while a folder is watched.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KILL, FULL, PAUSE = "kill", "full disk", "pause"
_AUDITED = {
    "os.mkdir": "mkdir",
    "os.rename": "rename",
    "os.remove": "unlink",
    "os.rmdir": "rmdir",
    "os.symlink": "link",
    "os.link": "link",
    "os.truncate": "truncate",
}
_TAKES_ROOM = ("open", "write", "flush", "mkdir", "rename", "link")
_ASKS_PERMISSION = ("open", "read", "stat", "mkdir", "rename", "unlink", "rmdir", "link")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Fault:
    """What happens at which file event.

    Attributes:
        at: number of the event, from 0.
        what: "kill" is SIGKILL, in the middle of a write; "full disk" is ENOSPC here and at each
            later event that takes room; "pause" puts `sign_of` there and waits until somebody
            takes it away; else the name of an errno, at this event alone.
    """

    at: int
    what: str

    def concerns(self, event: str) -> bool:
        """Whether a real system may answer this event so: an unlink needs no room."""
        if self.what == FULL:
            return event in _TAKES_ROOM
        return self.what != "EACCES" or event in _ASKS_PERMISSION


class Watch:
    """The file events below a folder, in order, and the fault that strikes one of them.

    Args:
        folder: what is watched; events elsewhere are none.
        fault: None only records.
        reads: files opened for reading, listed folders, and asking for a file are events, too.
    """

    def __init__(self, folder: Path, fault: Fault | None = None, reads: bool = False) -> None:
        self.folder, self.fault, self.reads = os.path.realpath(folder), fault, reads
        self.events: list[str] = []

    def start(self) -> None:
        """Watch for the rest of this process: an audit hook cannot be taken off."""
        sys.addaudithook(self._audit)
        for module in (builtins, io):
            module.open = _watched_open(self, io.open)  # type: ignore[attr-defined]
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._flushing(getattr(os, name)))
        if self.reads:
            os.stat = self._asking(os.stat)  # type: ignore[assignment]

    def see(self, event: str, path: str) -> None:
        """Count an event, and strike if it is the one.

        Raises:
            OSError: the fault is an errno.
        """
        if not self._below(path):
            return
        number = len(self.events)
        self.events.append(f"{event} {os.path.relpath(path, self.folder)}")
        fault = self.fault
        if fault is None or number < fault.at or not fault.concerns(event):
            return
        if number == fault.at or fault.what == FULL:
            self._strike(fault.what, path)

    def _strike(self, what: str, path: str) -> None:
        if what == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if what != PAUSE:
            number = errno.ENOSPC if what == FULL else getattr(errno, what)
            raise OSError(number, os.strerror(number), path)
        sign = sign_of(Path(self.folder))
        sign.touch()
        while sign.exists():
            time.sleep(0.002)

    def strikes_next(self, path: str) -> bool:
        """Whether the next event below the folder is the one at which a write is cut off."""
        fault = self.fault
        return bool(
            fault
            and fault.what != PAUSE
            and fault.at == len(self.events)
            and fault.concerns("write")
            and self._below(path)
        )

    def _below(self, path: str) -> bool:
        whole = os.path.abspath(path)
        return whole == self.folder or whole.startswith(self.folder + os.sep)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int):
                return
            if flags & _WRITING:
                self.see("open", os.fsdecode(path))
            elif self.reads:
                self.see("read", os.fsdecode(path))
        elif event in ("os.listdir", "os.scandir") and self.reads:
            self.see("read", _path_of_any(arguments[0]))
        elif event in _AUDITED:
            self.see(_AUDITED[event], self._place(event, arguments))

    def _place(self, event: str, arguments: tuple[Any, ...]) -> str:
        """The path that an event changes; of one relative to an open folder, the whole of it."""
        second = event in ("os.rename", "os.symlink", "os.link")
        path = arguments[1 if second else 0]
        if isinstance(path, int):
            return _path_of(path)
        name = os.fsdecode(path)
        opened = arguments[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1
        return name if opened == -1 else os.path.join(_path_of(opened), name)

    def _flushing(self, flush: Callable[[int], None]) -> Callable[[int], None]:
        def watched(descriptor: Any) -> None:
            number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
            self.see("flush", _path_of(number))
            flush(number)

        return watched

    def _asking(self, stat: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, *args: Any, **more: Any) -> Any:
            self.see("stat", _path_of_any(path))
            return stat(path, *args, **more)

        return watched


def sign_of(folder: Path) -> Path:
    """The file that is there while a process pauses."""
    return folder.with_name(f"{folder.name}.paused")


def _path_of(descriptor: int) -> str:
    """The path of an open file or folder."""
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _path_of_any(path: Any) -> str:
    return _path_of(path) if isinstance(path, int) else os.fsdecode(path or ".")


def _watched_open(watch: Watch, real: Callable[..., Any]) -> Callable[..., Any]:
    class Raw(io.FileIO):
        """A file whose writes are seen; one that is struck leaves half of its bytes."""

        def write(self, data: Any, /) -> int:
            path = self.name if isinstance(self.name, (str, bytes)) else _path_of(self.fileno())
            path = os.fsdecode(path)
            if watch.strikes_next(path):
                super().write(memoryview(data).cast("B")[: len(data) // 2])
            watch.see("write", path)
            return super().write(data)

    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if not set(mode) & set("wax+"):
            return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
        name = os.fspath(file) if isinstance(file, os.PathLike) else file
        raw = Raw(name, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return binary
        return io.TextIOWrapper(binary, encoding, errors, newline, line_buffering=buffering == 1)

    return opened
