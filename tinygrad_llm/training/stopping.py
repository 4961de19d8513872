"""What ends a run before its last step, with a checkpoint: signals, and an output that is closed.

Ctrl-C, SIGTERM and SIGHUP (the terminal was closed) finish the step, save, and end, instead of
dying in the middle of it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

from tinygrad_llm.errors import OutputError
from tinygrad_llm.terminal import is_unread

Handler = Callable[[int, FrameType | None], object] | int | None
CLOSED_OUTPUT = "a closed output"  # nobody reads what is printed: `... | head`, a lost terminal
FULL_OUTPUT = "a full output"  # what is printed goes into a file, and its disk is full
# Reasons to stop that come from outside -> exit status, as a shell expects it.
EXIT_CODES = {"Ctrl-C": 130, "SIGTERM": 143, "SIGHUP": 129, CLOSED_OUTPUT: 141}
_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
if hasattr(signal, "SIGHUP"):  # not on Windows
    _NAMES[signal.SIGHUP] = "SIGHUP"


class StopSignals:
    """As a context manager: notes the first signal that comes. A second Ctrl-C ends at once.

    A signal that the process ignores, such as SIGHUP below ``nohup``, stays ignored.

    Attributes:
        reason: the name of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._before: list[dict[int, Handler]] = []  # handlers, of each time it was entered

    def __enter__(self) -> StopSignals:
        main = threading.current_thread() is threading.main_thread()  # others may set no handler
        heard = [n for n in _NAMES if main and signal.getsignal(n) not in (signal.SIG_IGN, None)]
        self._before.append({n: signal.signal(n, self._note) for n in heard})
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.pop().items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = _NAMES[signal.Signals(number)]


def why_unheard(error: OSError) -> str | None:
    """`CLOSED_OUTPUT` or `FULL_OUTPUT` where printing failed; None for another error."""
    if isinstance(error, OutputError):
        return FULL_OUTPUT
    return CLOSED_OUTPUT if is_unread(error) else None
