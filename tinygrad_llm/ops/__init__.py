"""The ops: one op, or one close family, per file; formula, forward and backward side by side.

Importing this package enters all of them into the registry.
"""

from tinygrad_llm.ops import (
    arithmetic,
    attention,
    attention_qkv,
    compare,
    convert,
    cross_entropy,
    dropout,
    elementwise,
    embedding,
    erf,
    feed_forward,
    gelu,
    layer_norm,
    linear,
    linear_cross_entropy,
    matmul,
    on_gpu,
    reduce,
    select,
    shape,
    softmax,
)

__all__ = [
    "arithmetic",
    "attention",
    "attention_qkv",
    "compare",
    "convert",
    "cross_entropy",
    "dropout",
    "elementwise",
    "embedding",
    "erf",
    "feed_forward",
    "gelu",
    "layer_norm",
    "linear",
    "linear_cross_entropy",
    "matmul",
    "on_gpu",
    "reduce",
    "select",
    "shape",
    "softmax",
]
