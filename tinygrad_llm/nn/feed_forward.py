"""The position-wise feed-forward network of a transformer block."""

from __future__ import annotations

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.modes import watched_as_written
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.checks import check_size
from tinygrad_llm.nn.dropout import Dropout
from tinygrad_llm.nn.linear import Linear, is_plain
from tinygrad_llm.nn.module import Module


class FeedForward(Module):
    """y = gelu(x W1^T + b1) W2^T + b2: each position alone goes through a wider layer and back.

    Parameters: ``expand`` (hidden, C), ``project`` (C, hidden).

    Args:
        n_embd: width C.
        dropout: applied to the result.
        hidden: width in between, by default 4 C.
        generator: source of the initial values.

    Raises:
        ConfigError: a size is not a positive integer, or dropout is not in [0, 1).
    """

    def __init__(
        self,
        n_embd: int,
        dropout: float = 0.0,
        hidden: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        n_embd = check_size("FeedForward", "n_embd", n_embd)
        hidden = check_size("FeedForward", "hidden", 4 * n_embd if hidden is None else hidden)
        self.expand = Linear(n_embd, hidden, generator=generator)
        self.project = Linear(hidden, n_embd, generator=generator)
        self.dropout = Dropout(dropout)

    def forward(self, x: TensorLike) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        if not self._is_one_op(x):
            return self.dropout(self.project(F.gelu(self.expand(x))))
        w1, b1, w2, b2 = (
            p for layer in (self.expand, self.project) for p in (layer.weight, layer.bias)
        )
        return self.dropout(F.feed_forward(x, w1, b1, w2, b2))  # type: ignore[arg-type]

    def _is_one_op(self, x: TensorLike) -> bool:
        """Whether to compute the same by one op, which spares a GPU passes over memory.

        Its products are those of tensor cores, on 16-bit numbers. The layers then are not called,
        so they must be plain ones without hooks, and no trace may ask for the single steps.
        """
        if watched_as_written():
            return False
        if not isinstance(x, Tensor) or x.device == "cpu" or x.dtype.itemsize != 2:
            return False
        return all(
            is_plain(layer) and layer.bias is not None for layer in (self.expand, self.project)
        )
