"""The ops as functions: ``tg.functional.softmax(x, axis=-1)``.

Each is one line: the mathematics stands in the op's own file under ``ops/``. Arrays, nested lists
and numbers are taken as constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_llm import ops  # noqa: F401  (enters all ops into the registry)
from tinygrad_llm.autograd.arrays import array_of
from tinygrad_llm.autograd.keywords import attention_names, both_names
from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.autograd.tensor import Tensor
from tinygrad_llm.backend.dtypes import DTypeLike
from tinygrad_llm.backend.random import Key
from tinygrad_llm.errors import ConfigError, ShapeError, missing_name

__all__ = [
    "add_layer_norm",
    "attention_qkv",
    "concatenate",
    "cross_entropy",
    "dropout",
    "einsum",
    "embedding",
    "feed_forward",
    "gelu",
    "layer_norm",
    "linear",
    "linear_cross_entropy",
    "log_softmax",
    "masked_fill",
    "matmul",
    "mse_loss",
    "one_hot",
    "relu",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "softmax",
    "split",
    "stack",
    "tanh",
    "where",
]
# Names known from PyTorch -> what to write instead.
_LEFT_OUT = {
    "binary_cross_entropy": "-(y * p.log() + (1 - y) * (1 - p).log()).mean()",
    "binary_cross_entropy_with_logits": "cross_entropy with the two classes' logits [0, z]",
    "elu": "gelu or silu",
    "kl_div": "(p * (log_p - log_q)).sum(), with log_p and log_q of log_softmax",
    "l1_loss": "(x - target).abs().mean()",
    "leaky_relu": "relu, or relu(x) - 0.01 * relu(-x)",
    "multi_head_attention_forward": "nn.MultiHeadAttention",
    "nll_loss": "cross_entropy, which takes logits",
    "normalize": "x / (x * x).sum(axis=-1, keepdims=True).sqrt()",
    "pad": "concatenate with zeros",
    "rms_norm": "layer_norm, or x / ((x * x).mean(axis=-1, keepdims=True) + eps).sqrt() * weight",
    "smooth_l1_loss": "mse_loss",
    "softplus": "(1 + x.exp()).log()",
}


def _tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(x)


def linear(x: Any, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b. x (..., in), weight (out, in), bias (out,) -> (..., out)."""
    return OPS["linear"](_tensor(x), weight, bias)


def embedding(ids: Any, weight: Tensor) -> Tensor:
    """Rows of ``weight`` (V, C) for integer ``ids`` (...) -> (..., C)."""
    return OPS["embedding"](ids, weight)


