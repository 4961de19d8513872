"""What all fine-tuning here shares: `training.Trainer` over a small set that is held in memory.

Two things differ from pretraining. Examples have their own lengths, so batches are made of
examples of like length. And a small set is learned by heart within a few epochs: the validation
loss falls, then rises, while the training loss goes on falling. So the weights with the lowest
validation loss are kept in memory and put back at the end, and with ``patience`` the run stops
when the validation has not improved for a while.

The parts of a step are those of pretraining: on a GPU it is a CUDA graph, weights in float16 train
with a scaled loss, and several processes share each batch out. A graph holds one shape, and
examples have many lengths. So where steps are recorded, batches are padded to a power of two: few
graphs, and padding changes the last bits only (`collate`), but that dropout, which draws by
position, drops other elements. Everywhere else a batch is as long as its longest example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_llm.autograd import Tensor, no_grad
from tinygrad_llm.distributed import Communicator
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.finetuning.loader import BucketLoader
from tinygrad_llm.nn import Module
from tinygrad_llm.optim import AdamW, CosineSchedule, decay_groups
from tinygrad_llm.training.loop_settings import Batch, LoopSettings, StepReport, TrainingResult
from tinygrad_llm.training.report.callback import Callback, Record
from tinygrad_llm.training.run.folder import PrintLine
from tinygrad_llm.training.steps.captured import CapturedStep, stepper_for
from tinygrad_llm.training.steps.eager import EagerStep
from tinygrad_llm.training.steps.precision import Precision, ScaledLoss
from tinygrad_llm.training.steps.ranks import Ranks
from tinygrad_llm.training.trainer import Trainer

BatchOf = Callable[[np.ndarray, bool], Batch]
LossOf = Callable[[Batch], "Tensor | tuple[Tensor, Tensor]"]
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
        graph: on a GPU, record each step as a CUDA graph and replay it.

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
    graph: bool = True

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
    batch_of: BatchOf,
    loss_of: LossOf,
    evaluate: Evaluate,
    settings: FitSettings,
    report: PrintLine | None = None,
    communicator: Communicator | None = None,
) -> History:
    """Train the parameters that require a gradient; end with the best weights seen.

    Args:
        model: left in evaluation mode.
        lengths: tokens of each training example.
        batch_of: called as ``batch_of(numbers, few_shapes)`` for the arrays of the examples of the
            given numbers; with few shapes as `collate.room_for` says. The last one has the targets,
            of which those count that are not `collate.IGNORE`.
        loss_of: the mean loss over the targets of a batch; or a pair: the loss that is minimized,
            and that part of it which the validation loss compares with. Where steps are recorded,
            the arrays are on the GPU, and no value may be read back.
        evaluate: measures on the validation set; "loss" decides which weights are kept.
        settings: how.
        report: called with a line after each validation.
        communicator: processes that each learn from a part of every batch; None for this one. Their
            losses are averaged by numbers of targets.

    Raises:
        ConfigError: nothing to train, or a batch with fewer examples than there are processes.
        NumericsError: a loss or gradient is not finite.
        KernelError: a step cannot be recorded; ``settings.graph=False`` computes it op by op.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the best weights so far are in the model.
    """
    optimizer = AdamW(decay_groups(model, settings.weight_decay), lr=settings.learning_rate)
    rank, size = (0, 1) if communicator is None else (communicator.rank, communicator.size)
    stepper = stepper_of(model, settings.graph)
    few_shapes = isinstance(stepper, CapturedStep)
    loader = BucketLoader(
        lengths,
        settings.batch_size,
        settings.seed,
        settings.pool,
        rank,
        size,
        lambda numbers: batch_of(numbers, few_shapes),
    )
    steps = len(loader) * settings.epochs
    warmup = min(round(settings.warmup * steps), steps - 1)
    schedule = CosineSchedule(optimizer, steps, warmup, settings.learning_rate / 10)
    loop = LoopSettings(
        steps,
        clip=settings.clip,
        eval_every=max(1, round(len(loader) / settings.evaluations)),
        patience=settings.patience,
    )
    keeper = _KeepsBest(model, len(loader), report)
    tuner = FineTuner(
        loss_of,
        model,
        optimizer,
        loader,
        loop,
        schedule,
        evaluate=lambda _: evaluate(),
        callbacks=[keeper],
        stepper=stepper,
        precision=precision_for(model),
        world=None if communicator is None or size == 1 else Ranks(communicator),
    )
    keeper.history.stopped_by = tuner.fit().stopped_by
    model.eval()
    raise_if_signalled(keeper.history.stopped_by)
    return keeper.history


def raise_if_signalled(stopped_by: str | None) -> None:
    """Fine-tuning writes no checkpoints to go on from, so a signal ends the program."""
    if stopped_by in ("Ctrl-C", "SIGTERM"):
        raise KeyboardInterrupt


def stepper_of(model: Module, graph: bool) -> EagerStep:
    """As in pretraining, for the place and the type of the parameters that learn."""
    parameter = next(p for p in model.parameters() if p.requires_grad)
    return stepper_for(parameter.device, parameter.dtype.name, graph)


def precision_for(model: Module) -> Precision:
    """A scaled loss where parameters are in float16."""
    types = {p.data.dtype for p in model.parameters() if p.requires_grad}
    return ScaledLoss() if np.dtype(np.float16) in types else Precision()


class FineTuner(Trainer):
    """A Trainer whose loss is a function; reported is what the validation loss compares with.

    Args:
        loss_of: see `fit`.
        others: as for `Trainer`.
    """

    def __init__(self, loss_of: LossOf, *others: Any, **more: Any) -> None:
        self._loss_of = loss_of
        super().__init__(*others, **more)

    def compute_losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is minimized, and what is reported."""
        loss = self._loss_of(batch)
        return loss if isinstance(loss, tuple) else (loss, loss)

    def compute_loss(self, batch: Batch) -> Tensor:
        """What is minimized."""
        return self.compute_losses(batch)[0]


class _KeepsBest(Callback):
    """Writes the history, keeps the best weights, and puts them back at the end."""

    def __init__(self, model: Module, per_epoch: int, report: PrintLine | None) -> None:
        self.history = History()
        self._per_epoch, self._report = per_epoch, report
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        if not self._parameters:
            raise ConfigError("fit: no parameter requires a gradient; unfreeze some layer.")
        self._best = [p.data.copy() for p in self._parameters]

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        self.history.losses.append((report.step, report.loss))

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
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

    def on_end(self, trainer: Trainer, result: TrainingResult) -> None:
        with no_grad():
            for kept, parameter in zip(self._best, self._parameters, strict=True):
                parameter.copy_(kept)

    def _line(self, measured: Mapping[str, float]) -> str:
        figures = [f"{k} {v:.4f}" for k, v in measured.items() if k not in ("step", "epoch")]
        recent = [loss for _, loss in self.history.losses[-self._per_epoch :]]
        trained = f"training {np.mean(recent):.4f}  " if recent else " " * 17
        return f"epoch {measured['epoch']:5.2f}  {trained}validation: {'  '.join(figures)}"
