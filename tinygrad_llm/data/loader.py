"""Batches in an order that depends on nothing but the seed, and can be continued exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tinygrad_llm.data.order import permuted, random_below, round_keys
from tinygrad_llm.data.sliding_window import TokenDataset
from tinygrad_llm.errors import ConfigError, DataError

Batch = tuple[np.ndarray, np.ndarray]
_PLAN_AHEAD = 4096  # windows whose order is computed at once


class BatchLoader:
    """Batches of windows, epoch after epoch.

    Window i of epoch e is a function of (seed, e, i), see `order`: the position is three small
    numbers, no order is kept in memory however long the text, and no global random state is read
    or changed.

    With several processes (data parallel), step k of all ranks together sees exactly the windows
    that one process with ``batch_size * world_size`` would see in its step k, each window on one
    rank.

    Args:
        dataset: the windows.
        batch_size: windows in a batch of this process.
        seed: of the order.
        shuffle: a new random order each epoch; otherwise the order of the text.
        random_crops: windows at random starts, not only at multiples of the stride, as nanoGPT
            draws them; an epoch is then as many crops as the dataset has windows.
        drop_last: leave out the windows at the end of an epoch that do not fill a batch, so that
            all batches have one shape; otherwise the last batch is smaller.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ConfigError: sizes below 1, a rank outside the world, or settings that exclude each other.
        DataError: the dataset has not enough windows for one batch.
    """

    def __init__(
        self,
        dataset: TokenDataset,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        *,
        random_crops: bool = False,
        drop_last: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.random_crops = random_crops
        self.drop_last = drop_last
        self.rank = rank
        self.world_size = world_size
        self._check()
        self._epoch = 0
        self._samples = 0  # windows of this epoch that all ranks together have taken
        self._planned = (0, np.empty(0, np.int64))  # the next windows: first number, starts

    def __len__(self) -> int:
        """Batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size * self.world_size)
        return full + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[Batch]:
        """The batches that are left of this epoch."""
        epoch = self._epoch
        while self._epoch == epoch:
            yield self.next_batch()

    def next_batch(self) -> Batch:
        """Inputs and targets, two int64 arrays (B, T); after an epoch the next one begins."""
        n = self.batch_size
        first = self._samples + self.rank * n
        last = min(first + n, len(self.dataset))
        batch = self._gather(self._starts(first, last))
        self._advance(n * self.world_size)
        return batch

    @property
    def epoch(self) -> int:
        """Number of epochs completed."""
        return self._epoch

    def state(self) -> dict[str, Any]:
        """The position, in JSON's types."""
        return {
            "seed": self.seed,
            "epoch": self._epoch,
            "samples": self._samples,
            "windows": len(self.dataset),
            "shuffle": self.shuffle,
            "random_crops": self.random_crops,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved `state`; the batch size and number of ranks may have changed.

        Raises:
            DataError: the state belongs to other data or another kind of order, or is damaged.
        """
        mine = self.state()
        for name in ("windows", "shuffle", "random_crops"):
            if state.get(name) != mine[name]:
                raise DataError(
                    f"data position: saved with {name} = {state.get(name)!r}, but this run has "
                    f"{mine[name]!r}. Resume with the same text, context length and order, or "
                    "begin a new run."
                )
        numbers = {name: state.get(name) for name in ("seed", "epoch", "samples")}
        counts = [v for v in numbers.values() if type(v) is int and v >= 0]
        if len(counts) < len(numbers) or counts[2] > len(self.dataset):
            raise DataError(f"data position: {dict(state)!r:.200} is damaged.")
        self.seed, self._epoch, self._samples = counts
        self._planned = (0, np.empty(0, np.int64))
        self._advance(0)

    def _advance(self, n: int) -> None:
        self._samples += n
        left = len(self.dataset) - self._samples
        if left < (self.batch_size * self.world_size if self.drop_last else 1):
            self._epoch += 1
            self._samples = 0
            self._planned = (0, np.empty(0, np.int64))

    def _gather(self, starts: np.ndarray) -> Batch:
        shape = (len(starts), self.dataset.context_length)
        inputs, targets = np.empty(shape, np.int64), np.empty(shape, np.int64)  # (B, T)
        for row, start in enumerate(starts.tolist()):
            inputs[row], targets[row] = self.dataset.window(start)
        return inputs, targets

    def _starts(self, first: int, last: int) -> np.ndarray:
        """Where the windows ``first .. last - 1`` of this epoch start; some more are planned."""
        begin, starts = self._planned
        if not begin <= first <= last <= begin + len(starts):
            begin, end = first, min(max(last, first + _PLAN_AHEAD), len(self.dataset))
            starts = self._order(np.arange(begin, end))
            self._planned = (begin, starts)
        return starts[first - begin : last - begin]

    def _order(self, numbers: np.ndarray) -> np.ndarray:
        """Where windows of this epoch start, by their numbers in it."""
        if not self.random_crops and not self.shuffle:
            return numbers * self.dataset.stride
        keys = round_keys(self.seed, self._epoch)
        if self.random_crops:
            return random_below(numbers, self.dataset.n_starts, keys)
        return permuted(numbers, len(self.dataset), keys) * self.dataset.stride

    def _check(self) -> None:
        for name in ("batch_size", "world_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}.")
        if not 0 <= self.rank < self.world_size:
            raise ConfigError(f"rank: expected 0 .. {self.world_size - 1}, got {self.rank}.")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ConfigError(f"seed: expected an integer of at least 0, got {self.seed!r}.")
        if not self.drop_last and self.world_size > 1:
            raise ConfigError("drop_last=False: the last batch cannot be shared out among ranks.")
        if len(self) == 0:
            raise DataError(
                f"BatchLoader: the text has {len(self.dataset)} windows of "
                f"{self.dataset.context_length} tokens, fewer than a batch of "
                f"{self.batch_size * self.world_size}. Give more text, a smaller batch size, or a "
                "shorter context length."
            )
