"""A stand-in for CuPy on machines without a GPU.

`DeviceArray` holds a NumPy array, behaves like a CuPy array, and refuses what CuPy refuses: NumPy
functions on it, NumPy arrays mixed into its arithmetic, and names that CuPy 14 lacks. So code that
forgets which module its arrays belong to fails here as it would on a GPU. Every step that would
make the host wait for the GPU, or copies from the host (``item``, ``float``, ``bool``, ``get``,
``asarray``), is counted.

What runs can be recorded, as a CUDA graph records launches: see `CALLS` and replayed_gpu.py.
"""

import contextlib
import ctypes
import operator

import numpy as np

from tests.stand_in_cuda import Cuda
from tinygrad_llm import backend

# What NumPy has and CuPy 14.2 has not (dir(numpy) against dir(cupy), and of the array types).
NOT_IN_CUPY = frozenset(
    "asmatrix block emath einsum_path errstate frompyfunc geomspace insert ma matvec memmap "
    "nanpercentile nanquantile ndenumerate nditer seterr spacing unstack vecdot vecmat".split()
)
NOT_IN_CUPY_ARRAYS = frozenset(
    "__array_interface__ __array_struct__ ctypes getfield resize setfield setflags".split()
)
# The shape of what these return depends on values, which CuPy waits for.
SIZED_BY_VALUES = frozenset("argpartition bincount compress flatnonzero nonzero unique".split())

SYNCHRONIZATIONS = []
CALLS = None  # while something is recorded: a list of (function, arguments, keywords, result)


def _waits(what):
    if CALLS is not None:
        raise RuntimeError(f"operation not permitted while a stream is capturing: {what}")
    SYNCHRONIZATIONS.append(what)


def done(function, args, kwargs, result):
    """Note a call on host arrays, where calls are recorded; returns the result for the device."""
    result = _wrap(result)
    if CALLS is not None:
        CALLS.append((function, args, kwargs, _unwrap(result)))
    return result


def run(function, *args, **kwargs):
    """The function on the host arrays behind the arguments."""
    args, kwargs = _unwrap(args), _unwrap(kwargs)
    return done(function, args, kwargs, function(*args, **kwargs))


class _Device:
    id = 0


class _Pointer:
    device_id = 0

    def __init__(self, ptr):
        self.ptr = ptr

    def copy_from_device_async(self, source, size):
        run(ctypes.memmove, self.ptr, source.ptr, size)


class _Flags:
    """CuPy's flags: those of the layout, and no ``writeable``."""

    def __init__(self, flags):
        self.c_contiguous, self.f_contiguous = flags.c_contiguous, flags.f_contiguous
        self.fnc, self.forc, self.owndata = flags.fnc, flags.forc, flags.owndata


class DeviceArray:
    """What looks like an array in GPU memory."""

    __array_priority__ = 100
    device = _Device()

    def __init__(self, host):
        self.host = host

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion to a NumPy array is not allowed; use .get()")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        raise TypeError(f"numpy.{ufunc.__name__} was called on an array of the GPU")

    def __array_function__(self, func, types, args, kwargs):
        raise TypeError(f"numpy.{func.__name__} was called on an array of the GPU")

    @property
    def data(self):
        return _Pointer(self.host.__array_interface__["data"][0])

    @property
    def T(self):
        return DeviceArray(self.host.T)  # a view: nothing runs

    @property
    def flags(self):
        return _Flags(self.host.flags)

    def __getattr__(self, name):
        if name in NOT_IN_CUPY_ARRAYS:
            raise AttributeError(f"CuPy's arrays have no {name}")
        value = getattr(self.host, name)
        if callable(value):
            return lambda *args, **kwargs: run(value, *args, **kwargs)
        return value  # shape, dtype, strides ...

    def set(self, array, stream=None):
        self.host[...] = array

    def __len__(self):
        return len(self.host)

    def __getitem__(self, index):
        index = _unwrap_index(index)
        return done(operator.getitem, (self.host, index), {}, self.host[index])

    def __setitem__(self, index, value):
        scalar = isinstance(value, np.ndarray) and value.ndim == 0  # CuPy takes it as a number
        args = (self.host, _unwrap_index(index), value if scalar else _unwrap(value))
        done(operator.setitem, args, {}, operator.setitem(*args))


def _read(name, read):
    def method(self):
        _waits(name)
        return read(self.host)

    return method


for _name, _function in {
    "get": np.copy,
    "item": np.ndarray.item,
    "tolist": np.ndarray.tolist,
    "__float__": float,
    "__int__": int,
    "__bool__": bool,
}.items():
    setattr(DeviceArray, _name, _read(_name.strip("_"), _function))


