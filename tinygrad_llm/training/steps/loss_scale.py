"""Dynamic loss scaling: float16 gradients that neither vanish nor overflow.

float16's smallest number is 6e-8, and many gradients are smaller. The loss is multiplied by a large
scale before the backward pass, so all gradients are, and they are divided by it before use. If one
overflows, the step is left out and the scale halved; after many good steps it is doubled.

bfloat16 has float32's range and needs none of this; it wants a chip of 2020 or later.

Source: Micikevicius et al., "Mixed precision training", 2018, section 3.2; the constants are
those of PyTorch's GradScaler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tinygrad_llm.errors import NumericsError

SMALLEST = 2.0**-14
ScaleState = dict[str, float]  # the attributes of a LossScale by name


@dataclass
class LossScale:
    """The scale, and when it changes.

    Attributes:
        value: what the loss is multiplied by.
        growth: factor after `interval` good steps in a row.
        backoff: factor after an overflow.
        interval: good steps before the scale grows.
        good_steps: since the last change.
    """

    value: float = 2.0**16
    growth: float = 2.0
    backoff: float = 0.5
    interval: int = 2000
    good_steps: int = 0

    def update(self, norm: float) -> bool:
        """Take note of a step's gradient norm; returns whether the step may be applied.

        Raises:
            NumericsError: even tiny scales overflow, so the gradient itself is not finite.
        """
        if math.isfinite(norm):
            self.good_steps += 1
            if self.good_steps >= self.interval:
                self.value, self.good_steps = self.value * self.growth, 0
            return True
        self.value, self.good_steps = self.value * self.backoff, 0
        if self.value < SMALLEST:
            raise NumericsError(
                f"loss scaling: the gradient is not finite even at scale {self.value:.3g}. Lower "
                "the learning rate, or use --dtype bfloat16."
            )
        return False

    def state(self) -> ScaleState:
        """For a checkpoint."""
        return asdict(self)

    def set_state(self, state: Mapping[str, float]) -> None:
        """Go on from `state`."""
        for name in asdict(self):
            setattr(self, name, state[name])
