"""One line that says how far a run is, made to fit the terminal's width."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from tqdm import tqdm

from tinygrad_llm.terminal import columns, fitting, writing

_LONGEST = 40  # letters of the bar
_SHORTEST = 8  # letters of the bar where a text could be left out in its favour


class Bar:
    """A bar at the bottom of the terminal; texts are printed above it.

    Args:
        total: steps in all.
        done: steps done before.
    """

    def __init__(self, total: int, done: int) -> None:
        self._bar = _FittedBar(total=total, initial=done, leave=False, file=sys.stderr)

    def show(self, done: int, left: float, loss: float, figures: Sequence[str]) -> None:
        """Renew the line, at most ten times a second.

        Args:
            done: steps done.
            left: seconds until the last step.
            loss: of training.
            figures: further texts, the most important first.
        """
        self._bar.texts = texts_of(f"{done}/{self._bar.total}", left, loss, figures)
        self._bar.update(done - self._bar.n)

    def before_validation(self, step: int) -> None:
        """Before the first step nothing else could be shown."""
        if step == self._bar.initial:
            self._bar.texts = ["validation before the first step", "validation", ""]
            self._bar.refresh()

    def after_validation(self) -> None:
        """Show again what was shown before."""
        self._bar.refresh()

    def write(self, text: str) -> None:
        """Print a text above the bar."""
        with writing():
            self._bar.write(fitting(text, sys.stdout))

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()


class _FittedBar(tqdm):
    """tqdm's bar with a text that is never cut: what matters least is left out first."""

    texts: Sequence[str] = ("",)

    def __str__(self) -> str:
        """What tqdm draws."""
        # The last column stays free: some terminals begin a new line when it is written.
        return fitted((columns(self.fp) or 80) - 1, self.texts, self._drawn)

    def _drawn(self, width: int) -> str:
        """The bar alone, of a width."""
        kind = {"ncols": width, "ascii": self.ascii, "bar_format": "{bar}"}
        return self.format_meter(self.n, self.total, 0, **kind)


def texts_of(count: str, left: float, loss: float, figures: Sequence[str]) -> list[str]:
    """What to write behind the bar, from the most to the least."""
    time = clock(left)
    parts = [f"{time} left", f"loss {loss:.3f}", count, *figures]
    longer = ["  ".join(parts[:number]) for number in range(len(parts), 1, -1)]
    return [*longer, f"{time} loss {loss:.2f}", f"{time} {loss:.1f}", time, ""]


def fitted(room: int, texts: Sequence[str], draw: Callable[[int], str]) -> str:
    """A bar and the first text that leaves room for it.

    Args:
        room: letters of the line.
        texts: from the longest to the shortest.
        draw: gives a bar of a width.
    """
    for text in texts:
        width = min(_LONGEST, room - len(text) - 3)  # two edges and a space
        if width >= (_SHORTEST if "  " in text else 2):
            return f"|{draw(width)}| {text}".rstrip()
    return ""


def clock(seconds: float) -> str:
    """A time in at most five letters: ``"3:20"``, ``"2h05"`` or ``"4d07"``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours_of_day = divmod(hours, 24)
    if days:
        return f"{days}d{hours_of_day:02d}"
    return f"{hours}h{minutes:02d}" if hours else f"{minutes}:{rest:02d}"
