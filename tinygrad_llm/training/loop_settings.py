"""What goes into the training loop, settings and batches, and the figures that come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tinygrad_llm.backend import Array
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.training.progress import Progress

if TYPE_CHECKING:
    from tinygrad_llm.training.report.recorder import Recorder

Batch = tuple[Array, ...]  # of a micro-batch: inputs, targets, or what a loss needs
Figures = tuple[float, int, float]  # of a step: loss, targets, norm of the gradient
IGNORED = -100  # targets that do not count, as in cross_entropy


class Loader(Protocol):
    """Gives batches, and knows where it is."""

    def next_batch(self) -> Batch:
        """The next micro-batch."""

    def state(self) -> dict[str, object]:
        """The position, in JSON's types."""

    def set_state(self, state: Mapping[str, object]) -> None:
        """Go on from a position."""


@dataclass(frozen=True)
class LoopSettings:
    """Settings of `Trainer`; a number of steps that is 0 means never.

    Attributes:
        steps: optimizer steps in all.
        accumulate: micro-batches per step.
        clip: largest norm of the gradient, 0 for no limit.
        on_nan: "stop" or "skip".
        eval_every, checkpoint_every, log_every: intervals in steps.
        patience: stop after so many evaluations without a new best, 0 for never.

    Raises:
        ConfigError: a value that makes no sense.
    """

    steps: int
    accumulate: int = 1
    clip: float = 1.0
    on_nan: str = "stop"
    eval_every: int = 100
    checkpoint_every: int = 0
    log_every: int = 10
    patience: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.accumulate < 1:
            raise ConfigError(
                f"steps and accumulate: expected at least 1, got {self.steps}, {self.accumulate}."
            )
        for name in ("clip", "eval_every", "checkpoint_every", "log_every", "patience"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: expected 0 or more, got {getattr(self, name)}.")
        if self.on_nan not in ("stop", "skip"):
            raise ConfigError(f'on_nan: expected "stop" or "skip", got {self.on_nan!r}.')


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did.

    Attributes:
        step: number of steps done, this one included.
        loss: mean over the step's targets, before the update.
        learning_rate: used in this step.
        gradient_norm: before clipping.
        tokens: targets learned from.
        skipped: True when the update was left out for a NaN or an infinity.
    """

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    skipped: bool = False


@dataclass
class TrainingResult:
    """How a call of `Trainer.fit` ended.

    Attributes:
        first_step, last_step: steps done before and after.
        loss: the smoothed training loss; None when no step was made.
        evaluation, evaluated_step: figures of the last evaluation, and its step; or None.
        best_loss, best_step: the best evaluation, or None.
        skipped_steps: updates left out for NaN or infinity.
        tokens: targets learned from since the beginning of the run.
        tokens_per_second: of this call, without evaluations and checkpoints.
        seconds: spent in training steps by this call.
        stopped_by: why it ended early, or None.
    """

    first_step: int = 0
    last_step: int = 0
    loss: float | None = None
    evaluation: dict[str, float] | None = None
    best_loss: float | None = None
    best_step: int | None = None
    skipped_steps: int = 0
    tokens: int = 0
    tokens_per_second: float = 0.0
    seconds: float = 0.0
    stopped_by: str | None = None
    evaluated_step: int | None = None

    def finish(self, step: int, progress: Progress, recorder: Recorder) -> None:
        """Fill in the figures."""
        self.last_step = step
        self.loss = progress.smoothed_loss
        self.evaluation, self.evaluated_step = progress.last_evaluation, progress.evaluated_step
        self.best_loss, self.best_step = progress.best_loss, progress.best_step
        self.skipped_steps, self.tokens = progress.skipped_steps, progress.tokens
        self.seconds = recorder.seconds
        self.tokens_per_second = recorder.tokens / recorder.seconds if recorder.seconds else 0.0
