"""Tensors made from nothing: filled, counted, drawn.

Shapes are given as ``zeros(2, 3)`` or ``zeros((2, 3))``. Random numbers come from the generator
that `tg.manual_seed` seeds, or from the one given, and are drawn on the CPU: one seed gives the
same numbers on every device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.axes import Lengths, flat, lengths
from tinygrad_llm.autograd.tensor import Tensor, tensor
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.dtypes import DTypeLike, as_dtype, default_float
from tinygrad_llm.backend.random import Generator, default_generator
from tinygrad_llm.errors import ConfigError


def zeros(
    *shape: Lengths, dtype: DTypeLike = None, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """Zeros, float32 by default."""
    values = np.zeros(_shape("zeros", shape), _float(dtype))
    return Tensor(values, device=device, requires_grad=requires_grad)


def ones(
    *shape: Lengths, dtype: DTypeLike = None, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """Ones, float32 by default."""
    values = np.ones(_shape("ones", shape), _float(dtype))
    return Tensor(values, device=device, requires_grad=requires_grad)


def empty(
    *shape: Lengths, dtype: DTypeLike = None, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """Whatever stands in the memory, float32 by default: to be written into."""
    values = np.empty(_shape("empty", shape), _float(dtype))
    return Tensor(values, device=device, requires_grad=requires_grad)


def full(
    shape: Lengths,
    fill_value: float,
    dtype: DTypeLike = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """One number everywhere: float32 for a float, int64 for an integer, bool for a bool."""
    value = tensor(fill_value, dtype).numpy()
    values = np.full(_shape("full", (shape,)), value, value.dtype)
    return Tensor(values, device=device, requires_grad=requires_grad)


def eye(n: int, m: int | None = None, dtype: DTypeLike = None, device: str = "cpu") -> Tensor:
    """(n, m), or (n, n): ones on the diagonal, zeros elsewhere."""
    rows, columns = lengths("eye", (n, n if m is None else m))
    return Tensor(np.eye(rows, columns, dtype=_float(dtype)), device=device)


def zeros_like(x: TensorLike, dtype: DTypeLike = None, requires_grad: bool = False) -> Tensor:
    """Zeros of the shape, type and device of ``x``."""
    return full_like(x, 0, dtype, requires_grad)


def ones_like(x: TensorLike, dtype: DTypeLike = None, requires_grad: bool = False) -> Tensor:
    """Ones of the shape, type and device of ``x``."""
    return full_like(x, 1, dtype, requires_grad)


def empty_like(x: TensorLike, dtype: DTypeLike = None, requires_grad: bool = False) -> Tensor:
    """Memory of the shape, type and device of ``x``, whatever stands in it."""
    x = as_tensor(x)
    return empty(x.shape, dtype=_of(x, dtype), device=x.device, requires_grad=requires_grad)


def full_like(
    x: TensorLike, fill_value: float, dtype: DTypeLike = None, requires_grad: bool = False
) -> Tensor:
    """One number everywhere, of the shape, type and device of ``x``."""
    x = as_tensor(x)
    return full(x.shape, fill_value, _of(x, dtype), x.device, requires_grad)


def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    dtype: DTypeLike = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """The numbers start, start + step, ... below ``end``; ``arange(n)`` counts from 0.

    Integers give int64, numbers with a point float32.

    Raises:
        ConfigError: not numbers, or the step is 0.
    """
    start, end = (0, start) if end is None else (start, end)
    numbers = [x.item() if hasattr(x, "item") else x for x in (start, end, step)]
    if not all(isinstance(x, (int, float)) for x in numbers) or not numbers[2]:
        raise ConfigError(f"arange: expected numbers and a step other than 0, got {numbers}.")
    return Tensor(_default_type(np.arange(*numbers), dtype), None, device, requires_grad)


def linspace(
    start: float,
    end: float,
    steps: int,
    dtype: DTypeLike = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """``steps`` numbers at equal distances from ``start`` to ``end``, both included; float32."""
    (steps,) = lengths("linspace", (steps,))
    values = np.linspace(start, end, steps).astype(_float(dtype))
    return Tensor(values, device=device, requires_grad=requires_grad)


def randn(
    *shape: Lengths,
    dtype: DTypeLike = None,
    device: str = "cpu",
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Gaussian numbers of mean 0 and variance 1."""
    values = _drawing(generator).normal(_shape("randn", shape), dtype=_float(dtype))
    return Tensor(values, device=device, requires_grad=requires_grad)


