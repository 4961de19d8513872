"""Several ranks that are played by one process, and a small model whose gradients they sum."""

from __future__ import annotations

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm.distributed import Traffic, Work
from tinygrad_llm.distributed.communicator import Communicator
from tinygrad_llm.nn import GPT, GPTConfig
from tinygrad_llm.optim import AdamW, decay_groups

SIZE = 4


class Equals(Communicator):
    """Rank 0 of ranks that all hold the same arrays: a sum is a multiple. Keeps a diary."""

    def __init__(self, size=SIZE):
        self.size, self.traffic, self.diary = size, Traffic(size), []

    def _note(self, name, x, change=None):
        self.diary.append((name, x.size))
        return Work(lambda: None, lambda: True, change)

    def _all_reduce(self, x):
        x *= self.size
        return self._note("all_reduce", x)

    def _reduce_scatter(self, x, bounds):
        own = slice(bounds[0], bounds[1])
        x[own] *= self.size
        x[bounds[1] :] = np.nan  # undefined
        return self._note("reduce_scatter", x)

    def _all_gather(self, x, bounds):
        return self._note("all_gather", x)

    def _broadcast(self, x):
        return self._note("broadcast", x)


def small_gpt(dtype="float32"):
    tg.manual_seed(0)
    return GPT(GPTConfig(40, 16, 3, 2, 32)).to(dtype)


BATCH = np.random.default_rng(0).integers(0, 40, (2, 2, 16))


def optimizer_of(model):
    return AdamW(decay_groups(model), lr=1e-2)


def backward(model, optimizer, sums=None):
    optimizer.zero_grad()
    loss = model.loss(*BATCH)
    if sums is not None:
        sums.watch()
    loss.backward()
    if sums is not None:
        sums.finish()
