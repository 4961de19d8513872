"""A whole training step as a CUDA graph.

A step of GPT-2 124M is about a thousand launches. Python needs some microseconds for each, which on
a fast GPU is longer than many of them run. So the step is recorded once: forward, backward, norm,
clipping, AdamW. From then on one call replays it, and the host only feeds what changes:

    batch, learning rates, number of the step, dropout's keys        host -> device, before
    loss, number of targets, norm of the gradient                    device -> host, after

The batches of pretraining have one shape, and one recording serves them all. Fine-tuning pads its
batches to a few lengths: each shape is recorded when it first comes. A recording keeps its arrays,
the activations of a backward pass and what else its launches write to, so the memory is that of
all recordings together; with lengths that are powers of two, those of the longest batches need
about as much as all shorter ones. When there are too many, the one that was not used for longest
goes.

A step with a NaN or an infinity changes nothing on the device (kernels/adamw_kernel.py), so the
host may find out afterwards. The runs that recording needs are kept from changing the weights by
the same means: their clip factor is 0.

In float16 the scale of the loss is fed, too: a backward pass starts from share * scale, and the
clip factor takes the scale out. With several ranks the step is two graphs (`recorded`).

A replay is launches alone, none of the Python around them. So what Python would have noticed
between two steps is looked for before each replay: weights that were loaded or edited reach the
float32 master weights, a parameter of the optimizer that was given another array is put back in
its place (`FlatBuffer.gather`), and where a frozen parameter got another array, other parameters
learn, the flat gradient has moved, or a setting that launches hold as a number has changed, the
step is recorded anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.backend import is_array
from tinygrad_llm.errors import ConfigError, KernelError, ShapeError
from tinygrad_llm.optim import AdamW
from tinygrad_llm.training.loop_settings import Batch, Figures
from tinygrad_llm.training.steps.eager import EagerStep
from tinygrad_llm.training.steps.recorded import Record, RecordedParts, RecordedStep

if TYPE_CHECKING:
    from tinygrad_llm.training.trainer import Trainer

KEPT = 16  # recordings at a time
SHAPES = 32  # kinds of batches in all
Shapes = tuple[object, ...]  # shape and type of each array of each micro-batch


class CapturedStep(EagerStep):
    """Steps that are replays of a CUDA graph.

    Batches may have a few shapes, each of which is recorded; the last `KEPT` are kept.
    `Trainer.compute_losses` is called while recording only, with arrays on the GPU that keep their
    place; it must not read values back. Each replay writes the gradients to the same memory: copy
    what shall outlive a step.

    Args:
        record: records launches; None for `kernels.capture`.

    Raises, when a trainer is made with it or makes its first steps:
        ConfigError: the optimizer is not AdamW, or the trainer has other methods for a step.
        KernelError: the model is not on a GPU, or something in the step cannot be recorded.
        ShapeError: the batches have more than `SHAPES` different shapes.
    """

    def __init__(self, record: Record | None = None) -> None:
        self._record = record
        self._kept: dict[Shapes, RecordedStep] = {}  # the one that was used last is the last
        self._seen: set[Shapes] = set()
        self._recorded: RecordedStep | None = None  # of the last replay
        self._replayed = False  # whether `update` is asked to finish what a replay has begun

    def attach(self, trainer: Trainer, overridden: Sequence[str]) -> None:
        """Refuse what a graph cannot do.

        Raises:
            ConfigError: the optimizer is not AdamW, or a method of a step was overridden.
        """
        if type(trainer.optimizer) is not AdamW:
            raise ConfigError(
                "CapturedStep: the optimizer must be AdamW, whose kernel reads rate and step from "
                f"the GPU; got {type(trainer.optimizer).__name__}. Use EagerStep for others."
            )
        if overridden:
            raise ConfigError(
                f"CapturedStep: {type(trainer).__name__} overrides {', '.join(overridden)}, which "
                "a graph does not call. Override compute_loss, compute_losses, or use EagerStep."
            )

    def compute(self, trainer: Trainer, batches: Sequence[Batch]) -> Figures:
        """The step as far as one replay comes; returns loss, targets and norm."""
        trainer.world.gather()
        shapes = shapes_of(batches)
        found = self._kept.pop(shapes, None)
        if found is None or found.is_outdated():
            self._recorded = found = None
            self._make_room(shapes)
            found = self.record(trainer, batches)
        self._kept[shapes] = self._recorded = found
        self._replayed = True
        return found.compute(batches)

    def _make_room(self, shapes: Shapes) -> None:
        """Before batches of these shapes are recorded: give back memory of other recordings."""
        self._seen.add(shapes)
        if len(self._seen) > SHAPES:
            raise ShapeError(
                f"CapturedStep: batches came in {len(self._seen)} different shapes. A graph is "
                f"recorded for each, which pays for a few, at most {SHAPES}. Pad batches to a few "
                "lengths, or train without a CUDA graph: --no-graph, or stepper=EagerStep()."
            )
        fresh = [(key, step) for key, step in self._kept.items() if not step.is_outdated()]
        self._kept = dict(fresh[-(KEPT - 1) :])

    def record(self, trainer: Trainer, batches: Sequence[Batch]) -> RecordedStep:
        """Record the step of a trainer; weights and optimizer stay as they are.

        Raises:
            KernelError: something in the step cannot be recorded.
        """
        kind = RecordedStep if trainer.world.size == 1 else RecordedParts
        try:
            return kind(trainer, batches, self._record or kernels().capture)
        except kernels().KernelError as error:
            raise KernelError(
                f"{error}. Train without a CUDA graph: --no-graph, or stepper=EagerStep()."
            ) from error

    def update(self, trainer: Trainer) -> None:
        """Finish the step of the last replay, or, after gradients by hand, update by those."""
        if not self._replayed or self._recorded is None:
            super().update(trainer)
            return
        self._replayed = False
        self._recorded.update()

    def set_aside(self) -> None:
        """Gradients by hand, for a search of the learning rate, or of the op behind a NaN."""
        self._replayed = False

    def forget(self) -> None:
        """Record anew: a checkpoint was loaded."""
        self._recorded = None
        self._kept.clear()
        self._seen.clear()


def shapes_of(batches: Sequence[Batch]) -> Shapes:
    """What batches must share for one recording to serve them."""
    return tuple(
        tuple((a.shape, a.dtype) if is_array(a) else (np.shape(a), None) for a in batch)
        for batch in batches
    )


def stepper_for(device: str, dtype: str, graph: bool = True) -> EagerStep:
    """The faster step: a CUDA graph on a GPU, where kernels take the type and it is wanted."""
    on_kernels = device.startswith("cuda") and dtype != "float64"
    return CapturedStep() if on_kernels and graph else EagerStep()
