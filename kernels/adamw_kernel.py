"""AdamW over all parameters of a model in one launch, laid out in one flat buffer.

    g = clip * grad
    m = beta1 m + (1 - beta1) g,        v = beta2 v + (1 - beta2) g^2
    mhat = m / (1 - beta1^t),           vhat = v / (1 - beta2^t)
    p = p - lr (mhat / (sqrt(vhat) + eps) + weight_decay p)

A gradient beyond 1.8e19 counts as 1.8e19, whose square float32 can hold.

A launch per parameter costs more time than the arithmetic; one flat buffer needs one. What changes
from step to step (learning rate, step, clip factor) may live in device memory, so that a CUDA
graph can replay the launch. With 16-bit weights the float32 master copy is updated and the weights
are rounded from it in the same pass.

Reference: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from ._checks import checked_by, require_float, require_same_device, require_shape
from ._common import split_scalar
from ._runtime import array_module, cdiv, launch
from ._types import Array, Scalar
from .errors import KernelError

BLOCK = 2048
LARGEST = tl.constexpr(0.999 * math.sqrt(3.4028234663852886e38))  # whose square is a float32


@triton.jit
def one_minus_power(log_beta, t):
    """1 - beta^t without the cancellation that 1 - exp(t log beta) has for small t."""
    y = t * log_beta
    series = -y * (1.0 + y * (0.5 + y * (1.0 / 6.0 + y * (1.0 / 24.0 + y * (1.0 / 120.0)))))
    return tl.where(y > -0.1, series, 1.0 - tl.exp(y))


@triton.jit(do_not_specialize=["decay_end"])
def adamw_kernel(
    P,  # (n,) float32 parameters, updated
    G,  # (n,) gradients of any float dtype
    M,  # (n,) float32 first moment, updated
    V,  # (n,) float32 second moment, updated
    Weights,  # (n,) 16-bit copy of P to write, or None
    DecayMask,  # (n,) one byte each, nonzero where weight decay applies; or None
    Lr,  # (1,) float32 in device memory, or None
    Step,  # (1,) in device memory, or None
    Clip,  # (1,) float32 factor for the gradients, or None; nothing changes unless it is > 0
    lr,
    step,
    beta1, beta2,
    rest1, rest2,  # 1 - beta: rounded to float32 here, 1 - 0.999 would be off by 1.3e-5
    log_beta1, log_beta2,
    eps,
    weight_decay,
    decay_end,  # elements before this one decay, where DecayMask is None
    n,
    BLOCK: tl.constexpr,
):
    if Lr is not None:
        lr = tl.load(Lr)
    if Step is not None:
        step = tl.load(Step).to(tl.float32)
    # Four neighbours to a thread, whatever the dtype: 16 bytes of float32, 8 of 16-bit numbers. As
    # a plain range, 16-bit accesses would get eight, and all values would change threads midway.
    index = tl.arange(0, BLOCK // 4)[:, None] * 4 + tl.arange(0, 4)[None, :]
    index += tl.program_id(0).to(tl.int64) * BLOCK
    mask = index < n
    if Clip is not None:
        factor = tl.load(Clip)
        mask = mask & (factor > 0.0)  # 0 or NaN: some gradient is not finite, so change nothing
    p = tl.load(P + index, mask=mask, other=0.0)
    g = tl.load(G + index, mask=mask, other=0.0).to(tl.float32)
    m = tl.load(M + index, mask=mask, other=0.0)
    v = tl.load(V + index, mask=mask, other=0.0)
    if Clip is not None:
        g *= factor
    if DecayMask is not None:
        decays = tl.load(DecayMask + index, mask=mask, other=0) != 0
    else:
        decays = index < decay_end
    # With an infinite v, this element would never move again; NaN and infinity stay what they are.
    size = tl.abs(g)
    g = tl.where((size > LARGEST) & (size < float("inf")), tl.where(g < 0, -LARGEST, LARGEST), g)
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * g * g
    mhat = m * (1.0 / one_minus_power(log_beta1, step))
    vhat = v * (1.0 / one_minus_power(log_beta2, step))
    p -= lr * (mhat / (tl.sqrt(vhat) + eps) + tl.where(decays, weight_decay, 0.0) * p)
    tl.store(P + index, p, mask=mask)
    tl.store(M + index, m, mask=mask)
    tl.store(V + index, v, mask=mask)
    if Weights is not None:
        tl.store(Weights + index, p.to(Weights.dtype.element_ty), mask=mask)


def _check(parameters: Array, gradients: Array, m: Array, v: Array, *, lr: Scalar, step: Scalar,
           betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01,
           decay_end: int | None = None, decay_mask: Array | None = None,
           clip: Scalar | None = None, weights: Array | None = None) -> None:
    require_float(gradients=gradients, weights=weights)
    on_device = {"lr": _array_or_none(lr), "step": _array_or_none(step),
                 "clip": _array_or_none(clip)}
    flat: dict[str, Array | None] = {"gradients": gradients, "m": m, "v": v,
                                     "decay_mask": decay_mask, "weights": weights}
    require_same_device(parameters, **flat, **on_device)
    if parameters.ndim != 1:
        raise KernelError(f"parameters must be a flat array (n,), got {parameters.shape}")
    require_shape(parameters.shape, **flat)
    for name, array in (("parameters", parameters), ("m", m), ("v", v)):
        if str(array.dtype) != "float32" or not array.flags.c_contiguous:
            raise KernelError(f"{name} must be contiguous float32, got {array.dtype}; keep "
                              "a float32 master copy and pass 16-bit weights as weights=")
    for name in ("gradients", "weights", "decay_mask"):
        given = flat[name]
        if given is not None and not given.flags.c_contiguous:
            raise KernelError(f"{name} must be contiguous; keep it in one flat buffer")
    _check_numbers(betas, step)


def _array_or_none(value: Scalar | None) -> Array | None:
    """The array of a scalar that lives on the device, else None."""
    return None if value is None else split_scalar(value)[0]


def _check_numbers(betas: tuple[float, float], step: Scalar) -> None:
    if not all(0.0 <= beta < 1.0 for beta in betas):
        raise KernelError(f"betas must be in [0, 1), got {betas}")
    if _array_or_none(step) is None and step < 1:
        raise KernelError(f"step counts from 1, got {step}")


@checked_by(_check)
def adamw(parameters: Array, gradients: Array, m: Array, v: Array, *, lr: Scalar, step: Scalar,
          betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
          weight_decay: float = 0.01, decay_end: int | None = None, decay_mask: Array | None = None,
          clip: Scalar | None = None, weights: Array | None = None) -> Array:
    """One step of AdamW on flat arrays, in place; returns `parameters`.

    parameters, m, v: (n,) float32; gradients: (n,) of any float dtype
    lr, step (from 1), clip (factor for the gradients): numbers, or arrays of one element on the
        device, float32 (step: any number dtype). With a clip factor of 0 or NaN, which clip_factor
        gives for an infinite or NaN norm, the step is left out: nothing changes.
    decay_end: the first decay_end elements decay, by default all; decay_mask: (n,) uint8 or bool
        instead, nonzero where an element decays
    weights: (n,) float16 or bfloat16 copy of parameters, written too
    """
    n = parameters.size
    lr_array, lr_number = split_scalar(lr)
    step_array, step_number = split_scalar(step)
    clip_array = _clip_array(clip, parameters)
    log_betas = [math.log(beta) if beta else -1e30 for beta in betas]
    launch(adamw_kernel, (cdiv(n, BLOCK),), parameters, gradients, m, v, weights, decay_mask,
           lr_array, step_array, clip_array, lr_number, step_number, *map(float, betas),
           *(1.0 - beta for beta in betas), *log_betas, float(eps), float(weight_decay),
           n if decay_end is None else decay_end, n, BLOCK=BLOCK)
    return parameters


def _clip_array(clip: Scalar | None, like: Array) -> Array | None:
    if clip is None:
        return None
    array, number = split_scalar(clip)
    return array_module(like).full(1, number, "float32") if array is None else array
