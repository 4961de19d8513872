"""The ops as functions: ``tg.functional.softmax(x, axis=-1)``.

Each is one line: the mathematics stands in the op's own file under ``ops/``. Arrays, nested lists
and numbers are taken as constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_llm import ops  # noqa: F401  (enters all ops into the registry)
from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.autograd.tensor import Tensor
from tinygrad_llm.backend.random import Key


def _tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(x)


def linear(x: Any, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b. x (..., in), weight (out, in), bias (out,) -> (..., out)."""
    return OPS["linear"](_tensor(x), weight, bias)


def embedding(ids: Any, weight: Tensor) -> Tensor:
    """Rows of ``weight`` (V, C) for integer ``ids`` (...) -> (..., C)."""
    return OPS["embedding"](ids, weight)


def layer_norm(
    x: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Each row of the last axis to mean 0 and variance 1, then times weight plus bias."""
    return OPS["layer_norm"](_tensor(x), weight, bias, eps=eps)


def add_layer_norm(
    x: Any, residual: Any, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """s = x + residual and y = layer_norm(s), in one pass; returns (s, y)."""
    return OPS["add_layer_norm"](_tensor(x), _tensor(residual), weight, bias, eps=eps)


def gelu(x: Any, approximate: str = "tanh") -> Tensor:
    """Gaussian error linear unit; ``"tanh"`` as in GPT-2, or ``"none"`` for the exact one."""
    return OPS["gelu"](_tensor(x), approximate=approximate)


def feed_forward(x: Any, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """linear(gelu(linear(x, w1, b1)), w2, b2). x (..., C), w1 (H, C), w2 (O, H) -> (..., O)."""
    return OPS["feed_forward"](_tensor(x), w1, b1, w2, b2)


def relu(x: Any) -> Tensor:
    """max(x, 0)."""
    return OPS["relu"](_tensor(x))


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + e^-x)."""
    return OPS["sigmoid"](_tensor(x))


def tanh(x: Any) -> Tensor:
    """Hyperbolic tangent."""
    return OPS["tanh"](_tensor(x))


def softmax(x: Any, axis: int = -1) -> Tensor:
    """Probabilities along ``axis``."""
    return OPS["softmax"](_tensor(x), axis=axis)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """Logarithms of the probabilities along ``axis``."""
    return OPS["log_softmax"](_tensor(x), axis=axis)


def dropout(x: Any, p: float = 0.5, training: bool = True, key: Key | None = None) -> Tensor:
    """Each element set to 0 with probability p, the others divided by 1 - p."""
    return OPS["dropout"](_tensor(x), p=p, training=training, key=key)


def scaled_dot_product_attention(
    q: Any, k: Any, v: Any, causal: bool = False, mask: Any = None, dropout_p: float = 0.0,
    scale: float | None = None, key: Key | None = None,
) -> Tensor:  # fmt: skip
    """softmax(q k^T scale) v. q (B, H, T, D), k and v (B, H, S, D) -> (B, H, T, D)."""
    return OPS["scaled_dot_product_attention"](
        _tensor(q), _tensor(k), _tensor(v),
        causal=causal, mask=mask, dropout_p=dropout_p, scale=scale, key=key,
    )  # fmt: skip


def attention_qkv(
    qkv: Any, n_head: int, causal: bool = True, dropout_p: float = 0.0, key: Key | None = None
) -> Tensor:
    """Self-attention of all heads from the packed projection (B, T, 3C) -> (B, T, C)."""
    return OPS["attention_qkv"](
        _tensor(qkv), n_head=n_head, causal=causal, dropout_p=dropout_p, key=key
    )


def cross_entropy(
    logits: Any, targets: Any, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-log softmax(logits)[target], averaged. logits (..., V), integer targets (...)."""
    return OPS["cross_entropy"](
        _tensor(logits), targets, ignore_index=ignore_index, reduction=reduction
    )


def linear_cross_entropy(
    x: Any, weight: Tensor, targets: Any, bias: Tensor | None = None, ignore_index: int = -100,
    chunk_rows: int | None = None,
) -> Tensor:  # fmt: skip
    """cross_entropy(linear(x, weight, bias), targets) without ever holding all logits."""
    return OPS["linear_cross_entropy"](
        _tensor(x), weight, targets, bias, ignore_index=ignore_index, chunk_rows=chunk_rows
    )


def concatenate(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors one behind the other along ``axis``."""
    return OPS["concatenate"](*[_tensor(t) for t in tensors], axis=axis)


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis."""
    return OPS["stack"](*[_tensor(t) for t in tensors], axis=axis)


def split(x: Any, sections: int, axis: int = -1) -> tuple[Tensor, ...]:
    """Equal parts along ``axis``."""
    return OPS["split"](_tensor(x), sections=sections, axis=axis)


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """``a`` where the condition is true, ``b`` elsewhere."""
    mask = condition.data if isinstance(condition, Tensor) else condition
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a = Tensor(np.asarray(a))
    return OPS["where"](mask, a, b)


def masked_fill(x: Any, mask: Any, value: float) -> Tensor:
    """``value`` where ``mask`` is true, ``x`` elsewhere."""
    return OPS["masked_fill"](_tensor(x), mask=mask, value=value)


def matmul(a: Any, b: Any) -> Tensor:
    """Matrix product over the last two axes."""
    return OPS["matmul"](_tensor(a), _tensor(b))
