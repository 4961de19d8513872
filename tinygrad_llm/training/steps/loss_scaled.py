"""Training in float16, whose range needs a scaled loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tinygrad_llm.training.steps.loss_scale import LossScale
from tinygrad_llm.training.trainer import Batch, Trainer


class LossScaledTrainer(Trainer):
    """A `Trainer` with dynamic loss scaling; a step that overflows is skipped and counted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings = replace(self.settings, on_nan="skip")
        self.scale = LossScale()

    def seed(self, share: float) -> float:
        """What the backward pass of a micro-batch starts from."""
        return share * self.scale.value

    def clip(self) -> float:
        """Take the scale out of the gradients, then limit their norm."""
        for gradient in self.optimizer.gradients():
            gradient *= 1 / self.scale.value
        return super().clip()

    def compute_gradients(self, batches: Sequence[Batch]) -> tuple[float, int, float]:
        """As in `Trainer`; then the scale learns whether it was too large."""
        loss, tokens, norm = super().compute_gradients(batches)
        self.scale.update(norm)
        return loss, tokens, norm

    def state(self) -> dict[str, Any]:
        """The trainer's state and the scale."""
        return {**super().state(), "loss_scale": self.scale.state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        super().set_state(state)
        if "loss_scale" in state:
            self.scale.set_state(state["loss_scale"])
