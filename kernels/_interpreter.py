"""Runs a Triton kernel on NumPy arrays, program by program, in an ordinary process.

Triton ships an interpreter, but it wants ``TRITON_INTERPRET=1`` before its first import, and then
the process can compile nothing. Here the same interpreter is entered for the time of one launch
and left again, so that one process interprets, compiles and launches. On the way its NumPy bugs
of Triton 3.6 to 3.9 are repaired and every access to memory is checked:

* bfloat16 values are kept as bit patterns; ``tl.dot`` and arithmetic worked on the patterns, and
  rounding truncated. They go through float32 here and round to nearest even.
* a scalar mask combined with a block mask lost its type (3.9), and loop bounds known only at run
  time failed with NumPy 2.4 (3.6).
* an access outside every array of the launch was undefined; here it raises KernelError.
* additions through a tensor descriptor were missing.
* a float among the arguments kept its 64 bits, so that 1 - beta lost nothing, as it does on a GPU.
"""

from __future__ import annotations

import contextlib
import os
import threading
import types
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import triton.language as tl
from triton._C.libtriton import ir as _ir
from triton.runtime import interpreter as ti
from triton.runtime.interpreter import TensorDescHandle, TensorHandle
from triton.runtime.jit import JITFunction

from ._types import Grid
from .errors import KernelError

_lock = threading.RLock()
_rewritten: dict[Callable[..., object], Callable[..., object]] = {}


