"""Batches of a small set of examples, epoch by epoch; each has examples of like length."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_llm.backend.random import Generator
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.finetuning.collate import buckets
from tinygrad_llm.training.loop_settings import Batch


def only_numbers(numbers: np.ndarray) -> Batch:
    """The numbers of the examples themselves."""
    return (numbers,)


class BucketLoader:
    """Endless epochs of batches of like length.

    Args:
        lengths: tokens of each example.
        batch_size: examples in a batch of all processes; the last one of an epoch may be smaller.
        seed: of the order, which is another one in each epoch.
        pool: as in `collate.buckets`.
        rank, world_size: this process gets every ``world_size``-th example of a batch.
        collate: the arrays of a batch, from the numbers (B,) of its examples.

    Raises:
        ConfigError: a batch has fewer examples than there are processes.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int = 0,
        pool: int = 0,
        rank: int = 0,
        world_size: int = 1,
        collate: Callable[[np.ndarray], Batch] = only_numbers,
    ) -> None:
        smallest = len(lengths) % batch_size or batch_size
        if smallest < world_size:
            raise ConfigError(
                f"batch_size: {len(lengths)} examples in batches of {batch_size} leave one with "
                f"{smallest}, fewer than the {world_size} processes. Choose another batch size."
            )
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self._pool, self._rank, self._world_size = pool, rank, world_size
        self._collate, self._step = collate, 0
        self._epoch = self._order(0)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return math.ceil(len(self._lengths) / self._batch_size)

    def next_batch(self) -> Batch:
        """The next examples, collated."""
        epoch, place = divmod(self._step, len(self))
        if place == 0:
            self._epoch = self._order(epoch)
        self._step += 1
        return self._collate(self._epoch[place][self._rank :: self._world_size])

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
