"""Random numbers drawn a second time: for a stretch of the network that is computed twice.

    draws = Draws()
    with draws.noted():         # where each generator that is used stands before its first draw
        y = function(x)
    with draws.repeated():      # the same numbers; afterwards the generators stand where they stood
        y = function(x)

Any generator counts: that of ``tg.manual_seed``, one that a Dropout layer was given, and the rows
of keys that a recorded step hands out in its place.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinygrad_llm.backend.random import Generator, Place


class _Noting(threading.local):
    """The `Draws` of a thread that are being noted, from the outermost to the innermost."""

    active: tuple[Draws, ...] = ()


_noting = _Noting()


class Draws:
    """Where the generators stood that a stretch of code draws from."""

    def __init__(self) -> None:
        self.places: dict[Generator, Place] = {}  # generator -> its place before the first draw

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Inside, each generator of this thread is noted when it is first used."""
        outside = _noting.active
        _noting.active = (*outside, self)
        try:
            yield
        finally:
            _noting.active = outside

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Inside, the noted generators give the same numbers again."""
        before = {generator: generator.place() for generator in self.places}
        try:
            for generator, place in self.places.items():
                generator.go_to(place)
            yield
        finally:
            for generator, place in before.items():
                generator.go_to(place)


def note_draw(generator: Generator) -> None:
    """Called by a generator before each draw."""
    for draws in _noting.active:
        if generator not in draws.places:
            draws.places[generator] = generator.place()