def _operator(name):
    function = getattr(operator, name, None)

    def forward(self, other):
        return run(function, self, other)

    def backward(self, other):
        return run(function, other, self)

    def in_place(self, other):
        self.host = run(getattr(operator, f"i{name}"), self, other).host
        return self

    return forward, backward, in_place


for _name in "add sub mul truediv floordiv mod pow matmul and_ or_ xor lshift rshift".split():
    _bare = _name.rstrip("_")
    for _prefix, _method in zip(("", "r", "i"), _operator(_name), strict=True):
        setattr(DeviceArray, f"__{_prefix}{_bare}__", _method)
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(DeviceArray, f"__{_name}__", _operator(_name)[0])
DeviceArray.__neg__ = lambda self: run(operator.neg, self)
DeviceArray.__invert__ = lambda self: run(operator.invert, self)
DeviceArray.__abs__ = lambda self: run(operator.abs, self)
DeviceArray.__hash__ = object.__hash__


def _wrap(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return DeviceArray(np.asarray(value))
    if isinstance(value, (tuple, list)) and any(isinstance(v, np.ndarray) for v in value):
        return type(value)(_wrap(v) for v in value)
    return value


def _unwrap(value):
    if isinstance(value, DeviceArray):
        return value.host
    if isinstance(value, np.ndarray):
        raise TypeError("a NumPy array was mixed into the arithmetic of GPU arrays")
    if isinstance(value, (tuple, list)):
        return type(value)(_unwrap(v) for v in value)
    if isinstance(value, dict):
        return {k: _unwrap(v) for k, v in value.items()}
    return value


def _unwrap_index(index):
    """An index on the host; CuPy copies arrays and lists there, and counts a mask's elements."""
    if isinstance(index, tuple):
        return tuple(map(_unwrap_index, index))
    if isinstance(index, (np.ndarray, list)):
        _waits("copy of an index from the host")
    if isinstance(index, DeviceArray) and index.dtype == bool:
        _waits("number of elements that a mask selects")
    return index.host if isinstance(index, DeviceArray) else index


class _Module:
    """NumPy's functions, with arrays unwrapped on the way in and wrapped on the way out."""

    ndarray = DeviceArray
    __name__ = "stand_in"
    cuda = Cuda

    def asarray(self, x, dtype=None, **kwargs):
        if not isinstance(x, DeviceArray):
            _waits("copy from the host")
            x = DeviceArray(np.array(x))
        return run(np.asarray, x, dtype=dtype)

    def array(self, x, dtype=None, copy=True, **kwargs):
        given = self.asarray(x, dtype)
        return given.copy() if copy else given

    def matmul(self, a, b, **kwargs):
        if CALLS is not None:
            raise NotImplementedError("calling cuBLAS API during stream capture is unsupported")
        if max(a.ndim, b.ndim) > 2 and a.dtype.name == "bfloat16":
            raise TypeError("CuPy's matmul takes no batches of bfloat16")
        return _Ufunc(np.matmul)(a, b, **kwargs)

    def __getattr__(self, name):
        if name in NOT_IN_CUPY:
            raise AttributeError(f"CuPy has no {name}")
        value = getattr(np, name)
        if isinstance(value, np.ufunc):
            return _Ufunc(value)
        if isinstance(value, type) or not callable(value):
            return value  # float32, inf, newaxis
        if name in SIZED_BY_VALUES:
            _waits(name)
        return lambda *args, **kwargs: run(value, *args, **kwargs)

    def where(self, *args):
        return run(np.where, *args) if len(args) > 1 else self.nonzero(*args)


class _Ufunc:
    def __init__(self, ufunc):
        self.ufunc = ufunc

    def __call__(self, *args, **kwargs):
        out = kwargs.get("out", args[self.ufunc.nin] if len(args) > self.ufunc.nin else None)
        result = run(self.ufunc, *args, **kwargs)
        return out if out is not None and not isinstance(out, tuple) else result

    def at(self, a, indices, b=None):
        if a.dtype.name == "bfloat16":
            raise TypeError(f"CuPy's {self.ufunc.__name__}.at takes no bfloat16")
        args = (a.host, _unwrap_index(indices), _unwrap(b))
        done(self.ufunc.at, args, {}, self.ufunc.at(*args))

    def reduce(self, *args, **kwargs):
        return run(self.ufunc.reduce, *args, **kwargs)


MODULE = _Module()


@contextlib.contextmanager
def stand_in_gpu(monkeypatch):
    """Inside, ``device="cuda"`` is the stand-in; yields the list of synchronizations."""
    monkeypatch.setitem(backend._STAND_INS, DeviceArray, MODULE)
    monkeypatch.setattr(backend, "cuda_module", lambda: MODULE)
    SYNCHRONIZATIONS.clear()
    yield SYNCHRONIZATIONS