def layer_norm(
    x: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *surplus: Any,
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
    return OPS["layer_norm"](_tensor(x), weight, bias, eps=eps)


def add_layer_norm(
    x: Any,
    residual: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """s = x + residual and y = layer_norm(s), in one pass; returns (s, y)."""
    return OPS["add_layer_norm"](_tensor(x), _tensor(residual), weight, bias, eps=eps)


def gelu(x: Any, approximate: str = "tanh") -> Tensor:
    """Gaussian error linear unit; ``"tanh"`` as in GPT-2, or ``"none"`` for the exact one."""
    return OPS["gelu"](_tensor(x), approximate=approximate)


def feed_forward(x: Any, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """linear(gelu(linear(x, w1, b1)), w2, b2). x (..., C), w1 (H, C), w2 (O, H) -> (..., O)."""
    return OPS["feed_forward"](_tensor(x), w1, b1, w2, b2)


def silu(x: Any) -> Tensor:
    """Sigmoid linear unit, x / (1 + e^-x); also called swish."""
    return OPS["silu"](_tensor(x))


def relu(x: Any) -> Tensor:
    """max(x, 0)."""
    return OPS["relu"](_tensor(x))


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + e^-x)."""
    return OPS["sigmoid"](_tensor(x))


def tanh(x: Any) -> Tensor:
    """Hyperbolic tangent."""
    return OPS["tanh"](_tensor(x))


@both_names
def softmax(x: Any, axis: int = -1, *, dtype: DTypeLike = None) -> Tensor:
    """Probabilities along ``axis``, of x as ``dtype`` if given."""
    return OPS["softmax"](_tensor(x), axis=axis)


@both_names
def log_softmax(x: Any, axis: int = -1, *, dtype: DTypeLike = None) -> Tensor:
    """Logarithms of the probabilities along ``axis``, of x as ``dtype`` if given."""
    return OPS["log_softmax"](_tensor(x), axis=axis)


def dropout(x: Any, p: float = 0.5, training: bool = True, key: Key | None = None) -> Tensor:
    """Each element set to 0 with probability p, the others divided by 1 - p."""
    return OPS["dropout"](_tensor(x), p=p, training=training, key=key)


def scaled_dot_product_attention(
    q: Any,
    k: Any,
    v: Any,
    causal: bool = False,
    mask: Any = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
    key: Key | None = None,
    *,
    attn_mask: Any = None,
    is_causal: bool | None = None,
) -> Tensor:
    """softmax(q k^T scale) v. q (B, H, T, D), k and v (B, H, S, D) -> (B, H, T, D).

    Args:
        causal: a query sees only the keys up to its own position; the last query's is the last
            key's, so that T new queries may follow on cached keys.
        mask: broadcastable to (B, H, T, S): boolean, True where a query sees a key, or numbers
            to be added to the scores.
        dropout_p: probability of dropping a weight.
        scale: by default 1 / sqrt(D).
        key: of the dropout's mask; by default the next of `tg.manual_seed`'s generator.
        attn_mask: PyTorch's name of ``mask``.
        is_causal: PyTorch's name of ``causal``, for as many keys as queries: where they differ,
            PyTorch counts both from the front.

    Raises:
        ConfigError: one argument under two names, or arguments in PyTorch's order.
        ShapeError: ``is_causal`` with different numbers of queries and keys.
    """
    if attn_mask is not None or is_causal is not None:
        mask, causal = _pytorch_names(q, k, mask, causal, attn_mask, is_causal)
    if not isinstance(causal, (bool, np.bool_)):
        raise ConfigError(
            f"scaled_dot_product_attention: causal must be True or False, got "
            f"{type(causal).__name__}. Give a mask by name: mask=... or attn_mask=..."
        )
    return OPS["scaled_dot_product_attention"](
        _tensor(q), _tensor(k), _tensor(v), causal, mask, dropout_p=dropout_p, scale=scale, key=key
    )


def _pytorch_names(
    q: Any, k: Any, mask: Any, causal: bool, attn_mask: Any, is_causal: bool | None
) -> tuple[Any, bool]:
    """(mask, causal), whichever names they were given under."""
    if (attn_mask is not None and mask is not None) or (is_causal is not None and causal):
        raise ConfigError(
            "scaled_dot_product_attention: attn_mask= is another name of mask=, and is_causal= "
            "of causal=; give one of the two."
        )
    if is_causal and q.shape[-2] != k.shape[-2]:
        raise ShapeError(
            f"scaled_dot_product_attention: is_causal with {q.shape[-2]} queries and "
            f"{k.shape[-2]} keys has two meanings. Use causal=True, where the last query belongs "
            "to the last key, or give a mask."
        )
    return mask if attn_mask is None else attn_mask, causal if is_causal is None else is_causal


@attention_names
def attention_qkv(
    qkv: Any, n_head: int, causal: bool = True, dropout_p: float = 0.0, key: Key | None = None
) -> Tensor:
    """Self-attention of all heads from the packed projection (B, T, 3C) -> (B, T, C)."""
    return OPS["attention_qkv"](
        _tensor(qkv), n_head=n_head, causal=causal, dropout_p=dropout_p, key=key
    )


def cross_entropy(
    logits: Any,
    targets: Any,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    weight: None = None,
) -> Tensor:
    """-log softmax(logits)[target], averaged. logits (..., V), integer targets (...).

    Args:
        ignore_index: rows with this target do not count.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for one loss per row.
        label_smoothing: share of a target that is spread over all classes.
        weight: of each class; left out, the message says how to weight the rows.

    Raises:
        ConfigError: a setting makes no sense, or ``weight`` is given.
    """
    if weight is not None or not isinstance(ignore_index, (int, np.integer)):
        raise ConfigError(
            "cross_entropy: weights of classes are left out. Weight the rows: "
            'w = weight[targets], (cross_entropy(logits, targets, reduction="none") * w).sum() / '
            f"w.sum(). And ignore_index must be an integer, got {type(ignore_index).__name__}."
        )
    return OPS["cross_entropy"](
        _tensor(logits),
        targets,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )


def mse_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """(x - target)^2, averaged; ``"sum"`` adds, ``"none"`` gives one loss per element."""
    return OPS["mse_loss"](_tensor(x), _tensor(target), reduction=reduction)


def one_hot(ids: Any, num_classes: int = -1) -> Tensor:
    """1 at the id, 0 elsewhere: integers (...) -> (..., V); V by default the largest id + 1."""
    return OPS["one_hot"](ids, num_classes)


def linear_cross_entropy(
    x: Any,
    weight: Tensor,
    targets: Any,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    chunk_rows: int | None = None,
) -> Tensor:
    """cross_entropy(linear(x, weight, bias), targets) without ever holding all logits."""
    return OPS["linear_cross_entropy"](
        _tensor(x), weight, targets, bias, ignore_index=ignore_index, chunk_rows=chunk_rows
    )


@both_names
def concatenate(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors one behind the other along ``axis``."""
    return OPS["concatenate"](*[_tensor(t) for t in tensors], axis=axis)


@both_names
def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis."""
    return OPS["stack"](*[_tensor(t) for t in tensors], axis=axis)


def split(x: Any, sections: Any, axis: int | None = None, *, dim: int | None = None) -> Any:
    """``sections`` equal parts with ``axis=``; parts of a length or of lengths with ``dim=``."""
    return _tensor(x).split(sections, axis, dim=dim)


def einsum(equation: str, *operands: Any) -> Tensor:
    """Sum of products over named axes: ``einsum("ij,jk->ik", a, b)`` is the matrix product."""
    return OPS["einsum"](*[_tensor(x) for x in operands], equation=equation)


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """``a`` where the condition is true, ``b`` elsewhere."""
    mask = array_of("where", condition)
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a = Tensor(a)
    return OPS["where"](mask, a, b)


def masked_fill(x: Any, mask: Any, value: float) -> Tensor:
    """``value`` where ``mask`` is true, ``x`` elsewhere."""
    return OPS["masked_fill"](_tensor(x), mask=mask, value=value)


def matmul(a: Any, b: Any) -> Tensor:
    """Matrix product over the last two axes."""
    return OPS["matmul"](_tensor(a), _tensor(b))


def __getattr__(name: str) -> Any:
    raise missing_name("tg.functional", name, _LEFT_OUT, __all__)
