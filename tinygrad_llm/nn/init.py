"""Initial values of parameters.

All are drawn on the CPU from a `Generator`, by default the one that `tg.manual_seed` seeds: one
seed gives one model, on every device.

A layer alone starts as PyTorch's does. GPT then draws its weights as GPT-2 did (see `gpt2`).
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_llm.autograd.scoped import Scoped
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.dtypes import default_float
from tinygrad_llm.backend.random import Generator, default_generator

if TYPE_CHECKING:
    from tinygrad_llm.nn.module import Module

GPT2_STD = 0.02
ENDS_IN_STREAM = ("attention.projection.weight", "feed_forward.project.weight")


class _State(threading.local):
    skipping = False


_state = _State()


class no_init(Scoped):
    """Inside, new layers get uninitialized memory: for weights that are loaded right after.

    Memory that is never touched costs nothing, so a model is built in milliseconds. It holds for
    the thread that entered it, like `tg.no_grad`.
    """

    place = _state
    setting = "skipping"

    def inside(self, outside: bool) -> bool:
        return True


def is_skipping() -> bool:
    """True inside `no_init`."""
    return _state.skipping


def normal(shape: tuple[int, ...], std: float = 1.0, generator: Generator | None = None) -> Array:
    """Gaussian numbers of mean 0, float32."""
    if _state.skipping:
        return np.empty(shape, default_float())
    return (generator or default_generator()).normal(shape, std, default_float())


def uniform(shape: tuple[int, ...], bound: float, generator: Generator | None = None) -> Array:
    """Uniform numbers of [-bound, bound), float32."""
    if _state.skipping:
        return np.empty(shape, default_float())
    draw = (generator or default_generator()).uniform(shape, -bound, bound)
    return draw.astype(default_float())


def full(shape: tuple[int, ...], value: float) -> Array:
    """A constant, float32."""
    if _state.skipping:
        return np.empty(shape, default_float())
    return np.full(shape, value, default_float())


def gpt2(model: Module, n_layer: int, generator: Generator | None = None) -> None:
    """Give all parameters of a GPT their initial values, as GPT-2 did.

    - weights and embeddings: normal, standard deviation 0.02
    - the two projections of each block that end in the residual stream: 0.02 / sqrt(2 n_layer).
      Each block adds two terms to the stream; their variances add up to one layer's worth.
    - biases 0; layer norms start as the identity, weight 1 and bias 0

    Source: Radford et al., "Language models are unsupervised multitask learners", 2019, sec. 2.3;
    the value 0.02 from their code.
    """
    residual_std = GPT2_STD / math.sqrt(2 * n_layer)
    for name, p in model.named_parameters():
        if p.ndim == 1:
            is_norm_weight = name.endswith("weight")
            p.data[...] = 1.0 if is_norm_weight else 0.0
            continue
        std = residual_std if name.endswith(ENDS_IN_STREAM) else GPT2_STD
        p.data[...] = normal(p.shape, std, generator)
