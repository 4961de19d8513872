"""What shows how far a fine-tuning is: steps of learning, texts that are read or written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

from tinygrad_llm.terminal import can_redraw
from tinygrad_llm.training.report.callback import Record
from tinygrad_llm.training.report.progress_bar import ProgressBar
from tinygrad_llm.training.trainer import Trainer

Thing = TypeVar("Thing")


class TuningBar(ProgressBar):
    """Steps, time left and speed of a fine-tuning: a bar, or lines where there is no terminal.

    The lines about validations come from `loop.fit`; give it `print` of this bar as ``report``.
    """

    def describe(self, trainer: Trainer, record: Record) -> str:
        """Nothing: `loop.fit` reports what was measured."""
        return ""


def counted(things: Sequence[Thing], what: str) -> Iterable[Thing]:
    """The things one by one. On a terminal a bar shows how many, if they take over a second."""
    from tqdm import tqdm

    silent = not can_redraw(sys.stderr)
    return tqdm(things, what, leave=False, dynamic_ncols=True, disable=silent, delay=1)
