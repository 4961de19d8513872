"""The two optimizer kernels in place of array code: when they can run, and how they are called."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

from tinygrad_llm.autograd.kernels import FLOAT64, decide, kernels
from tinygrad_llm.autograd.modes import current
from tinygrad_llm.backend import Array, array_module
from tinygrad_llm.optim.flat import FlatBuffer, Run
from tinygrad_llm.optim.groups import Settings


def adamw_by_kernel(buffer: FlatBuffer, run: Run, settings: Settings) -> bool:
    """Update a run of parameters by kernels/adamw_kernel.py; False where array code must do.

    Raises:
        KernelError: mode "force", and the kernel cannot run.
    """
    part = slice(run.start, run.stop)
    arrays = (
        buffer.master[part],
        buffer.grad[part],
        buffer.moments["first_moment"][part],
        buffer.moments["second_moment"][part],
    )
    options = {
        **{name: settings[name] for name in ("lr", "betas", "eps", "weight_decay")},
        # While a CUDA graph is recorded, what changes from step to step is read from the device.
        "step": settings.get("step_on_device", run.steps + 1),
        "clip": settings.get("clip_on_device"),
        "weights": buffer.data[part] if buffer.has_master else None,
    }
    if not _choose_kernel("adamw", arrays[0], lambda k: k.adamw.supports(*arrays, **options)):
        return False
    kernels().adamw.unchecked(*arrays, **options)
    return True


def clip_by_kernel(gradients: list[Array], max_norm: float) -> Array | None:
    """Clip by kernels/grad_norm_kernel.py without leaving the device; None for array code.

    Returns:
        the norm before clipping, an array () on the device.

    Raises:
        KernelError: mode "force", and the kernel cannot run.
    """
    limit = min(max_norm, float(np.finfo(np.float32).max))
    if not _choose_kernel(
        "clip_grad_norm", gradients[0], lambda k: k.clip_factor.supports(gradients, limit)
    ):
        return None
    norm_and_factor = kernels().clip_factor.unchecked(gradients, limit)  # (2,)
    factor = norm_and_factor[1:]
    factor = array_module(factor).where(factor > 0, factor, 1)  # 0 or NaN: norm not finite
    for gradient in gradients:
        kernels().scale_in_place(gradient, factor.astype(np.float32))
    return norm_and_factor[0]


def _choose_kernel(name: str, array: Array, refusal: Callable[[ModuleType], str | None]) -> bool:
    """Whether a kernel takes this call; on NumPy arrays only where it is forced."""
    if isinstance(array, np.ndarray) and current.kernels != "force":
        return False
    float64 = FLOAT64 if array.dtype == np.float64 else None
    return decide(name, array, lambda: refusal(kernels()) or float64)