def _renew_lock() -> None:
    """After a fork: the thread that held the lock does not exist in the child."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def _to_float32(handle: TensorHandle) -> TensorHandle:
    bits = handle.data.astype(np.uint32) << 16
    return TensorHandle(bits.view(np.float32), tl.float32)


def _to_bfloat16(handle: TensorHandle) -> TensorHandle:
    bits = np.ascontiguousarray(handle.data, dtype=np.float32).view(np.uint32)
    half_up = 0x7FFF + ((bits >> 16) & 1)  # round to nearest, ties to even
    rounded = ((bits + half_up) >> 16).astype(np.uint16)
    rounded = np.where(np.isnan(handle.data), np.uint16(0x7FC0), rounded)
    return TensorHandle(rounded.reshape(handle.data.shape), tl.bfloat16)


def _is_bfloat16(handle: TensorHandle) -> bool:
    return handle.dtype.scalar == tl.bfloat16 and handle.data.dtype == np.uint16


class _Builder(ti.InterpreterBuilder):
    """Triton's builder with the repairs; ``spans`` are the bytes that this launch may touch."""

    kernel_name = ""
    span_starts = np.zeros(0, np.uint64)
    span_ends = np.zeros(0, np.uint64)

    def cast_impl(self, src: TensorHandle, dst_type: tl.dtype) -> TensorHandle:
        source, target = src.dtype.scalar, dst_type.scalar
        if source == tl.float32 and target == tl.bfloat16:
            return _to_bfloat16(src)
        if source == tl.bfloat16 and target == tl.float32:
            return _to_float32(src)
        return super().cast_impl(src, dst_type)

    def create_dot(self, a: TensorHandle, b: TensorHandle, d: TensorHandle,
                   *options: object) -> TensorHandle:
        a, b = (_to_float32(x) if _is_bfloat16(x) else x for x in (a, b))
        return super().create_dot(a, b, d, *options)

    def binary_op(self, lhs: TensorHandle, rhs: TensorHandle,
                  op: Callable[..., object]) -> TensorHandle:
        if not (_is_bfloat16(lhs) and _is_bfloat16(rhs)):
            return super().binary_op(lhs, rhs, op)
        out = super().binary_op(_to_float32(lhs), _to_float32(rhs), op)
        return out if out.data.dtype == np.bool_ else _to_bfloat16(out)

    def create_splat(self, ret_ty: tl.block_type, arg: TensorHandle) -> TensorHandle:
        if arg.data.dtype == np.bool_:
            return TensorHandle(np.full(ret_ty.shape, arg.data.item(), np.bool_), tl.int1)
        return super().create_splat(ret_ty, arg)

    def create_masked_load(self, ptrs: TensorHandle, mask: TensorHandle, *rest: object,
                           **options: object) -> TensorHandle:
        self._check("load", ptrs, mask)
        return super().create_masked_load(ptrs, mask, *rest, **options)

    def create_masked_store(self, ptrs: TensorHandle, value: TensorHandle, mask: TensorHandle,
                            *rest: object) -> TensorHandle:
        self._check("store", ptrs, mask)
        return super().create_masked_store(ptrs, value, mask, *rest)

    def create_atomic_rmw(self, op: _ir.ATOMIC_OP, ptr: TensorHandle, val: TensorHandle,
                          mask: TensorHandle, *rest: object) -> TensorHandle:
        self._check("atomic", ptr, mask)
        return super().create_atomic_rmw(op, ptr, val, mask, *rest)

    def create_descriptor_reduce(self, kind: _ir.DESCRIPTOR_REDUCE_KIND, desc: TensorDescHandle,
                                 value: TensorHandle, indices: list[TensorHandle]) -> TensorHandle:
        if kind != _ir.DESCRIPTOR_REDUCE_KIND.ADD or value.dtype.scalar != tl.float32:
            raise KernelError(f"kernel {self.kernel_name}: a descriptor adds float32 here, nothing "
                              f"else; got {kind} of {value.dtype.scalar}")
        ptrs, inside = desc.materialize_pointers(indices)
        return self.create_atomic_rmw(_ir.ATOMIC_OP.FADD, ptrs, value, inside,
                                      _ir.MEM_SEMANTIC.RELAXED, None)

    def _check(self, access: str, ptrs: TensorHandle, mask: TensorHandle) -> None:
        """Raise KernelError unless every unmasked element lies inside one array of the launch."""
        address = ptrs.data[np.broadcast_to(mask.data, ptrs.data.shape).astype(bool)]
        if address.size == 0:
            return
        bytes_each = max(1, ptrs.get_element_ty().primitive_bitwidth // 8)
        index = np.searchsorted(self.span_starts, address, side="right").astype(np.int64) - 1
        ends = self.span_ends[np.maximum(index, 0)]
        outside = (index < 0) | (address + np.uint64(bytes_each) > ends)
        if outside.any():
            raise KernelError(
                f"kernel {self.kernel_name}: {access} out of bounds in program {self.grid_idx}: "
                f"{int(outside.sum())} of {address.size} elements lie outside every array that was "
                "passed; check the mask and the strides")


ti.interpreter_builder.__class__ = _Builder  # the builder that Triton's semantic layer holds


def _interpreted(fn: Callable[..., object]) -> Callable[..., object]:
    """`fn` with its assignments and comparisons rewritten for the interpreter, once."""
    if fn not in _rewritten:
        _rewritten[fn] = ti.InterpretedFunction(fn).rewrite()
    return _rewritten[fn]


@contextlib.contextmanager
def _interpreter_entered() -> Iterator[None]:
    """triton.language works on NumPy data inside, and is as before afterwards."""
    sees_language = types.FunctionType((lambda: None).__code__, {"tl": tl, "core": tl.core})
    classes = (JITFunction, ti.InterpretedFunction)
    original_calls = [cls.__call__ for cls in classes]
    scope = ti._patch_lang(sees_language)
    scope.set_attr(tl.tensor, "__index__", lambda self: int(self.handle.data.item()))
    for cls in classes:  # a kernel that calls another jitted function, tl.sum for instance
        cls.__call__ = lambda self, *args, **kwargs: _interpreted(self.fn)(*args, **kwargs)
    try:
        yield
    finally:
        for cls, call in zip(classes, original_calls, strict=True):
            cls.__call__ = call
        scope.restore()


def _spans(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    bounds = sorted({np.lib.array_utils.byte_bounds(a) for a in arrays if a.size})
    return (np.array([low for low, _ in bounds], np.uint64),
            np.maximum.accumulate(np.array([high for _, high in bounds], np.uint64)))


def _argument(value: object) -> object:
    """A run-time argument as a kernel gets it: a float has the 32 bits that a launch gives it."""
    if isinstance(value, float):
        return tl.tensor(TensorHandle(np.array([value], np.float32), tl.float32), tl.float32)
    return ti._implicit_cvt(value)


def run(fn: Callable[..., object], grid: Grid, arguments: dict[str, object],
        constants: frozenset[str], arrays: Sequence[np.ndarray]) -> None:
    """Run the Python function `fn` of a kernel for every program of `grid`.

    arguments: by parameter name; arrays as objects with data_ptr() and dtype
    constants: names of the parameters that are tl.constexpr
    arrays: the NumPy arrays of the launch, whose memory the kernel may touch
    """
    builder = ti.interpreter_builder
    sizes = (*grid, 1, 1)[:3]
    with _lock, _interpreter_entered(), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # NaN and inf are legal inputs
        builder.kernel_name = fn.__name__
        builder.span_starts, builder.span_ends = _spans(arrays)
        values = {name: value if name in constants else _argument(value)
                  for name, value in arguments.items()}
        body = _interpreted(fn)
        builder.set_grid_dim(*sizes)
        for program in np.ndindex(*sizes):
            builder.set_grid_idx(*program)
            body(**values)
