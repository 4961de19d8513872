"""A step whose ops Python runs one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from tinygrad_llm.nn.prepared import Prepared
from tinygrad_llm.training.loop_settings import Batch, Figures

if TYPE_CHECKING:
    from tinygrad_llm.training.trainer import Trainer


class EagerStep:
    """The plain way: the methods of the trainer, in order."""

    def attach(self, trainer: Trainer, overridden: Sequence[str]) -> None:
        """Look at the trainer that will use this, once.

        Args:
            trainer: with its other parts in place.
            overridden: methods of a step that a subclass of `Trainer` has changed.

        Raises:
            ConfigError: the step of this trainer cannot be computed in this way.
        """

    def compute(self, trainer: Trainer, batches: Sequence[Batch]) -> Figures:
        """Clipped gradients of a step; returns loss, targets, and the norm before clipping."""
        trainer.optimizer.zero_grad()
        with Prepared(trainer.model) if len(batches) > 1 else nullcontext():  # before the update
            loss, tokens = trainer.backward(batches)
        return loss, tokens, trainer.clip()

    def update(self, trainer: Trainer) -> None:
        """Change the weights by the gradients."""
        trainer.world.update()

    def set_aside(self) -> None:
        """Gradients are about to be computed without `compute`: drop what it prepared."""

    def forget(self) -> None:
        """Weights and optimizer were loaded: drop what belongs to their earlier state."""
