"""The transformer block."""

from __future__ import annotations

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.keywords import attention_names
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.nn.attention import MultiHeadAttention
from tinygrad_llm.nn.feed_forward import FeedForward
from tinygrad_llm.nn.kv_cache import LayerCache
from tinygrad_llm.nn.layer_norm import LayerNorm
from tinygrad_llm.nn.module import Module
from tinygrad_llm.nn.residual import ResidualSum


class TransformerBlock(Module):
    """Attention, then the feed-forward network, each added to the residual stream (pre-norm).

        s = x + attention(norm1(x))
        y = s + feed_forward(norm2(s))

    The two sums are added by the norm that comes next, y by that of the next block: see
    `ResidualSum`.

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
        ConfigError: as `MultiHeadAttention`.
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
        s = ResidualSum(x, self.attention(self.norm1(x), mask=mask, cache=cache))
        return ResidualSum(s, self.feed_forward(self.norm2(s)))
