"""Arrays that have shape, strides, dtype and address but no numbers; shape_cupy.py makes a CuPy.

A program that runs on them goes through the same calls with the same arguments as on a GPU, at any
size, in the time that Python takes. Views share addresses as they do on a GPU, and each new array
begins at a multiple of 512 bytes, as in CuPy's pool. What is read back to the host is all ones.

There is no memory at the addresses: whatever asks NumPy to compute with such an array ends the
process. So each function here either works out the shape and type of its result or is unknown.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

BLOCK = 512  # bytes: every allocation of CuPy's pool begins at a multiple of it
_next_block = 1 << 44  # where nothing is mapped


class _At:
    """Makes NumPy believe in an array at an address."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        kind = f"|V{dtype.itemsize}" if dtype.kind == "V" else dtype.str
        self.__array_interface__ = {
            "data": (address, False),
            "shape": shape,
            "typestr": kind,
            "version": 3,
        }


def _new(shape: int | Sequence[int], dtype: npt.DTypeLike = np.float64) -> ShapeArray:
    """An array at an address of its own."""
    global _next_block
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(int(n) for n in shape)
    dtype, address = np.dtype(dtype), _next_block
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    _next_block += -(-max(nbytes, 1) // BLOCK) * BLOCK
    return ShapeArray(np.asarray(_At(address, shape, dtype)).view(dtype))


def _sample(value: object) -> object:
    """One element of the same type and axes, from which NumPy finds the type of a result."""
    if isinstance(value, ShapeArray):
        return np.ones((1,) * value.ndim, value.dtype)
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("a NumPy array was mixed into the arithmetic of GPU arrays")
    return value


class ShapeArray:
    """What looks like an array in GPU memory."""

    __array_ufunc__ = None
    __hash__ = object.__hash__
    device = types.SimpleNamespace(id=0)

    def __init__(self, view: np.ndarray) -> None:
        self.view_of = view  # of memory that is not there: never read
        self.shape, self.strides, self.dtype = view.shape, view.strides, view.dtype
        self.ndim, self.size, self.itemsize = view.ndim, view.size, view.itemsize
        self.nbytes, self.flags = view.nbytes, view.flags
        self.data = types.SimpleNamespace(ptr=view.__array_interface__["data"][0], device_id=0)

    def __repr__(self) -> str:
        return f"ShapeArray({self.shape}, {self.dtype})"

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def T(self) -> ShapeArray:
        return ShapeArray(self.view_of.T)

    # ---- other shapes of the same memory
    def __getitem__(self, index: object) -> ShapeArray:
        if isinstance(index, ShapeArray) and index.dtype.kind in "iu":
            return _new(index.shape + self.shape[1:], self.dtype)
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, (ShapeArray, np.ndarray, list)) for part in parts):
            raise NotImplementedError("indexing by arrays, whose result depends on their numbers")
        parts = parts if Ellipsis in parts else (*parts, Ellipsis)  # a view even of one element
        return ShapeArray(self.view_of[parts])

    def __setitem__(self, index: object, value: object) -> None:
        if isinstance(index, ShapeArray):
            return
        target = self[index].shape
        if np.broadcast_shapes(getattr(value, "shape", ()), target) != target:
            raise ValueError(f"{value!r} does not fit into {target}")

    def reshape(self, *shape: int | Sequence[int], **_: object) -> ShapeArray:
        wanted = [n for part in shape for n in (part if isinstance(part, Sequence) else (part,))]
        try:
            return ShapeArray(self.view_of.reshape(wanted, copy=False))
        except ValueError:  # only a copy has this shape, and NumPy says which -1 stands for
            return _new(
                np.lib.stride_tricks.as_strided(np.empty(1), self.shape, (0,) * self.ndim)
                .reshape(wanted)
                .shape,
                self.dtype,
            )

    def ravel(self) -> ShapeArray:
        return self.reshape(-1)

    # ---- new arrays
    def astype(self, dtype: npt.DTypeLike, copy: bool = True, **_: object) -> ShapeArray:
        return _new(self.shape, dtype) if copy or self.dtype != dtype else self

    def copy(self) -> ShapeArray:
        return _new(self.shape, self.dtype)

    def argsort(self, *_: object, **__: object) -> ShapeArray:
        return _new(self.shape, np.int64)

    def _reduced(
        self,
        name: str,
        axis: int | tuple[int, ...] | None = None,
        keepdims: bool = False,
        out: ShapeArray | None = None,
        **options: object,
    ) -> ShapeArray:
        dtype = getattr(_sample(self), name)(axis=axis, **options).dtype
        axes = range(self.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        gone = {a % self.ndim for a in axes}
        kept = [(i, n) for i, n in enumerate(self.shape) if keepdims or i not in gone]
        return _new([1 if i in gone else n for i, n in kept], dtype) if out is None else out

    # ---- what the host writes and reads
    def _ignored(self, *_: object, **__: object) -> None:
        pass

    fill = set = _ignored

    def get(self, *_: object, **__: object) -> np.ndarray:
        return np.ones(self.shape, self.dtype)

    def item(self) -> object:
        return self.get().item()

    def tolist(self) -> object:
        return self.get().tolist()

    def __float__(self) -> float:
        return 1.0

    def __int__(self) -> int:
        return 1

    def __bool__(self) -> bool:
        return True


def _reduction(name: str) -> Callable[..., ShapeArray]:
    return lambda array, *args, **options: array._reduced(name, *args, **options)


_REDUCTIONS = ("sum", "mean", "max", "min", "any", "all", "prod", "argmax", "argmin", "var", "std")
for _name in _REDUCTIONS:
    setattr(ShapeArray, _name, _reduction(_name))


def _same_memory(name: str) -> Callable[..., ShapeArray]:
    return lambda array, *args: ShapeArray(getattr(array.view_of, name)(*args))


for _name in ("view", "transpose", "swapaxes", "squeeze"):
    setattr(ShapeArray, _name, _same_memory(_name))


def _elementwise(ufunc: Callable[..., object]) -> Callable[..., ShapeArray]:
    """The function that gives the shape and type that `ufunc` would give."""

    def call(*args: object, out: ShapeArray | None = None, **options: object) -> ShapeArray:
        n_in = getattr(ufunc, "nin", len(args))
        given = args[n_in] if out is None and len(args) > n_in else out
        if isinstance(given, ShapeArray):
            return given
        dtype = np.asarray(ufunc(*map(_sample, args), **options)).dtype
        return _new(np.broadcast_shapes(*(getattr(a, "shape", ()) for a in args)), dtype)

    return call


def _operators(name: str, ufunc: str) -> None:
    call = _elementwise(getattr(np, ufunc))
    setattr(ShapeArray, f"__{name}__", lambda *operands: call(*operands))
    setattr(ShapeArray, f"__r{name}__", lambda self, other: call(other, self))
    setattr(ShapeArray, f"__i{name}__", lambda self, other: self)


for _name, _ufunc in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "pow": "power",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "eq": "equal",
    "ne": "not_equal",
    "neg": "negative",
    "invert": "invert",
    "abs": "absolute",
}.items():
    _operators(_name, _ufunc)


