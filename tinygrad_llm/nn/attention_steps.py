"""Self-attention in four steps, each adding one idea, on the way to `MultiHeadAttention`.

    SelfAttentionV1            queries, keys, values from three plain matrices
    SelfAttentionV2            the matrices become Linear layers
    CausalAttention            a position sees only itself and those before it; dropout
    MultiHeadAttentionWrapper  several such attentions side by side, results joined
    MultiHeadAttention         all heads from one projection at once (attention.py); used by GPT

Everything here is written with basic ops, to be read; each step is tested to equal the next where
they overlap. The order follows Raschka, "Build a Large Language Model (From Scratch)", 2024,
chapter 3; the mathematics is Vaswani et al., "Attention is all you need", 2017, section 3.2.
"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.backend import array_module
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.checks import check_size
from tinygrad_llm.errors import ShapeError
from tinygrad_llm.nn import init
from tinygrad_llm.nn.containers import ModuleList
from tinygrad_llm.nn.dropout import Dropout
from tinygrad_llm.nn.linear import Linear
from tinygrad_llm.nn.module import Module
from tinygrad_llm.nn.parameter import Parameter


class SelfAttentionV1(Module):
    """z_i = sum over j of softmax_j(q_i . k_j / sqrt(d)) v_j

    with q = x Wq, k = x Wk, v = x Wv.

    Parameters: ``w_query``, ``w_key``, ``w_value`` (d_in, d_out), uniform in +-1/sqrt(d_in).

    Args:
        d_in: width of the inputs.
        d_out: width d of queries, keys, values and results.
        generator: source of the initial values.
    """

    def __init__(self, d_in: int, d_out: int, generator: Generator | None = None) -> None:
        shape = (check_size("SelfAttentionV1", "d_in", d_in), d_out)
        bound = 1 / math.sqrt(d_in)
        self.w_query = Parameter(init.uniform(shape, bound, generator))
        self.w_key = Parameter(init.uniform(shape, bound, generator))
        self.w_value = Parameter(init.uniform(shape, bound, generator))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., T, d_in) -> (..., T, d_out)."""
        queries = x @ self.w_query  # (..., T, D)
        keys = x @ self.w_key  # (..., T, D)
        values = x @ self.w_value  # (..., T, D)
        scores = queries @ keys.swapaxes(-1, -2)  # (..., T, T)
        weights = F.softmax(scores * (1 / math.sqrt(keys.shape[-1])))  # (..., T, T)
        return weights @ values  # (..., T, D)


class SelfAttentionV2(Module):
    """The same with Linear layers, whose initial values and optional bias come with them.

    Args:
        d_in, d_out, generator: as in `SelfAttentionV1`.
        qkv_bias: give the three projections a bias.
    """

    def __init__(
        self, d_in: int, d_out: int, qkv_bias: bool = False, generator: Generator | None = None
    ) -> None:
        self.query = Linear(d_in, d_out, qkv_bias, generator)
        self.key = Linear(d_in, d_out, qkv_bias, generator)
        self.value = Linear(d_in, d_out, qkv_bias, generator)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., T, d_in) -> (..., T, d_out)."""
        return self.attention_weights(x) @ self.value(x)  # (..., T, D)

    def attention_weights(self, x: Tensor) -> Tensor:
        """Row i says how much position i takes from each position: (..., T, T), rows sum to 1."""
        queries, keys = self.query(x), self.key(x)  # (..., T, D)
        scores = queries @ keys.swapaxes(-1, -2)  # (..., T, T)
        return F.softmax(scores * (1 / math.sqrt(keys.shape[-1])))


class CausalAttention(SelfAttentionV2):
    """Self-attention in which position i sees only positions j <= i, with dropout on the weights.

    The scores of later positions become minus infinity before the softmax, so their weights are
    exactly 0 and the rows still sum to 1.

    Args:
        d_in, d_out, qkv_bias, generator: as in `SelfAttentionV2`.
        context_length: the largest T.
        dropout: probability of dropping an attention weight in training.

    Raises:
        ShapeError: an input is longer than ``context_length``.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float = 0.0,
        qkv_bias: bool = False,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(d_in, d_out, qkv_bias, generator)
        self.context_length = check_size("CausalAttention", "context_length", context_length)
        self.dropout = Dropout(dropout)

    def attention_weights(self, x: Tensor) -> Tensor:
        """As in `SelfAttentionV2`; zero above the diagonal."""
        queries, keys = self.query(x), self.key(x)  # (..., T, D)
        n_positions = keys.shape[-2]
        if n_positions > self.context_length:
            raise ShapeError(
                f"CausalAttention: the input has {n_positions} positions, more than "
                f"context_length={self.context_length}. Shorten it, or build with a larger one."
            )
        xp = array_module(keys.data)
        later = xp.triu(xp.ones((n_positions, n_positions), dtype=bool), k=1)  # (T, T)
        scores = (queries @ keys.swapaxes(-1, -2)).masked_fill(later, -np.inf)  # (..., T, T)
        return self.dropout(F.softmax(scores * (1 / math.sqrt(keys.shape[-1]))))


class MultiHeadAttentionWrapper(Module):
    """Several causal attentions on the same input; their results stand side by side.

    Args:
        d_in, d_out, context_length, dropout, qkv_bias, generator: of each head, as in
            `CausalAttention`; the result is ``num_heads * d_out`` wide.
        num_heads: how many.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float = 0.0,
        num_heads: int = 2,
        qkv_bias: bool = False,
        generator: Generator | None = None,
    ) -> None:
        check_size("MultiHeadAttentionWrapper", "num_heads", num_heads)
        self.heads = ModuleList(
            CausalAttention(d_in, d_out, context_length, dropout, qkv_bias, generator)
            for _ in range(num_heads)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (..., T, d_in) -> (..., T, num_heads * d_out)."""
        return F.concatenate([head(x) for head in self.heads], axis=-1)
