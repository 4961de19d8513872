"""How a run is doing: steps, time left, loss, speed, memory."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tinygrad_llm.generation.scoring import shown_perplexity
from tinygrad_llm.terminal import can_redraw, say
from tinygrad_llm.training.loop_settings import StepReport, TrainingResult
from tinygrad_llm.training.report.bar import Bar
from tinygrad_llm.training.report.callback import Callback, Record
from tinygrad_llm.training.report.memory import readable
from tinygrad_llm.training.report.timed_lines import TimedLines

if TYPE_CHECKING:
    from tinygrad_llm.training.trainer import Trainer


class ProgressBar(Callback):
    """Shows how the run is doing: a bar on a terminal, a line now and then elsewhere.

    Args:
        levels: entropies of counting models, shown beside the validation loss.
        enabled: False shows validations only.
        seconds_between: without a terminal, the time from one line to the next.
    """

    def __init__(
        self,
        levels: Mapping[str, float] | None = None,
        enabled: bool = True,
        seconds_between: float = 10.0,
    ) -> None:
        self.levels = dict(levels or {})
        self.enabled = enabled
        self.seconds_between = seconds_between
        self._shown: Bar | TimedLines | None = None
        self._started, self._first_step = 0.0, 0
        self._loss = math.nan
        self._figures: list[str] = []

    def on_start(self, trainer: Trainer) -> None:
        """Draws the empty bar."""
        self._start_clock(trainer)
        self._loss, self._figures = math.nan, []
        steps = trainer.settings.steps
        if self.enabled and can_redraw(sys.stderr):
            self._shown = Bar(steps, trainer.step)
        elif self.enabled:
            self._shown = TimedLines(steps, self.seconds_between)
        if trainer.step == 0:
            self._note_validation(trainer)

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Moves the bar, or prints a line when the last one is old."""
        if math.isnan(self._loss):
            self._loss = report.loss
        self._show(trainer)
        self._note_validation(trainer)

    def on_log(self, trainer: Trainer, record: Record, timing: Record) -> None:
        """Renews the figures."""
        self._loss = record["loss"]
        self._figures = [
            f"{timing['tokens_per_second']:,.0f} tokens/s",
            readable(timing.get("device_memory_bytes") or timing["memory_bytes"]),
        ]
        if "mfu" in timing:
            self._figures.append(f"MFU {timing['mfu']:.1%}")
        self._show(trainer)

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Prints the validation loss on a line of its own."""
        if text := self.describe(trainer, record):
            self.print(text)
        if self._shown is not None:
            self._shown.after_validation()
        if trainer.step == self._first_step:  # the time before the first step is no step's
            self._start_clock(trainer)

    def describe(self, trainer: Trainer, record: Record) -> str:
        """The line about a validation; "" for none."""
        extra = record.get("validation_bits_per_byte")
        bits = f", {extra:.3f} bits per byte" if extra is not None else ""
        beside = "".join(f", {name} {value:.3f}" for name, value in self.levels.items())
        mark = "  (best so far)" if trainer.progress.best_step == record["step"] else ""
        return (
            f"step {record['step']}: validation loss {record['validation_loss']:.4f}, perplexity "
            f"{shown_perplexity(record['validation_perplexity'])}{bits}{beside}{mark}"
        )

    def on_end(self, trainer: Trainer, result: TrainingResult) -> None:
        """Takes the bar away."""
        if self._shown is not None:
            self._shown.close()
            self._shown = None

    def print(self, text: str) -> None:
        """Print above the bar."""
        if self._shown is not None:
            self._shown.write(text)
        else:
            say(text, flush=True)

    def _start_clock(self, trainer: Trainer) -> None:
        self._started, self._first_step = time.monotonic(), trainer.step

    def _show(self, trainer: Trainer) -> None:
        if self._shown is not None:
            done, steps = trainer.step, trainer.settings.steps
            per_step = (time.monotonic() - self._started) / max(1, done - self._first_step)
            self._shown.show(done, (steps - done) * per_step, self._loss, self._figures)

    def _note_validation(self, trainer: Trainer) -> None:
        """Tell what shows the run that a validation begins."""
        every = trainer.settings.eval_every
        if self._shown is not None and trainer.evaluate is not None:
            if every > 0 and trainer.step % every == 0:
                self._shown.before_validation(trainer.step)
