"""What all fine-tuning here shares: `training.Trainer` over a small set that is held in memory.

Two things differ from pretraining. Examples have their own lengths, so batches are made of
examples of like length. And a small set is learned by heart within a few epochs: the validation
loss falls, then rises, while the training loss goes on falling. So the weights with the lowest
validation loss are kept in memory and put back at the end, and with ``patience`` the run stops
when the validation has not improved for a while.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_llm.autograd import Tensor, no_grad
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.finetuning.collate import buckets
from tinygrad_llm.nn import Module
from tinygrad_llm.optim import AdamW, CosineSchedule, Optimizer, decay_groups
from tinygrad_llm.training.loop_settings import LoopSettings
from tinygrad_llm.training.report.callback import Callback
from tinygrad_llm.training.trainer import Trainer

Report = Callable[[str], None]
BatchLoss = Callable[[np.ndarray], "Tensor | tuple[Tensor, Tensor]"]
Evaluate = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class FitSettings:
    """How to fine-tune.

    Attributes:
        epochs: passes over the training set.
        batch_size: examples in a step.
        learning_rate: the highest one, reached after the warm-up; falls to a tenth of it.
        warmup: share of all steps in which the learning rate rises.
        weight_decay: of AdamW, on matrices.
        clip: largest norm of the gradient.
        evaluations: validations in each epoch.
        patience: stop after so many validations without a new best; 0 for never.
        pool: batches whose examples are sorted by length together, see `collate.buckets`.
        seed: of the order of the batches.

    Raises:
        ConfigError: a value that makes no sense.
    """

    epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 5e-4
    warmup: float = 0.1
    weight_decay: float = 0.05
    clip: float = 1.0
    evaluations: int = 1
    patience: int = 0
    pool: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "evaluations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}.")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate: expected more than 0, got {self.learning_rate}.")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup: expected from 0 up to 1, got {self.warmup}.")


@dataclass
class History:
    """What happened.

    Attributes:
        losses: (step, training loss) of every step.
        evaluations: one dict for each validation: "step", "epoch", and what was measured. The
            first is of the model before training.
        best: place in ``evaluations`` of the weights that were kept.
        stopped_by: why it ended before the last epoch, or None.
    """

    losses: list[tuple[int, float]] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    best: int = 0
    stopped_by: str | None = None

    def column(self, name: str) -> list[float]:
        """One measure over all validations."""
        return [e[name] for e in self.evaluations]


def fit(
    model: Module,
    lengths: Sequence[int],
    batch_loss: BatchLoss,
    evaluate: Evaluate,
    settings: FitSettings,
    report: Report | None = None,
) -> History:
    """Train the parameters that require a gradient; end with the best weights seen.

    Args:
        model: left in evaluation mode.
        lengths: tokens of each training example.
        batch_loss: the mean loss of the examples of the given numbers; or a pair: the loss that
            is minimized, and that part of it which the validation loss compares with.
        evaluate: measures on the validation set; "loss" decides which weights are kept.
        settings: how.
        report: called with a line after each validation.

    Raises:
        ConfigError: nothing to train.
        NumericsError: a loss or gradient is not finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the best weights so far are in the model.
    """
    optimizer = AdamW(decay_groups(model, settings.weight_decay), lr=settings.learning_rate)
    loader = BucketLoader(lengths, settings.batch_size, settings.seed, settings.pool)
    steps = len(loader) * settings.epochs
    warmup = min(round(settings.warmup * steps), steps - 1)
    schedule = CosineSchedule(optimizer, steps, warmup, settings.learning_rate / 10)
    loop = LoopSettings(
        steps,
        clip=settings.clip,
        eval_every=max(1, round(len(loader) / settings.evaluations)),
        patience=settings.patience,
    )
    watcher = _Watcher(model, len(loader), report)
    tuner = FineTuner(batch_loss, model, optimizer, loader, loop, schedule, evaluate, watcher)
    watcher.history.stopped_by = tuner.fit().stopped_by
    model.eval()
    raise_if_signalled(watcher.history.stopped_by)
    return watcher.history


def raise_if_signalled(stopped_by: str | None) -> None:
    """Fine-tuning writes no checkpoints to go on from, so a signal ends the program."""
    if stopped_by in ("Ctrl-C", "SIGTERM"):
        raise KeyboardInterrupt


class FineTuner(Trainer):
    """A Trainer whose batches are numbers of examples.

    Attributes:
        comparable_loss: of the last batch, what the validation loss compares with.
    """

    def __init__(
        self,
        batch_loss: BatchLoss,
        model: Module,
        optimizer: Optimizer,
        loader: BucketLoader,
        settings: LoopSettings,
        schedule: CosineSchedule,
        evaluate: Evaluate,
        watcher: Callback,
    ) -> None:
        self._batch_loss, self.comparable_loss = batch_loss, math.nan
        super().__init__(
            model,
            optimizer,
            loader,
            settings,
            schedule,
            evaluate=lambda _: evaluate(),
            callbacks=[watcher],
        )

    def compute_loss(self, batch: Any) -> Tensor:
        """The mean loss of the examples ``batch`` (B,)."""
        loss = self._batch_loss(batch)
        if not isinstance(loss, tuple):
            loss = (loss, loss)
        self.comparable_loss = float(loss[1].item())
        return loss[0]

    def count_targets(self, batch: Any) -> int:
        """Every example counts the same."""
        return len(batch)


class BucketLoader:
    """Endless epochs of batches of like length; a batch is an array of example numbers.

    Args:
        lengths: tokens of each example.
        batch_size: examples in a batch; the last one of an epoch may be smaller.
        seed: of the order, which is another one in each epoch.
        pool: as in `collate.buckets`.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int = 0, pool: int = 0
    ) -> None:
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self._pool = pool
        self._step = 0
        self._epoch = self._order(0)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return math.ceil(len(self._lengths) / self._batch_size)

    def next_batch(self) -> np.ndarray:
        """Numbers of the next examples (B,)."""
        epoch, place = divmod(self._step, len(self))
        if place == 0:
            self._epoch = self._order(epoch)
        self._step += 1
        return self._epoch[place]

    def state(self) -> dict[str, Any]:
        """The position, in JSON's types."""
        return {"seed": self._seed, "step": self._step}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved `state`."""
        self._seed, self._step = int(state["seed"]), int(state["step"])
        self._epoch = self._order(self._step // len(self))

    def _order(self, epoch: int) -> list[np.ndarray]:
        generator = Generator(self._seed * 100_003 + epoch)
        return buckets(self._lengths, self._batch_size, generator, self._pool)


class _Watcher(Callback):
    """Writes the history, keeps the best weights, and puts them back at the end."""

    def __init__(self, model: Module, per_epoch: int, report: Report | None) -> None:
        self.history = History()
        self._per_epoch, self._report = per_epoch, report
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        if not self._parameters:
            raise ConfigError("fit: no parameter requires a gradient; unfreeze some layer.")
        self._best = [p.data.copy() for p in self._parameters]

    def on_step(self, trainer: Trainer, report: Any) -> None:
        loss = trainer.comparable_loss if isinstance(trainer, FineTuner) else report.loss
        self.history.losses.append((report.step, loss))

    def on_evaluation(self, trainer: Trainer, record: dict[str, Any]) -> None:
        measured = {k.removeprefix("validation_"): v for k, v in record.items()}
        measured["epoch"] = measured["step"] / self._per_epoch
        self.history.evaluations.append(measured)
        best = trainer.progress.best_step == record["step"]
        if best:
            self.history.best = len(self.history.evaluations) - 1
            for kept, parameter in zip(self._best, self._parameters, strict=True):
                kept[...] = parameter.data
        if self._report:
            self._report(self._line(measured) + (" *" if best else ""))

    def on_end(self, trainer: Trainer, result: Any) -> None:
        with no_grad():
            for kept, parameter in zip(self._best, self._parameters, strict=True):
                parameter.copy_(kept)

    def _line(self, measured: Mapping[str, float]) -> str:
        figures = [f"{k} {v:.4f}" for k, v in measured.items() if k not in ("step", "epoch")]
        recent = [loss for _, loss in self.history.losses[-self._per_epoch :]]
        trained = f"training {np.mean(recent):.4f}  " if recent else " " * 17
        return f"epoch {measured['epoch']:5.2f}  {trained}validation: {'  '.join(figures)}"
