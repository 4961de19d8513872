"""Ctrl-C while a command is still importing ends it at once, without a traceback.

The imports take some tenths of a second, in which no command can say what Ctrl-C shall do. So the
package's ``__init__`` imports this file first, and `commands.program` calls `usual_interrupt`.
Nothing changes where Python was started for something else than ``tinygrad-llm``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

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


_replace(_USUAL, signal.SIG_DFL)  # the system's own way: the process ends
