"""Progress in a file, a pipe or a notebook, where no line can be written over."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from tinygrad_llm.terminal import say


class TimedLines:
    """Prints how far a run is, every few seconds.

    Args:
        total: steps in all.
        seconds_between: from one line to the next, at least.
    """

    def __init__(self, total: int, seconds_between: float) -> None:
        self._total, self._between = total, seconds_between
        self._next = time.monotonic() + seconds_between
        self._first = True
        self._validation_began, self._validation_took = 0.0, math.inf

    def show(self, done: int, left: float, loss: float, figures: Sequence[str]) -> None:
        """Print a line, if the last one is old; the first comes with the first figures."""
        if time.monotonic() < self._next and not (self._first and figures):
            return
        said = [f"step {done}/{self._total}", f"loss {loss:.3f}", *figures]
        self.write("  ".join([*said, f"{readable_time(left)} left"]))
        self._first = False

    def before_validation(self, step: int) -> None:
        """Say that it begins, if it is long or nobody knows yet how long it is."""
        self._validation_began = time.monotonic()
        if self._validation_took > self._between:
            self.write(f"step {step}: validating")

    def after_validation(self) -> None:
        """Note how long it took."""
        self._validation_took = time.monotonic() - self._validation_began

    def write(self, text: str) -> None:
        """Print a text; the next line of progress is due later."""
        say(text, flush=True)
        self._next = time.monotonic() + self._between

    def close(self) -> None:
        """Nothing is left to be taken away."""


def readable_time(seconds: float) -> str:
    """Such as ``"48 s"``, ``"3 min 20 s"`` or ``"2 h 05 min"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
