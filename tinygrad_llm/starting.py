"""While this package is imported, Ctrl-C ends a command, and a worker ends with its parent.

The imports take some tenths of a second, and many seconds on a busy machine, in which no command
can say what shall end it. So the package's ``__init__`` imports this file first, and
`commands.program` calls `usual_interrupt`, which gives Ctrl-C its own meaning back. Nothing
changes where Python was started for something else than ``tinygrad-llm`` or its workers.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

WORKER_OF = "tinygrad_llm worker of "  # the name of a worker, before the number of its parent
_USUAL = signal.default_int_handler


def usual_interrupt() -> None:
    """Ctrl-C raises KeyboardInterrupt again, for a command to deal with."""
    _replace(signal.SIG_DFL, _USUAL)


def _replace(old: object, new: Callable[[int, FrameType | None], object] | int) -> None:
    if _is_command(sys.orig_argv[1:]) and signal.getsignal(signal.SIGINT) is old:
        signal.signal(signal.SIGINT, new)


def _is_command(words: list[str]) -> bool:
    """Whether Python was started by ``tinygrad-llm`` or ``python -m tinygrad_llm``."""
    while words and words[0].startswith("-") and words[0] != "-m":
        words = words[1:]
    if words[:1] == ["-m"]:
        return words[1:2] == ["tinygrad_llm"]
    return bool(words) and os.path.basename(words[0]) == "tinygrad-llm"


def _watch_parent() -> None:
    """Look for the parent from now on, in a spawned process that is named as its worker."""
    if os.name != "posix" or "--multiprocessing-fork" not in sys.orig_argv:
        return
    from multiprocessing import current_process  # where it is imported already

    name = current_process().name
    if name.startswith(WORKER_OF):
        parent = int(name.removeprefix(WORKER_OF))
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.1)
    os._exit(1)


_watch_parent()
_replace(_USUAL, signal.SIG_DFL)  # the system's own way: the process ends
