"""Ctrl-C and SIGTERM: finish the step, save, and end, instead of dying in the middle of it."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class StopSignals:
    """As a context manager: notes the first Ctrl-C or SIGTERM. A second Ctrl-C ends at once.

    Attributes:
        reason: the name of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _NAMES:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = _NAMES[signal.Signals(number)]
