"""The progress bar: steps, time left, loss, speed, memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from tinygrad_llm.training.loop_settings import StepReport, TrainingResult
from tinygrad_llm.training.report.callback import Callback, Record
from tinygrad_llm.training.report.memory import readable

if TYPE_CHECKING:
    from tqdm import tqdm

    from tinygrad_llm.training.trainer import Trainer


class ProgressBar(Callback):
    """Shows how the run is doing: a bar on a terminal, a line now and then elsewhere.

    Args:
        levels: entropies of counting models, shown beside the validation loss.
        enabled: False shows validations only.
        lines_every: without a terminal, print every so many lines of the log.
    """

    def __init__(
        self, levels: Mapping[str, float] | None = None, enabled: bool = True, lines_every: int = 10
    ) -> None:
        self.levels = dict(levels or {})
        self.enabled = enabled
        self.lines_every = lines_every
        self._bar: tqdm[NoReturn] | None = None
        self._lines = 0

    def on_start(self, trainer: Trainer) -> None:
        """Draws the empty bar."""
        from tqdm import tqdm

        if self.enabled and sys.stderr.isatty():
            self._bar = tqdm(
                total=trainer.settings.steps,
                initial=trainer.step,
                unit="step",
                dynamic_ncols=True,
                smoothing=0.05,
            )

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update()

    def on_log(self, trainer: Trainer, record: Record, timing: Record) -> None:
        """Renews the figures."""
        smoothed = trainer.progress.smoothed_loss
        figures = (
            f"loss {record['loss']:.3f} (smoothed {smoothed or float('nan'):.3f})  "
            f"{timing['tokens_per_second']:,.0f} tokens/s  "
            f"{readable(timing.get('device_memory_bytes') or timing['memory_bytes'])}"
        )
        if "mfu" in timing:
            figures += f"  MFU {timing['mfu']:.1%}"
        if self._bar is not None:
            self._bar.set_postfix_str(figures, refresh=False)
        elif self.enabled and self._lines % self.lines_every == 0:
            left = (trainer.settings.steps - record["step"]) * _seconds_per_step(trainer)
            print(
                f"step {record['step']}/{trainer.settings.steps}  {figures}  "
                f"{readable_time(left)} left",
                flush=True,
            )
        self._lines += 1

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Prints the validation loss on a line of its own."""
        extra = record.get("validation_bits_per_byte")
        bits = f", {extra:.3f} bits per byte" if extra is not None else ""
        beside = "".join(f", {name} {value:.3f}" for name, value in self.levels.items())
        mark = "  (best so far)" if trainer.progress.best_step == record["step"] else ""
        self.print(
            f"step {record['step']}: validation loss {record['validation_loss']:.4f}, perplexity "
            f"{record['validation_perplexity']:.2f}{bits}{beside}{mark}"
        )

    def on_end(self, trainer: Trainer, result: TrainingResult) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def print(self, text: str) -> None:
        """Print above the bar."""
        if self._bar is not None:
            self._bar.write(text)
        else:
            print(text, flush=True)


def _seconds_per_step(trainer: Trainer) -> float:
    recorder = trainer.recorder
    return recorder.seconds / max(1, recorder.steps)


def readable_time(seconds: float) -> str:
    """Such as ``"48 s"``, ``"3 min 20 s"`` or ``"2 h 05 min"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
