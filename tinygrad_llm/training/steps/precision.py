"""In which precision a step is computed: that of products, and what its gradients carry.

Gradients carry nothing in float32 and bfloat16, and a scale in float16. Products round their
operands where bfloat16 is asked for on a CPU (`tinygrad_llm.backend.precision`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from tinygrad_llm.backend import Array
from tinygrad_llm.backend.precision import computing_in
from tinygrad_llm.training.steps.loss_scale import LossScale, ScaleState


class Precision:
    """Gradients are what they are.

    Args:
        dtype: in which the run computes; None for that of its model's weights.
        device: where.

    Attributes:
        scaled: whether the loss is multiplied by something before the backward pass.
    """

    scaled = False

    def __init__(self, dtype: str | None = None, device: str = "cpu") -> None:
        self._dtype, self._device = dtype, device

    def computing(self) -> AbstractContextManager[None]:
        """A scope in which products are computed as the run wants them."""
        return computing_in(self._dtype, self._device)

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
        super().__init__("float16")
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