def rand(
    *shape: Lengths,
    dtype: DTypeLike = None,
    device: str = "cpu",
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Uniform numbers of [0, 1)."""
    kind = _float(dtype)
    drawn = _drawing(generator).uniform(_shape("rand", shape)).astype(kind)
    below_one = np.nextafter(kind.type(1), kind.type(0))  # rounding may have reached 1
    return Tensor(np.minimum(drawn, below_one), None, device, requires_grad)


def randint(
    low: int,
    high: Any = None,
    size: Lengths | None = None,
    dtype: DTypeLike = "int64",
    device: str = "cpu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform integers low .. high - 1: ``randint(0, 10, (2, 3))``; without low, from 0.

    Raises:
        ConfigError: there is no such integer, or no shape.
    """
    if size is None and isinstance(high, (tuple, list)):  # randint(10, (2, 3))
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    whole = hasattr(low, "__index__") and hasattr(high, "__index__")
    if size is None or not whole or low >= high:
        raise ConfigError(
            f"randint: expected low < high and a shape, as in randint(0, 10, (2, 3)); got "
            f"low={low}, high={high}, size={size}."
        )
    drawn = _drawing(generator).integers(low, high, _shape("randint", (size,)))
    return Tensor(drawn, as_dtype(dtype), device)


def randperm(n: int, device: str = "cpu", generator: Generator | None = None) -> Tensor:
    """The numbers 0 .. n - 1 in random order, int64."""
    return Tensor(_drawing(generator).permutation(*lengths("randperm", (n,))), device=device)


def rand_like(x: TensorLike, generator: Generator | None = None) -> Tensor:
    """Uniform numbers of [0, 1), of the shape, type and device of ``x``."""
    x = as_tensor(x)
    return rand(x.shape, dtype=x.dtype, device=x.device, generator=generator)


def randn_like(x: TensorLike, generator: Generator | None = None) -> Tensor:
    """Gaussian numbers, of the shape, type and device of ``x``."""
    x = as_tensor(x)
    return randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)


def from_numpy(array: Array) -> Tensor:
    """A tensor in the memory of the array: what is written into one is seen in the other."""
    return Tensor(array)


def as_tensor(data: TensorLike, dtype: DTypeLike = None, device: str | None = None) -> Tensor:
    """``data`` as a tensor: itself if it is one of this type and device; an array is shared."""
    if not isinstance(data, Tensor):
        return Tensor(data, dtype, device)
    data = data if dtype is None else data.astype(dtype)
    return data if device is None else data.to(device)


def _shape(op: str, given: tuple[Lengths, ...]) -> tuple[int, ...]:
    """``f(2, 3)``, ``f((2, 3))`` and ``f(size=...)`` as a tuple of integers."""
    return lengths(op, flat(given))


def _float(dtype: DTypeLike) -> np.dtype:
    return default_float() if dtype is None else as_dtype(dtype)


def _default_type(values: Array, dtype: DTypeLike) -> Array:
    if dtype is not None:
        return values.astype(as_dtype(dtype))
    return values.astype(default_float()) if values.dtype.kind == "f" else values


def _of(x: Tensor, dtype: DTypeLike) -> np.dtype:
    return x.dtype if dtype is None else as_dtype(dtype)


def _drawing(generator: Generator | None) -> Generator:
    return generator or default_generator()
