"""Writes the two logs of a run and keeps the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tinygrad_llm.training.loop_settings import StepReport
from tinygrad_llm.training.progress import Progress
from tinygrad_llm.training.report.callback import Record
from tinygrad_llm.training.report.log import LOG_NAME, TIMING_NAME, LineLog
from tinygrad_llm.training.report.memory import device_bytes, resident_bytes


class Recorder:
    """The log of computed figures, and the log of speed and memory.

    Args:
        folder: where ``log.jsonl`` and ``timing.jsonl`` go; None keeps time only.
        utilization: from tokens/s to the used part of the chip's peak, or None where unknown.

    Attributes:
        seconds, tokens, steps: of all training steps so far in this process.
    """

    def __init__(
        self, folder: Path | None = None, utilization: Callable[[float], float | None] | None = None
    ) -> None:
        self.utilization = utilization
        self.seconds, self.tokens, self.steps = 0.0, 0, 0
        self._new_seconds, self._new_tokens = 0.0, 0
        self._log = None if folder is None else LineLog(folder / LOG_NAME)
        self._timing = None if folder is None else LineLog(folder / TIMING_NAME)

    def note_time(self, tokens: int, seconds: float) -> None:
        """Count the time of a step."""
        self.steps += 1
        self.tokens += tokens
        self.seconds += seconds
        self._new_tokens += tokens
        self._new_seconds += seconds

    def write_step(self, report: StepReport, progress: Progress) -> tuple[Record, Record]:
        """A line in each log; returns both."""
        record: Record = {
            "step": report.step,
            "tokens": progress.tokens,
            "loss": progress.take_mean_loss(),
            "learning_rate": report.learning_rate,
            "gradient_norm": report.gradient_norm,
        }
        if progress.skipped_steps:
            record["skipped_steps"] = progress.skipped_steps
        speed = self._new_tokens / self._new_seconds if self._new_seconds else 0.0
        timing: Record = {
            "step": report.step,
            "tokens_per_second": round(speed, 1),
            "seconds": round(self.seconds, 3),
            "memory_bytes": resident_bytes(),
        }
        if used := device_bytes():
            timing["device_memory_bytes"] = used
        used_part = self.utilization(speed) if self.utilization is not None else None
        if used_part is not None:
            timing["mfu"] = used_part
        self._new_seconds, self._new_tokens = 0.0, 0
        if self._log is not None and self._timing is not None:
            self._log.write(record)
            self._timing.write(timing)
        return record, timing

    def write_evaluation(self, step: int, metrics: Mapping[str, float]) -> Record:
        """A line about an evaluation; returns it."""
        record: Record = {"step": step}
        record |= {f"validation_{name}": value for name, value in metrics.items()}
        if self._log is not None:
            self._log.write(record)
        return record

    def cut_after(self, step: int) -> None:
        """Drop what was logged after the checkpoint that the run goes on from."""
        for log in (self._log, self._timing):
            if log is not None:
                log.cut_after(step)

    def sync(self) -> None:
        """Bring the log to the disk."""
        if self._log is not None:
            self._log.sync()

    def close(self) -> None:
        """Close the files."""
        for log in (self._log, self._timing):
            if log is not None:
                log.close()
