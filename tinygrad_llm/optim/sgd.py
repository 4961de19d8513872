"""Stochastic gradient descent."""

from __future__ import annotations

from tinygrad_llm.backend import Array, ArrayModule, array_module, compute
from tinygrad_llm.optim.blocks import for_blocks
from tinygrad_llm.optim.flat import FlatBuffer, Run
from tinygrad_llm.optim.groups import Parameters, Settings
from tinygrad_llm.optim.optimizer import Optimizer, is_number, require


def sgd_update(
    xp: ArrayModule, p: Array, g: Array, velocity: Array | None, scratch: Array, settings: Settings
) -> None:
    """One step for parameters p, gradients g and velocity (None without momentum), in place."""
    scratch[...] = g
    if settings["weight_decay"]:  # 0 times an infinite parameter is NaN
        scratch += settings["weight_decay"] * p
    if velocity is not None:
        velocity *= settings["momentum"]
        velocity += scratch
        if settings["nesterov"]:
            scratch += velocity * settings["momentum"]
        else:
            scratch[...] = velocity
    scratch *= settings["lr"]
    p -= scratch


class SGD(Optimizer):
    """Steps against the gradient, with momentum if wanted.

        d = g + wd p
        u = momentum u + d
        p = p - lr u                       plain
        p = p - lr (d + momentum u)        Nesterov

    Args:
        parameters: as in `AdamW`.
        lr: learning rate.
        momentum: 0 for none.
        weight_decay: wd, here added to the gradient (not decoupled).
        nesterov: look ahead along the velocity; needs momentum.
        dampening, maximize: left out; only 0 and False, as PyTorch code often says.
        foreach, fused: without effect: each update is one pass over flat arrays in any case.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep
    learning", 2013, in PyTorch's form.

    Raises:
        ConfigError: a setting makes no sense, or there is nothing to optimize.
    """

    moment_names: tuple[str, ...] = ("velocity",)

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        dampening: float = 0.0,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        require(self, "dampening", dampening, not dampening, "0: it is left out")
        require(self, "maximize", maximize, not maximize, "False: minimize the negative loss")
        if not momentum:
            self.moment_names = ()
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(parameters, defaults)

    def check_settings(self, group: Settings) -> None:
        """Raise a ConfigError unless the group's settings make sense."""
        super().check_settings(group)
        momentum = group["momentum"]
        fits = is_number(momentum) and 0 <= momentum < 1
        require(self, "momentum", momentum, fits, "a number of at least 0 and less than 1")
        usable = bool(self.moment_names) or not momentum
        require(self, "momentum", momentum, usable, "0 in all groups when the optimizer has none")
        require(
            self,
            "nesterov",
            group["nesterov"],
            momentum > 0 or not group["nesterov"],
            "False without momentum",
        )

    def update(self, buffer: FlatBuffer, run: Run, group: Settings) -> None:
        """Update one run of parameters, block by block."""
        p, velocity = buffer.master, buffer.moments.get("velocity")
        xp = array_module(p)

        def update_block(i: int, j: int) -> None:
            scratch = compute.empty(xp, (j - i,), p.dtype)
            u = None if velocity is None else velocity[i:j]
            sgd_update(xp, p[i:j], buffer.wide_gradient(i, j), u, scratch, group)
            buffer.round_master(i, j)

        for_blocks(xp, run.start, run.stop, update_block)
