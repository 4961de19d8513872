"""What a run remembers from step to step besides weights and optimizer; a checkpoint keeps it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from tinygrad_llm.errors import CheckpointError


class TrainingState(TypedDict, total=False):
    """What a checkpoint keeps besides the weights: all that decides how a run goes on.

    The trainer knows the first six, the last of them only where the loss is scaled; what writes a
    checkpoint adds the others.
    """

    step: int
    optimizer: dict[str, dict[str, object]]  # settings, arrays
    loader: Mapping[str, object]
    generator: Mapping[str, object]
    trainer: Mapping[str, object]
    loss_scale: Mapping[str, float]
    config: Mapping[str, object]
    text: str
    versions: Mapping[str, str]


Save = Callable[[int, TrainingState, int | None], Path]  # of a step, with the best one so far
SMOOTHING = 0.95  # weight of the past in the smoothed loss


@dataclass
class Progress:
    """Figures that the loop carries along.

    Attributes:
        tokens: targets learned from so far.
        smoothed_loss: exponential mean of the training loss; None before the first step.
        loss_sum, loss_count: of the steps since the last line of the log.
        best_loss, best_step: of the evaluations so far; None before the first.
        last_evaluation, evaluated_step: the newest evaluation's figures, and when it was.
        evaluations_without_best: how many in a row were no improvement.
        skipped_steps, skipped_in_a_row: updates left out for NaN or infinity.
    """

    tokens: int = 0
    smoothed_loss: float | None = None
    loss_sum: float = 0.0
    loss_count: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    last_evaluation: dict[str, float] | None = None
    evaluations_without_best: int = 0
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    evaluated_step: int | None = None

    def note_step(self, loss: float, tokens: int, skipped: bool) -> None:
        """Count a step."""
        self.tokens += tokens
        if skipped:
            return
        self.loss_sum += loss
        self.loss_count += 1
        old = self.smoothed_loss
        self.smoothed_loss = loss if old is None else SMOOTHING * old + (1 - SMOOTHING) * loss

    def note_skipped(self) -> None:
        """Count an update that was left out."""
        self.skipped_steps += 1
        self.skipped_in_a_row += 1

    def take_mean_loss(self) -> float:
        """Mean training loss since the last call; NaN if every step was skipped."""
        mean = self.loss_sum / self.loss_count if self.loss_count else math.nan
        self.loss_sum, self.loss_count = 0.0, 0
        return mean

    def note_evaluation(self, step: int, metrics: dict[str, float]) -> bool:
        """Remember an evaluation; True when its loss is the lowest so far.

        The untrained model's is remembered, too, but is no best: its checkpoint is of no use.
        """
        self.last_evaluation, self.evaluated_step = dict(metrics), step
        loss = metrics["loss"]
        better = math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss)
        if step == 0:
            return False
        self.evaluations_without_best = 0 if better else self.evaluations_without_best + 1
        if better:
            self.best_loss, self.best_step = loss, step
        return better

    def out_of_patience(self, patience: int) -> str | None:
        """Why to stop, after ``patience`` evaluations without a new best; 0 never ends."""
        waited = self.evaluations_without_best
        if not patience or waited < patience:
            return None
        return f"early stopping: no better validation loss in {waited} evaluations"

    def to_dict(self) -> dict[str, object]:
        """All of it, in JSON's types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Progress:
        """What `to_dict` returned.

        Raises:
            CheckpointError: something else.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise CheckpointError(f"training state: 'trainer' does not fit: {error}.") from error
