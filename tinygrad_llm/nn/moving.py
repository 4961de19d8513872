"""Moving a module to another device, or to another floating-point type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.backend import Array, names_device, to_device
from tinygrad_llm.backend.dtypes import DTypeLike, as_dtype, is_float
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.nn.parameter import Parameter

if TYPE_CHECKING:
    from tinygrad_llm.nn.module import Module

M = TypeVar("M", bound="Moving")


class Moving:
    """Base of Module: where its numbers are, and of which type."""

    modules: Callable[[], Iterator[Module]]
    parameters: Callable[[], Iterator[Parameter]]

    def to(self: M, *where: DTypeLike, device: str | None = None, dtype: DTypeLike = None) -> M:
        """Move all parameters, buffers and constant tensors to a device, to a type, or to both.

        The module itself is changed and returned. Make optimizers after the move. Integers and
        booleans keep their type.

        Args:
            where: a device such as ``"cuda"``, a floating-point type, or the two.
            device, dtype: the same by name.

        Raises:
            DeviceError: the device is unknown or absent.
            DTypeError: neither a device nor a type.
            ConfigError: a type that is not floating-point.
        """
        targets = (*where, *(x for x in (device, dtype) if x is not None))
        if not targets:
            raise ConfigError("to: give a device, a floating-point type, or both.")
        for target in targets:
            self._convert(_converter(target))
        return self

    def _made_for(self, device: str | None, dtype: DTypeLike) -> None:
        """Move a new layer to what its constructor was told."""
        if device is not None or dtype is not None:
            self.to(device=device, dtype=dtype)

    def float(self: M) -> M:
        """All floating-point numbers as float32; returns the module."""
        return self.to("float32")

    def double(self: M) -> M:
        """All floating-point numbers as float64; returns the module."""
        return self.to("float64")

    def half(self: M) -> M:
        """All floating-point numbers as float16; returns the module."""
        return self.to("float16")

    def bfloat16(self: M) -> M:
        """All floating-point numbers as bfloat16; returns the module."""
        return self.to("bfloat16")

    def cpu(self: M) -> M:
        """Move everything to the CPU; returns the module."""
        return self.to("cpu")

    def cuda(self: M, device: int = 0) -> M:
        """Move everything to a GPU, by its number; returns the module."""
        return self.to(f"cuda:{device}")

    @property
    def device(self) -> str:
        """Where the first parameter lives; ``"cpu"`` for a module without any."""
        first = next(self.parameters(), None)
        return "cpu" if first is None else first.device

    def _convert(self, convert: Callable[[Array], Array]) -> None:
        moved: set[int] = set()
        for module in self.modules():
            for value in list(vars(module).values()):
                if not isinstance(value, Tensor) or id(value) in moved:
                    continue
                moved.add(id(value))
                data = convert(value.data)
                if data is not value.data:
                    value.data = data
                    value.grad = value.gradient_sink = None


def _converter(device_or_dtype: DTypeLike) -> Callable[[Array], Array]:
    """A function that moves an array to the device, or a floating-point array to the type."""
    if names_device(device_or_dtype):
        return lambda data: to_device(data, device_or_dtype)
    dtype: np.dtype = as_dtype(device_or_dtype)
    if not is_float(dtype):
        raise ConfigError(f"to: modules need a floating-point type, got {dtype}.")
    return lambda data: data.astype(dtype, copy=False) if is_float(data.dtype) else data
