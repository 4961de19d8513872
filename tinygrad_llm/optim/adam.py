"""Adam."""

from __future__ import annotations

from typing import Any

from tinygrad_llm.backend import Array, array_module, compute
from tinygrad_llm.optim.adamw import AdamW
from tinygrad_llm.optim.flat import FlatBuffer, Run
from tinygrad_llm.optim.groups import Parameters, Settings


class Adam(AdamW):
    """Adam, whose weight decay is a part of the gradient.

        d = g + wd p
        m = b1 m + (1 - b1) d
        v = b2 v + (1 - b2) d^2
        p = p - lr m^ / (sqrt(v^) + eps)        m^ = m / (1 - b1^t),  v^ = v / (1 - b2^t)

    The decay is divided by sqrt(v^) with the rest, so that weights with large gradients decay
    less; `AdamW` decays all alike. Without decay the two are the same.

    Args:
        parameters, lr, betas, eps, amsgrad, maximize, foreach, fused: as in `AdamW`.
        weight_decay: wd.

    Source: Kingma & Ba, "Adam: a method for stochastic optimization", 2015. The defaults are
    PyTorch's.

    Raises:
        ConfigError: a setting makes no sense, or there is nothing to optimize.
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay, **options)

    def update(self, buffer: FlatBuffer, run: Run, group: Settings) -> None:
        """Update one run of parameters."""
        decay = group["weight_decay"]
        if not decay:
            super().update(buffer, run, group)
            return
        p, xp = buffer.master, array_module(buffer.master)

        def decayed_gradient(i: int, j: int) -> Array:
            d = xp.multiply(p[i:j], decay, out=compute.empty(xp, (j - i,), p.dtype))
            d += buffer.wide_gradient(i, j)
            return d

        self.update_blocks(buffer, run, {**group, "weight_decay": 0.0}, decayed_gradient)