def _as_array(x: object, dtype: npt.DTypeLike | None = None, **_: object) -> ShapeArray:
    if isinstance(x, ShapeArray):
        return x if dtype is None else x.astype(dtype, copy=False)
    host = x if isinstance(x, np.ndarray) else np.asarray(x)
    return _new(host.shape, host.dtype if dtype is None else dtype)


def _matmul(a: ShapeArray, b: ShapeArray, out: ShapeArray | None = None) -> ShapeArray:
    dtype = np.result_type(a.dtype, b.dtype)
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    return _new(shape, dtype) if out is None else out


def _concatenate(arrays: Sequence[ShapeArray], axis: int = 0) -> ShapeArray:
    shape = list(arrays[0].shape)
    shape[axis] = sum(a.shape[axis] for a in arrays)
    return _new(shape, np.result_type(*(a.dtype for a in arrays)))


def functions() -> dict[str, Callable[..., object]]:
    """Those of NumPy's names that are not elementwise."""
    return {
        **dict.fromkeys(("empty", "zeros", "ones"), _new),
        **dict.fromkeys(("empty_like", "zeros_like", "ones_like"), _like),
        **{name: _reduction(name) for name in _REDUCTIONS},
        "full": lambda shape, value, dtype=None: _new(shape, dtype or np.asarray(value).dtype),
        "array": lambda x, dtype=None: _as_array(x, dtype).copy(),
        "asarray": _as_array,
        "arange": lambda *args, dtype=None: _as_array(np.arange(*args, dtype=dtype)),
        "ascontiguousarray": lambda x: x if x.flags.c_contiguous else x.copy(),
        "where": _elementwise(np.where),
        "matmul": _matmul,
        "concatenate": _concatenate,
        "argsort": lambda x, **_: x.argsort(),
        "copyto": lambda target, source: None,
        "result_type": np.result_type,
    }


def _like(x: ShapeArray, dtype: npt.DTypeLike | None = None) -> ShapeArray:
    return _new(x.shape, dtype or x.dtype)


def by_name(name: str) -> object:
    """A type, constant or elementwise function of NumPy; nothing else is known by name alone."""
    value = getattr(np, name)
    if isinstance(value, np.ufunc):
        return _elementwise(value)
    if callable(value) and not isinstance(value, type):
        raise NotImplementedError(f"shape_arrays: what is the shape of cupy.{name}(...)?")
    return value
