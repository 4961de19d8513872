"""What all fine-tuning here shares: `training.Trainer` over a small set that is held in memory.

Two things differ from pretraining. Examples have their own lengths, so batches are made of
examples of like length. And a small set is learned by heart within a few epochs: the validation
loss falls, then rises, while the training loss goes on falling. So the weights with the lowest
validation loss are kept in memory and put back at the end, and with ``patience`` the run stops
when the validation has not improved for a while. With ``run`` all of this is saved, too.

The parts of a step are those of pretraining: on a GPU it is a CUDA graph, weights in float16 train
with a scaled loss, and several processes share each batch out. A graph holds one shape, and
examples have many lengths. So where steps are recorded, batches are padded to a power of two: few
graphs, and padding changes the last bits only (`collate`), but that dropout, which draws by
position, drops other elements. Everywhere else a batch is as long as its longest example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.backend import Array
from tinygrad_llm.distributed import Communicator
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.finetuning.checkpoints import FitCheckpoints, checksum_of
from tinygrad_llm.finetuning.history import History, KeepsBest
from tinygrad_llm.finetuning.loader import BucketLoader
from tinygrad_llm.generation.open_checkpoint import in_type
from tinygrad_llm.nn import Module
from tinygrad_llm.optim import AdamW, CosineSchedule, decay_groups
from tinygrad_llm.training.loop_settings import Batch, LoopSettings
from tinygrad_llm.training.report.callback import Callback
from tinygrad_llm.training.run.folder import PrintLine, RunFolder
from tinygrad_llm.training.steps.captured import CapturedStep, stepper_for
from tinygrad_llm.training.steps.eager import EagerStep
from tinygrad_llm.training.steps.precision import Precision, ScaledLoss
from tinygrad_llm.training.steps.ranks import Ranks
from tinygrad_llm.training.stopping import EXIT_CODES
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
        dtype: in which the model learns and is left; None for the type that it has. As in training
            bfloat16 on a CPU concerns operands of products alone (`backend.precision.is_mixed`).

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
    dtype: str | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "evaluations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}.")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate: expected more than 0, got {self.learning_rate}.")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup: expected from 0 up to 1, got {self.warmup}.")


def fit(
    model: Module,
    lengths: Sequence[int],
    batch_of: BatchOf,
    loss_of: LossOf,
    evaluate: Evaluate,
    settings: FitSettings,
    report: PrintLine | None = None,
    communicator: Communicator | None = None,
    run: RunFolder | None = None,
    callbacks: Sequence[Callback] = (),
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
        run: where a checkpoint is written at each validation, and where it goes on from the newest
            one: a run that was interrupted ends with the bits of one that was not (on the CPU), and
            one that is finished only gives back its weights. Make model and data as at the start.
        callbacks: are told what happens, such as a progress bar.

    Raises:
        ConfigError: nothing to train, a batch with fewer examples than there are processes, or
            ``run`` began with other settings.
        CheckpointError: ``run`` began with another model or training set, all its checkpoints are
            damaged, or one cannot be written.
        NumericsError: a loss or gradient is not finite.
        KernelError: a step cannot be recorded; ``settings.graph=False`` computes it op by op.
        KeyboardInterrupt: a signal came or the output was closed; its argument is the name of it in
            `stopping.EXIT_CODES`. The step is finished, its checkpoint written, and the best
            weights so far are in the model.
    """
    if run is not None and communicator is not None and communicator.size > 1:
        raise ConfigError("fit: run= is for one process; several write no checkpoints here.")
    optimizer = _optimizer(in_type(model, settings.dtype), settings)
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
    keeper = KeepsBest(model, len(loader), report)
    saved = run and _checkpoints(run, model, keeper, settings, len(lengths), batch_of, report)
    tuner = FineTuner(
        loss_of,
        model,
        optimizer,
        loader,
        _when(settings, len(loader)),
        schedule,
        evaluate=lambda _: evaluate(),
        save=saved and saved.save,
        callbacks=[*callbacks, keeper],
        stepper=stepper,
        precision=precision_for(model, settings.dtype),
        world=None if communicator is None or size == 1 else Ranks(communicator),
    )
    if saved:
        saved.go_on(tuner)
    keeper.history.stopped_by = tuner.fit().stopped_by
    model.eval()
    raise_if_signalled(keeper.history.stopped_by)
    return keeper.history


def _optimizer(model: Module, settings: FitSettings) -> AdamW:
    return AdamW(decay_groups(model, settings.weight_decay), lr=settings.learning_rate)


def _when(settings: FitSettings, per_epoch: int) -> LoopSettings:
    """How many steps, and after which of them validations and checkpoints come."""
    every = max(1, round(per_epoch / settings.evaluations))
    return LoopSettings(
        per_epoch * settings.epochs,
        clip=settings.clip,
        eval_every=every,
        checkpoint_every=every,
        patience=settings.patience,
    )


def _checkpoints(
    run: RunFolder,
    model: Module,
    keeper: KeepsBest,
    settings: FitSettings,
    n_examples: int,
    batch_of: BatchOf,
    report: PrintLine | None,
) -> FitCheckpoints:
    start = checksum_of(p.data for p in model.parameters())
    examples = checksum_of(_integers(n_examples, batch_of))
    return FitCheckpoints(run, keeper, asdict(settings), start, examples, report)


def _integers(n_examples: int, batch_of: BatchOf) -> Iterator[Array]:
    """Ids and targets of each example; what is not integer follows from them or from a model."""
    for i in range(n_examples):
        for array in batch_of(np.array([i]), False):
            if np.issubdtype(array.dtype, np.integer):
                yield array


def raise_if_signalled(stopped_by: str | None) -> None:
    """A signal ends the program, not this fit alone: what follows it would take its time, too."""
    if stopped_by in EXIT_CODES:
        raise KeyboardInterrupt(stopped_by)


def stepper_of(model: Module, graph: bool) -> EagerStep:
    """As in pretraining, for the place and the type of the parameters that learn."""
    parameter = next(p for p in model.parameters() if p.requires_grad)
    return stepper_for(parameter.device, parameter.dtype.name, graph)


def precision_for(model: Module, dtype: str | None = None) -> Precision:
    """A scaled loss where parameters are in float16, otherwise that of the wanted type."""
    types = {p.data.dtype for p in model.parameters() if p.requires_grad}
    return ScaledLoss() if np.dtype(np.float16) in types else Precision(dtype, model.device)


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
