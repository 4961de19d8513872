"""Multi-head attention with one projection, as GPT uses it."""

from __future__ import annotations

from typing import TypeVar

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.keywords import attention_names
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.random import Generator, Key
from tinygrad_llm.checks import check_heads, check_size
from tinygrad_llm.errors import ConfigError, GraphError
from tinygrad_llm.nn.dropout import Dropout
from tinygrad_llm.nn.kv_cache import LayerCache
from tinygrad_llm.nn.linear import Linear
from tinygrad_llm.nn.module import Module

T = TypeVar("T", Tensor, Array)


class MultiHeadAttention(Module):
    """H attentions of width D = C / H at once, and a projection that mixes their results.

        [q | k | v] = x Wqkv^T + b        one product for all heads: (B, T, 3C)
        head h      = softmax(q_h k_h^T / sqrt(D)) v_h
        y           = [head 0 | head 1 | ...] Wo^T + bo

    Parameters: ``qkv`` (3C, C), rows in the order q, k, v, and ``projection`` (C, C).

    Args:
        n_embd: width C, a multiple of n_head.
        n_head: number of heads H.
        dropout: on the attention weights and on the result, in training.
        qkv_bias: give ``qkv`` a bias, as GPT-2 does.
        causal: a position sees only itself and those before it; also called ``is_causal``.
        generator: source of the initial values.

    Source: Vaswani et al., "Attention is all you need", 2017, section 3.2.2.

    Raises:
        ConfigError: n_embd is no multiple of n_head, or dropout is not in [0, 1).
    """

    @attention_names
    def __init__(
        self,
        n_embd: int,
        n_head: int,
        dropout: float = 0.0,
        qkv_bias: bool = True,
        causal: bool = True,
        generator: Generator | None = None,
    ) -> None:
        self.n_embd = check_size("MultiHeadAttention", "n_embd", n_embd)
        self.n_head = check_size("MultiHeadAttention", "n_head", n_head)
        check_heads("MultiHeadAttention", n_embd, n_head)
        self.causal = causal
        self.qkv = Linear(n_embd, 3 * n_embd, qkv_bias, generator)
        self.projection = Linear(n_embd, n_embd, generator=generator)
        self.attention_dropout = Dropout(dropout)
        self.residual_dropout = Dropout(dropout)

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"n_head={self.n_head}, causal={self.causal}"

    @attention_names
    def forward(
        self,
        x: TensorLike,
        context: TensorLike | None = None,
        mask: TensorLike | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Attend to x itself, to another sequence, or to x and what came before it.

        Args:
            x: (B, T, C), gives the queries.
            context: (B, S, C), gives keys and values in place of x (cross attention, as in an
                encoder-decoder); all of it is visible, whatever ``causal`` says.
            mask: boolean, broadcastable to (B, H, T, S); False hides a key from a query. Also
                called ``attn_mask``.
            cache: keys and values of earlier positions; those of x are added to it. For use
                under ``no_grad``: no gradient goes into the cache.

        Returns:
            (B, T, C)
        """
        if context is not None:
            y = self._cross(x, context, mask, cache)
        elif mask is None and (cache is None or not cache.length):
            qkv = self.qkv(x)  # (B, T, 3C)
            if cache is not None:
                _, k, v = _split_heads(qkv.data, self.n_head)
                cache.append(k, v)
            y = F.attention_qkv(qkv, self.n_head, self.causal, *self._dropout())
        else:
            y = self._with_mask_or_cache(x, mask, cache)
        return self.residual_dropout(self.projection(y))

    def _with_mask_or_cache(
        self, x: TensorLike, mask: TensorLike | None, cache: LayerCache | None
    ) -> Tensor:
        qkv = self.qkv(x)  # (B, T, 3C)
        if cache is None:
            return self._attend(*_split_heads(qkv, self.n_head), self.causal, mask)
        if qkv.requires_grad:
            raise GraphError(
                "MultiHeadAttention: no gradient goes through a cache. Use it inside `with "
                "tg.no_grad():`, or train on whole sequences without one."
            )
        # So the views are taken of the arrays, at a tenth of the time.
        q, k, v = _split_heads(qkv.data, self.n_head)  # (B, H, T, D)
        k, v = cache.append(k, v)  # (B, H, S, D)
        p, key = self._dropout()
        y = F.scaled_dot_product_attention(q, k, v, self.causal, mask, p, key=key)
        return Tensor(_merge_heads(y.data))

    def _cross(
        self, x: TensorLike, context: TensorLike, mask: TensorLike | None, cache: LayerCache | None
    ) -> Tensor:
        if cache is not None:
            raise ConfigError(
                "MultiHeadAttention: context and cache exclude each other; the keys of a context "
                "do not grow, so nothing is gained by caching them."
            )
        q, _, _ = _split_heads(self.qkv(x), self.n_head)  # (B, H, T, D)
        _, k, v = _split_heads(self.qkv(context), self.n_head)  # (B, H, S, D)
        return self._attend(q, k, v, False, mask)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, causal: bool, mask: TensorLike | None
    ) -> Tensor:
        p, key = self._dropout()
        y = F.scaled_dot_product_attention(q, k, v, causal, mask, p, key=key)  # (B, H, T, D)
        return _merge_heads(y)

    def _dropout(self) -> tuple[float, Key | None]:
        drop = self.attention_dropout
        return (drop.p, drop.next_key()) if drop.active else (0.0, None)


def _split_heads(qkv: T, n_head: int) -> tuple[T, T, T]:
    """(B, T, 3C) -> three times (B, H, T, D); of a Tensor or of an array."""
    batch, n_positions, width = qkv.shape
    parts = qkv.reshape(batch, n_positions, 3, n_head, width // (3 * n_head))  # (B, T, 3, H, D)
    parts = parts.transpose(2, 0, 3, 1, 4)  # (3, B, H, T, D)
    return parts[0], parts[1], parts[2]


def _merge_heads(y: T) -> T:
    """(B, H, T, D) -> (B, T, C), the heads side by side; of a Tensor or of an array."""
    batch, n_head, n_positions, size = y.shape
    return y.transpose(0, 2, 1, 3).reshape(batch, n_positions, n_head * size)
