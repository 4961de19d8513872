"""The affine layer."""

from __future__ import annotations

import math
from typing import TypeGuard

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.backend.dtypes import DTypeLike
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.checks import check_size
from tinygrad_llm.nn import init
from tinygrad_llm.nn.module import Module
from tinygrad_llm.nn.parameter import Parameter


class Linear(Module):
    """y = x W^T + b

    Parameters: ``weight`` (out, in) and ``bias`` (out,), both uniform in +-1/sqrt(in) at first,
    as in PyTorch.

    Args:
        in_features: length of the last axis of x.
        out_features: length of the last axis of y.
        bias: without it, y = x W^T and ``bias`` is None.
        generator: source of the initial values; by default the one of `tg.manual_seed`.
        device, dtype: where the parameters are made, and of which floating-point type.

    Raises:
        ConfigError: a size is not a positive integer, or the type not floating-point.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        generator: Generator | None = None,
        *,
        device: str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.in_features = check_size("Linear", "in_features", in_features)
        self.out_features = check_size("Linear", "out_features", out_features)
        bound = 1 / math.sqrt(in_features)
        self.weight = Parameter(init.uniform((out_features, in_features), bound, generator))
        self.bias = Parameter(init.uniform((out_features,), bound, generator)) if bias else None
        self._made_for(device, dtype)

    def forward(self, x: TensorLike) -> Tensor:
        """x (..., in) -> (..., out)."""
        return F.linear(x, self.weight, self.bias)


def is_plain(layer: Module) -> TypeGuard[Linear]:
    """Whether a call of the layer is y = x W^T + b and nothing else: no subclass, no hooks.

    An op that takes W and b may then stand in for the call.
    """
    return type(layer) is Linear and not layer.has_hooks
