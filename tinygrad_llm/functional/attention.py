"""Attention, under our names of its arguments and under PyTorch's."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.keywords import attention_names
from tinygrad_llm.autograd.tensor import Tensor, tensor_of
from tinygrad_llm.backend.random import Key
from tinygrad_llm.errors import ConfigError, ShapeError
from tinygrad_llm.ops.attention import ScaledDotProductAttention
from tinygrad_llm.ops.attention_qkv import AttentionQKV


def scaled_dot_product_attention(
    q: TensorLike,
    k: TensorLike,
    v: TensorLike,
    causal: bool = False,
    mask: TensorLike | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
    key: Key | None = None,
    *,
    attn_mask: TensorLike | None = None,
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
    q, k, v = tensor_of(q), tensor_of(k), tensor_of(v)
    if attn_mask is not None or is_causal is not None:
        mask, causal = _pytorch_names(q, k, mask, causal, attn_mask, is_causal)
    if not isinstance(causal, (bool, np.bool_)):
        raise ConfigError(
            f"scaled_dot_product_attention: causal must be True or False, got "
            f"{type(causal).__name__}. Give a mask by name: mask=... or attn_mask=..."
        )
    return ScaledDotProductAttention.apply(
        q, k, v, causal, mask, dropout_p=dropout_p, scale=scale, key=key
    )


def _pytorch_names(
    q: Tensor,
    k: Tensor,
    mask: TensorLike | None,
    causal: bool,
    attn_mask: TensorLike | None,
    is_causal: bool | None,
) -> tuple[TensorLike | None, bool]:
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
    qkv: TensorLike,
    n_head: int,
    causal: bool = True,
    dropout_p: float = 0.0,
    key: Key | None = None,
) -> Tensor:
    """Self-attention of all heads from the packed projection (B, T, 3C) -> (B, T, C)."""
    return AttentionQKV.apply(
        tensor_of(qkv), n_head=n_head, causal=causal, dropout_p=dropout_p, key=key
    )
