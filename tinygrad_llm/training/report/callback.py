"""Callbacks: the events of a run, and what is called for each.

class Bell(Callback):
    def on_evaluation(self, trainer, record):
        print("\\a", record["validation_loss"])

Trainer(..., callbacks=[Bell()])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinygrad_llm.training.loop_settings import StepReport, TrainingResult
from tinygrad_llm.training.stopping import why_unheard

if TYPE_CHECKING:
    from tinygrad_llm.training.trainer import Trainer

Record = dict[str, float]  # a line of a log


class Callback:
    """Base class: override the events that matter. Each gets the trainer first."""

    def on_start(self, trainer: Trainer) -> None:
        """Before the first step of this call of ``fit``."""

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """After each step, before logging and evaluation."""

    def on_log(self, trainer: Trainer, record: Record, timing: Record) -> None:
        """When lines were written to the logs."""

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """After an evaluation; the record holds "validation_loss" and so on."""

    def after_step(self, trainer: Trainer, report: StepReport) -> None:
        """After a step's logging and evaluation, before its checkpoint."""

    def on_checkpoint(self, trainer: Trainer, folder: Path) -> None:
        """When a checkpoint is complete."""

    def on_end(self, trainer: Trainer, result: TrainingResult) -> None:
        """At the end of ``fit``, also after an error."""


def tell(callbacks: Sequence[Callback], event: str, trainer: Trainer, *what: object) -> str | None:
    """Call a method of each callback; returns None, or why one could not print.

    One that finds the output closed or full does not end the step in its middle: the trainer stops
    after it, with a checkpoint.
    """
    unheard = None
    for callback in callbacks:
        try:
            getattr(callback, event)(trainer, *what)
        except OSError as error:
            unheard = why_unheard(error)
            if unheard is None:
                raise
    return unheard
