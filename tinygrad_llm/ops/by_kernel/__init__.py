"""The kernel versions: each op of the hot path once more, by its Triton kernel or cuBLAS.

A kernel version holds no mathematics. Formula and derivative stand in the op's own file, which has
the same name (``ops/gelu.py``, ``ops/by_kernel/gelu.py``), the kernel's arithmetic in ``kernels/``;
here one is handed to the other.
"""

from tinygrad_llm.ops.by_kernel import (
    add_layer_norm,
    attention,
    attention_qkv,
    cross_entropy,
    dropout,
    embedding,
    feed_forward,
    gelu,
    layer_norm,
    linear,
    linear_cross_entropy,
    softmax,
)

__all__ = [
    "add_layer_norm",
    "attention",
    "attention_qkv",
    "cross_entropy",
    "dropout",
    "embedding",
    "feed_forward",
    "gelu",
    "layer_norm",
    "linear",
    "linear_cross_entropy",
    "softmax",
]
