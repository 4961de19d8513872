"""Whether gradients carry a scale: not in float32 and bfloat16, but in float16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinygrad_llm.backend import Array
from tinygrad_llm.training.steps.loss_scale import LossScale, ScaleState


class Precision:
    """Gradients are what they are.

    Attributes:
        scaled: whether the loss is multiplied by something before the backward pass.
    """

    scaled = False

    @property
    def scale(self) -> float:
        """What a backward pass starts from, for each share of all targets."""
        return 1.0

    def unscale(self, gradients: Sequence[Array]) -> None:
        """Take the scale out of gradients, in place."""

    def note(self, norm: float) -> None:
        """Learn from the norm of a step's gradient, the scale taken out."""

    def state(self) -> ScaleState | None:
        """For a checkpoint; None where there is nothing to keep."""
        return None

    def set_state(self, state: Mapping[str, float]) -> None:
        """Go on from `state`."""


class ScaledLoss(Precision):
    """Dynamic loss scaling: a step that overflows is left out and counted, the scale halved.

    Args:
        loss_scale: the scale and its rules; None for the usual ones.
    """

    scaled = True

    def __init__(self, loss_scale: LossScale | None = None) -> None:
        self.loss_scale = loss_scale or LossScale()

    @property
    def scale(self) -> float:
        """What the loss is multiplied by."""
        return self.loss_scale.value

    def unscale(self, gradients: Sequence[Array]) -> None:
        """Divide by the scale, in place."""
        for gradient in gradients:
            gradient *= 1 / self.scale

    def note(self, norm: float) -> None:
        """Halve the scale after an overflow, double it after many good steps.

        Raises:
            NumericsError: even tiny scales overflow.
        """
        self.loss_scale.update(norm)

    def state(self) -> ScaleState:
        """The scale and how long it has held."""
        return self.loss_scale.state()

    def set_state(self, state: Mapping[str, float]) -> None:
        """Go on from `state`."""
        self.loss_scale.set_state(state)
