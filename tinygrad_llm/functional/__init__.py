"""The ops as functions: ``tg.functional.softmax(x, axis=-1)``.

Each calls the op's class, in whose file under ``ops/`` the mathematics stands. Arrays, nested lists
and numbers are taken as constants. The other ops of the registry are here by their names, too, one
of your own among them: ``tg.functional.rms_norm`` after ``tg.register("rms_norm", ...)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinygrad_llm.autograd.registry import REGISTRY
from tinygrad_llm.errors import missing_name
from tinygrad_llm.functional import registered
from tinygrad_llm.functional.arrays import (
    concatenate,
    einsum,
    masked_fill,
    matmul,
    one_hot,
    split,
    stack,
    where,
)
from tinygrad_llm.functional.attention import attention_qkv, scaled_dot_product_attention
from tinygrad_llm.functional.layers import (
    add_layer_norm,
    dropout,
    embedding,
    feed_forward,
    gelu,
    layer_norm,
    linear,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    tanh,
)
from tinygrad_llm.functional.losses import cross_entropy, linear_cross_entropy, mse_loss

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
    "conv1d": "linear: this package is for text and has no convolutions",
    "conv2d": "linear: this package is for text and has no convolutions",
    "cosine_similarity": "(a * b).sum(-1) / (a.norm(axis=-1) * b.norm(axis=-1))",
    "elu": "gelu or silu",
    "hardswish": "silu or gelu",
    "kl_div": "(p * (log_p - log_q)).sum(), with log_p and log_q of log_softmax",
    "l1_loss": "(x - target).abs().mean()",
    "leaky_relu": "relu, or relu(x) - 0.01 * relu(-x)",
    "mish": "silu or gelu",
    "multi_head_attention_forward": "nn.MultiHeadAttention",
    "nll_loss": "cross_entropy, which takes logits",
    "normalize": "x / (x * x).sum(axis=-1, keepdims=True).sqrt()",
    "pad": "concatenate with zeros",
    "pairwise_distance": "(a - b).norm(axis=-1)",
    "rms_norm": "layer_norm, or x / ((x * x).mean(axis=-1, keepdims=True) + eps).sqrt() * weight",
    "smooth_l1_loss": "mse_loss",
    "softplus": "(1 + x.exp()).log()",
}


if not TYPE_CHECKING:  # a type checker goes on finding misspelt names

    def __getattr__(name):
        if name in REGISTRY:
            return registered.function_of(name)
        raise missing_name("tg.functional", name, _LEFT_OUT, __dir__())


def __dir__() -> list[str]:
    return sorted({*__all__, *REGISTRY})
