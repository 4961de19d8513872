"""Signals that end a run before its last step.

Ctrl-C and SIGTERM finish the step, save, and end, instead of dying in the middle of it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None
_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class StopSignals:
    """As a context manager: notes the first Ctrl-C or SIGTERM. A second Ctrl-C ends at once.

    Attributes:
        reason: the name of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._before: list[dict[int, Handler]] = []  # handlers, of each time it was entered

    def __enter__(self) -> StopSignals:
        main = threading.current_thread() is threading.main_thread()  # others may set no handler
        self._before.append({n: signal.signal(n, self._note) for n in _NAMES} if main else {})
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.pop().items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = _NAMES[signal.Signals(number)]
