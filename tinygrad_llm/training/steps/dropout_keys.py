"""Dropout's keys in device memory.

A CUDA graph repeats its launches with the arguments of the recording. A key passed as two numbers
would drop the same elements in every step. So while recording, each call of dropout is given a
row of one array on the GPU, and the host writes fresh keys into that array before each replay:
the very keys that a step without a graph would have drawn, in the same order.
"""

from __future__ import annotations

from types import TracebackType

import numpy as np

from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.errors import ConfigError

CAPACITY = 4096  # calls of dropout in one step; GPT-2 XL makes 145


class DropoutKeys:
    """Rows of keys on the device, handed out in order; a context manager that stands in for
    the generator's own ``next_key``.

    Args:
        xp: the array module of the device.
        generator: whose keys these are.
    """

    def __init__(self, xp: ArrayModule, generator: Generator) -> None:
        self.generator = generator
        self.rows = xp.zeros((CAPACITY, 2), np.uint32)
        self.used = 0

    def __enter__(self) -> DropoutKeys:
        self.used = 0
        self.generator.keys_on_device = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.generator.keys_on_device = None

    def next(self) -> Array:
        """The next row, uint32 (2,).

        Raises:
            ConfigError: the step calls dropout more often than there are rows.
        """
        if self.used == CAPACITY:
            raise ConfigError(
                f"dropout is called more than {CAPACITY} times in a step; record fewer "
                "micro-batches into the graph (accumulate), or train without one (graph=False)."
            )
        self.used += 1
        return self.rows[self.used - 1]

    def draw(self) -> np.ndarray:
        """Fresh keys for all calls of one step, uint32 (used, 2), drawn as a step would."""
        keys = [self.generator.next_key() for _ in range(self.used)]
        return np.array(keys, np.uint32).reshape(self.used, 2)
