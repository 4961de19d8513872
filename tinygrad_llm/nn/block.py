"""The transformer block."""

from __future__ import annotations

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.keywords import attention_names
from tinygrad_llm.autograd.tensor import tensor_of
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.nn.attention import MultiHeadAttention
from tinygrad_llm.nn.feed_forward import FeedForward
from tinygrad_llm.nn.kv_cache import LayerCache
from tinygrad_llm.nn.layer_norm import LayerNorm
from tinygrad_llm.nn.module import Module
from tinygrad_llm.nn.own_parts import call
from tinygrad_llm.nn.residual import ResidualSum


class TransformerBlock(Module):
    """Attention, then the feed-forward network, each added to the residual stream (pre-norm).

        s = x + attention(norm1(x))
        y = s + feed_forward(norm2(s))

    The two sums are added by the norm that comes next, y by that of the next block: see
    `ResidualSum`.

    Each of the four parts may be replaced by a module of one's own (``block.norm1 = RMSNorm(C)``),
    which returns a Tensor of the shape (B, T, C) and the type that it is given:

        norm1, norm2, feed_forward    forward(x)
        attention                     forward(x, mask=None, cache=None)

    An attention without ``mask`` refuses batches that are padded; one without ``cache`` generates,
    but reads the whole text for each token. One with it calls ``cache.append(k, v)`` once, with
    the keys and values (B, H, T, D) of x, and attends to what that returns, as
    `MultiHeadAttention` does. docs/own_parts.md is a guide with examples.

    Args:
        n_embd: width C, a multiple of n_head.
        n_head: number of attention heads.
        dropout: on attention weights and on both results, in training.
        qkv_bias: give the attention's qkv projection a bias, as GPT-2 does.
        causal: a position sees only itself and those before it; also called ``is_causal``.
        generator: source of the initial values.

    Source: Radford et al., "Language models are unsupervised multitask learners", 2019, sec. 2.3;
    Xiong et al., "On layer normalization in the transformer architecture", 2020.

    Raises:
        ConfigError: as `MultiHeadAttention`. When called, ShapeError, DTypeError, ConfigError or
            CacheIgnoredError for a part of one's own that does not keep to the above.
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
        self.norm1 = LayerNorm(n_embd)
        self.attention = MultiHeadAttention(n_embd, n_head, dropout, qkv_bias, causal, generator)
        self.norm2 = LayerNorm(n_embd)
        self.feed_forward = FeedForward(n_embd, dropout, generator=generator)

    @attention_names
    def forward(
        self, x: TensorLike, mask: TensorLike | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        """x (B, T, C) -> (B, T, C); mask and cache as in `MultiHeadAttention`."""
        x = tensor_of(x)
        s = ResidualSum(x, call(self.attention, call(self.norm1, x), mask=mask, cache=cache))
        return ResidualSum(s, call(self.feed_forward, call(self.norm2, s)))
