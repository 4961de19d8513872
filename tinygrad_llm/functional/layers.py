"""The layers of a network, and the functions of each element between them."""

from __future__ import annotations

from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.keywords import both_names
from tinygrad_llm.autograd.tensor import Tensor, tensor_of
from tinygrad_llm.backend.dtypes import DTypeLike
from tinygrad_llm.backend.random import Key
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.ops.add_layer_norm import AddLayerNorm
from tinygrad_llm.ops.dropout import Dropout
from tinygrad_llm.ops.elementwise import Sigmoid, Tanh
from tinygrad_llm.ops.embedding import Embedding
from tinygrad_llm.ops.feed_forward import FeedForward
from tinygrad_llm.ops.gelu import Gelu
from tinygrad_llm.ops.kinked import Relu
from tinygrad_llm.ops.layer_norm import LayerNorm
from tinygrad_llm.ops.linear import Linear
from tinygrad_llm.ops.silu import Silu
from tinygrad_llm.ops.softmax import LogSoftmax, Softmax


def linear(x: TensorLike, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b. x (..., in), weight (out, in), bias (out,) -> (..., out)."""
    return Linear.apply(tensor_of(x), weight, bias)


def embedding(ids: TensorLike, weight: Tensor) -> Tensor:
    """Rows of ``weight`` (V, C) for integer ``ids`` (...) -> (..., C)."""
    return Embedding.apply(ids, weight)


def layer_norm(
    x: TensorLike,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *surplus: object,
) -> Tensor:
    """Each row of the last axis to mean 0 and variance 1, then times weight plus bias.

    Raises:
        ConfigError: a shape comes second, as in PyTorch, whose calls have one argument more; here
            the rows are always those of the last axis.
    """
    if surplus or isinstance(weight, (int, tuple, list)):
        raise ConfigError(
            f"layer_norm: weight must be a Tensor or None, got {weight!r}. The rows are those of "
            "the last axis; leave their shape out: layer_norm(x, weight, bias, eps)."
        )
    return LayerNorm.apply(tensor_of(x), weight, bias, eps=eps)


def add_layer_norm(
    x: TensorLike,
    residual: TensorLike,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """s = x + residual and y = layer_norm(s), in one pass; returns (s, y)."""
    return AddLayerNorm.apply(tensor_of(x), tensor_of(residual), weight, bias, eps=eps)


def feed_forward(x: TensorLike, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """linear(gelu(linear(x, w1, b1)), w2, b2). x (..., C), w1 (H, C), w2 (O, H) -> (..., O)."""
    return FeedForward.apply(tensor_of(x), w1, b1, w2, b2)


def dropout(x: TensorLike, p: float = 0.5, training: bool = True, key: Key | None = None) -> Tensor:
    """Each element set to 0 with probability p, the others divided by 1 - p."""
    return Dropout.apply(tensor_of(x), p=p, training=training, key=key)


def gelu(x: TensorLike, approximate: str = "tanh") -> Tensor:
    """Gaussian error linear unit; ``"tanh"`` as in GPT-2, or ``"none"`` for the exact one."""
    return Gelu.apply(tensor_of(x), approximate=approximate)


def silu(x: TensorLike) -> Tensor:
    """Sigmoid linear unit, x / (1 + e^-x); also called swish."""
    return Silu.apply(tensor_of(x))


def relu(x: TensorLike) -> Tensor:
    """max(x, 0)."""
    return Relu.apply(tensor_of(x))


def sigmoid(x: TensorLike) -> Tensor:
    """1 / (1 + e^-x)."""
    return Sigmoid.apply(tensor_of(x))


def tanh(x: TensorLike) -> Tensor:
    """Hyperbolic tangent."""
    return Tanh.apply(tensor_of(x))


@both_names
def softmax(x: TensorLike, axis: int = -1, *, dtype: DTypeLike = None) -> Tensor:
    """Probabilities along ``axis``, of x as ``dtype`` if given."""
    return Softmax.apply(tensor_of(x), axis=axis)


@both_names
def log_softmax(x: TensorLike, axis: int = -1, *, dtype: DTypeLike = None) -> Tensor:
    """Logarithms of the probabilities along ``axis``, of x as ``dtype`` if given."""
    return LogSoftmax.apply(tensor_of(x), axis=axis)
