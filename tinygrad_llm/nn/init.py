"""Initial values of parameters.

All are drawn on the CPU from a `Generator`, by default the one that `tg.manual_seed` seeds: one
seed gives one model, on every device.

A layer alone starts as PyTorch's does. GPT then draws its weights as GPT-2 did (see `gpt2`).
The functions whose name ends in ``_`` overwrite a parameter that is there, and return it.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_llm.autograd import Tensor, no_grad
from tinygrad_llm.autograd.scoped import Scoped
from tinygrad_llm.backend import Array, to_device
from tinygrad_llm.backend.dtypes import default_float
from tinygrad_llm.backend.random import Generator, default_generator
from tinygrad_llm.errors import CheckpointError, ShapeError, missing_name

if TYPE_CHECKING:
    from tinygrad_llm.nn.module import Module

GPT2_STD = 0.02
_SMALLEST = 64  # an array counts for so many numbers: a layer without weights takes memory, too
ENDS_IN_STREAM = ("attention.projection.weight", "feed_forward.project.weight")
_LEFT_OUT = {
    "eye_": "copy_(np.eye(n)) inside tg.no_grad()",
    "orthogonal_": "copy_(np.linalg.qr(values)[0]) inside tg.no_grad()",
    "trunc_normal_": "normal_; beyond two deviations lie 5 % of its numbers",
}


class _State(threading.local):
    skipping = False
    room: _Room | None = None


@dataclass
class _Room:
    """How many numbers new layers may still have, and what is said when there are no more."""

    numbers: float
    refusal: str

    def take(self, shape: tuple[int, ...]) -> None:
        self.numbers -= max(math.prod(shape), _SMALLEST)
        if self.numbers < 0:
            raise CheckpointError(self.refusal)


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


class at_most(Scoped):
    """Inside, new layers have together so many numbers and no more: for sizes out of a file.

    Args:
        numbers: those that are overwritten by other initial values count each time.
        refusal: the message of the CheckpointError that is raised in place of more.
    """

    place = _state
    setting = "room"

    def __init__(self, numbers: float, refusal: str) -> None:
        self._room = _Room(numbers, refusal)

    def inside(self, outside: _Room | None) -> _Room:
        return self._room


def _look_for_room(shape: tuple[int, ...]) -> None:
    if _state.room is not None:
        _state.room.take(shape)


def is_skipping() -> bool:
    """True inside `no_init`."""
    return _state.skipping


def normal(shape: tuple[int, ...], std: float = 1.0, generator: Generator | None = None) -> Array:
    """Gaussian numbers of mean 0, float32."""
    _look_for_room(shape)
    if _state.skipping:
        return np.empty(shape, default_float())
    return (generator or default_generator()).normal(shape, std, default_float())


def uniform(shape: tuple[int, ...], bound: float, generator: Generator | None = None) -> Array:
    """Uniform numbers of [-bound, bound), float32."""
    _look_for_room(shape)
    if _state.skipping:
        return np.empty(shape, default_float())
    draw = (generator or default_generator()).uniform(shape, -bound, bound)
    return draw.astype(default_float())


def full(shape: tuple[int, ...], value: float) -> Array:
    """A constant, float32."""
    _look_for_room(shape)
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


# ---- overwriting a parameter ---------------------------------------------------------------------


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Gaussian numbers of that mean and standard deviation."""
    return _overwrite(tensor, mean + normal(tensor.shape, std, generator))


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform numbers of [a, b)."""
    return _overwrite(tensor, (a + b) / 2 + uniform(tensor.shape, (b - a) / 2, generator))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """``val`` everywhere."""
    return _overwrite(tensor, full(tensor.shape, val))


def zeros_(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return constant_(tensor, 1.0)


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform in +-gain sqrt(6 / (in + out)), for weights (out, in).

    Forward, the variance of a sum over ``in`` inputs wants a weight variance of 1 / in; backward,
    over ``out`` gradients, 1 / out. This is the compromise 2 / (in + out).

    Source: Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010, equation 16.
    """
    bound = gain * math.sqrt(6 / sum(_out_and_in("xavier_uniform_", tensor)))
    return _overwrite(tensor, uniform(tensor.shape, bound, generator))


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Gaussian with variance gain^2 2 / (in + out); see `xavier_uniform_`."""
    std = gain * math.sqrt(2 / sum(_out_and_in("xavier_normal_", tensor)))
    return _overwrite(tensor, normal(tensor.shape, std, generator))


def kaiming_uniform_(tensor: Tensor, a: float = 0.0, generator: Generator | None = None) -> Tensor:
    """Uniform with variance 2 / ((1 + a^2) in), for weights (out, in) behind a relu.

    relu takes half of the variance away, so twice 1 / in keeps it from layer to layer.

    Args:
        tensor: overwritten.
        a: slope of a leaky relu below 0.
        generator: by default the one of `tg.manual_seed`.

    Source: He et al., "Delving deep into rectifiers", 2015, section 2.2.
    """
    std = math.sqrt(2 / ((1 + a * a) * _out_and_in("kaiming_uniform_", tensor)[1]))
    return _overwrite(tensor, uniform(tensor.shape, math.sqrt(3) * std, generator))


def kaiming_normal_(tensor: Tensor, a: float = 0.0, generator: Generator | None = None) -> Tensor:
    """Gaussian with variance 2 / ((1 + a^2) in); see `kaiming_uniform_`."""
    std = math.sqrt(2 / ((1 + a * a) * _out_and_in("kaiming_normal_", tensor)[1]))
    return _overwrite(tensor, normal(tensor.shape, std, generator))


def _out_and_in(owner: str, tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim != 2:
        raise ShapeError(f"{owner}: expected weights (out, in), got shape {tensor.shape}.")
    return tensor.shape  # type: ignore[return-value]


def _overwrite(tensor: Tensor, values: Array) -> Tensor:
    if is_skipping():
        return tensor
    with no_grad():
        return tensor.copy_(to_device(values.astype(tensor.dtype), tensor.device))


if not TYPE_CHECKING:  # a type checker goes on finding misspelt names

    def __getattr__(name):
        raise missing_name("tg.nn.init", name, _LEFT_OUT)
