"""AdamW."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tinygrad_llm.backend import Array, ArrayModule, array_module, compute
from tinygrad_llm.optim.blocks import for_blocks
from tinygrad_llm.optim.by_kernel import adamw_by_kernel
from tinygrad_llm.optim.flat import FlatBuffer, Run
from tinygrad_llm.optim.groups import Parameters, Settings
from tinygrad_llm.optim.optimizer import Optimizer, is_number, require


def adamw_update(
    xp: ArrayModule,
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    scratch: Array,
    settings: Settings,
    step: int,
) -> None:
    """One step for parameters p, gradients g, moments m and v, all (N,), in place.

    Args:
        scratch: (N,), overwritten.
        settings: lr, betas, eps, weight_decay.
        step: the number t of this step, from 1.
    """
    lr, (beta1, beta2) = settings["lr"], settings["betas"]
    correction1, correction2 = 1 - beta1**step, 1 - beta2**step
    p *= 1 - lr * settings["weight_decay"]
    g = write_squares(xp, g, scratch)
    scratch *= 1 - beta2
    v *= beta2
    v += scratch  # v = beta2 v + (1 - beta2) g^2
    xp.subtract(g, m, out=scratch)
    scratch *= 1 - beta1
    m += scratch  # m = beta1 m + (1 - beta1) g
    xp.sqrt(v, out=scratch)
    root = math.sqrt(correction2)  # taken out of the arrays: one pass less
    scratch += settings["eps"] * root
    xp.divide(m, scratch, out=scratch)
    scratch *= lr * root / correction1
    p -= scratch


def write_squares(xp: ArrayModule, g: Array, out: Array) -> Array:
    """Write g^2 to ``out``; returns g, limited to what its type can square (1.8e19 in float32).

    One larger gradient would make v infinite, and its parameter would never move again. Infinite
    and NaN elements stay what they are: they say that something went wrong before.
    """
    if xp is np:
        try:
            with np.errstate(over="raise"):  # the processor notes an overflow: no pass to look
                np.multiply(g, g, out=out)
            return g
        except FloatingPointError:
            pass
    limit = 0.999 * math.sqrt(np.finfo(g.dtype).max)
    g = xp.where(xp.isfinite(g), xp.clip(g, -limit, limit), g)
    xp.multiply(g, g, out=out)
    return g


class AdamW(Optimizer):
    """Adam with decoupled weight decay, over one flat array of all parameters.

        p = p - lr wd p
        m = b1 m + (1 - b1) g                   mean of the gradients
        v = b2 v + (1 - b2) g^2                 mean of their squares
        p = p - lr m^ / (sqrt(v^) + eps)        m^ = m / (1 - b1^t),  v^ = v / (1 - b2^t)

    Gradients beyond 1.8e19 in float32 count as 1.8e19, so that their squares stay finite.

    Args:
        parameters: a model, its (named) parameters, or groups: dicts with "params" and any of
            the settings below. With names (a model, named_parameters()) a saved state fits
            whatever the order; without, parameters go by their number. Each group decays all of
            its parameters, as in PyTorch; `decay_groups` makes the usual two groups.
        lr: learning rate.
        betas: b1 and b2.
        eps: keeps the division away from zero.
        weight_decay: wd.
        amsgrad, maximize: left out; only False, as PyTorch code often says.
        foreach, fused: without effect: each update is one pass over flat arrays in any case.

    Source: Loshchilov & Hutter, "Decoupled weight decay regularization", 2019, algorithm 2;
    Kingma & Ba, "Adam", 2015. The defaults are PyTorch's.

    Raises:
        ConfigError: a setting makes no sense, or there is nothing to optimize.
    """

    moment_names = ("first_moment", "second_moment")

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        amsgrad: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        require(self, "amsgrad", amsgrad, not amsgrad, "False: it is left out")
        require(self, "maximize", maximize, not maximize, "False: minimize the negative loss")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)

    def check_settings(self, group: Settings) -> None:
        """Raise a ConfigError unless the group's settings make sense."""
        super().check_settings(group)
        betas = group["betas"]
        fit = isinstance(betas, (tuple, list)) and len(betas) == 2
        fit = fit and all(is_number(b) and 0 <= b < 1 for b in betas)
        require(self, "betas", betas, fit, "two numbers of [0, 1)")
        fit = is_number(group["eps"]) and group["eps"] > 0
        require(self, "eps", group["eps"], fit, "a number greater than 0")

    def update(self, buffer: FlatBuffer, run: Run, group: Settings) -> None:
        """Update one run of parameters, by a kernel or block by block."""
        if not adamw_by_kernel(buffer, run, group):
            self.update_blocks(buffer, run, group, buffer.wide_gradient)

    def update_blocks(
        self,
        buffer: FlatBuffer,
        run: Run,
        settings: Settings,
        gradient: Callable[[int, int], Array],
    ) -> None:
        """Update one run of parameters; ``gradient(i, j)`` is that of elements i .. j - 1."""
        p, m, v = buffer.master, buffer.moments["first_moment"], buffer.moments["second_moment"]
        xp = array_module(p)

        def update_block(i: int, j: int) -> None:
            scratch = compute.empty(xp, (j - i,), p.dtype)
            g = gradient(i, j)
            adamw_update(xp, p[i:j], g, m[i:j], v[i:j], scratch, settings, run.steps + 1)
            buffer.round_master(i, j)

        for_blocks(xp, run.start, run.stop, update_block)
