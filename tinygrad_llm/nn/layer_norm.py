"""Layer normalization."""

from __future__ import annotations

from collections.abc import Sequence

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.tensor import tensor_of
from tinygrad_llm.backend.dtypes import DTypeLike
from tinygrad_llm.checks import check_size
from tinygrad_llm.nn import init
from tinygrad_llm.nn.module import Module
from tinygrad_llm.nn.parameter import Parameter
from tinygrad_llm.nn.residual import ResidualSum
from tinygrad_llm.ops import layer_norm as ops
from tinygrad_llm.ops.add_layer_norm import AddLayerNorm


class LayerNorm(Module):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias, for each row of the last axis.

    Parameters: ``weight`` (C,), ones at first, and ``bias`` (C,), zeros.

    Args:
        normalized_shape: the length C of the last axis, or (C,).
        eps: keeps the root away from zero.
        bias: without it, ``bias`` is None.
        elementwise_affine: without it, ``weight`` and ``bias`` are None.
        device, dtype: where the parameters are made, and of which floating-point type.

    Source: Ba, Kiros & Hinton, "Layer normalization", 2016.

    Raises:
        ConfigError: the size is not a positive integer, there are several, or the type is not
            floating-point.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        bias: bool = True,
        *,
        elementwise_affine: bool = True,
        device: str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        if isinstance(normalized_shape, Sequence) and len(normalized_shape) == 1:
            normalized_shape = normalized_shape[0]
        self.size = check_size("LayerNorm", "normalized_shape", normalized_shape)
        self.eps = eps
        self.weight = Parameter(init.full((self.size,), 1.0)) if elementwise_affine else None
        with_bias = bias and elementwise_affine
        self.bias = Parameter(init.full((self.size,), 0.0)) if with_bias else None
        self._made_for(device, dtype)

    def forward(self, x: TensorLike) -> Tensor:
        """x (..., C) -> (..., C). A `ResidualSum` that nobody has read yet is added up here."""
        if isinstance(x, ResidualSum) and (summands := x.summands) is not None:
            s, y = AddLayerNorm.apply(*summands, self.weight, self.bias, eps=self.eps)
            x.become(s)
            return y
        return ops.LayerNorm.apply(tensor_of(x), self.weight, self.bias, eps=self.eps)

    def add(self, x: TensorLike, residual: TensorLike) -> tuple[Tensor, Tensor]:
        """s = x + residual and y = self(s) in one pass over memory; returns (s, y)."""
        return F.add_layer_norm(x, residual, self.weight, self.bias, self.eps)
