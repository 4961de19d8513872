"""CuPy for whole programs on a machine without a GPU: found first where its folder is on the path.

    PYTHONPATH=tests/stand_in python benchmarks/gpu_session.py --tiny

Arrays are those of tests/stand_in_gpu.py, in host memory. Kernels run on them in Triton's
interpreter, products in a cuBLAS made of NumPy (_cublas.py), a graph repeats the calls that it has
recorded, and an event is a moment of the host's clock. So the programs that need a GPU run to their
end, with right numbers and meaningless times. What goes wrong on a GPU can be planted (_faults.py).
"""

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[3]))

from tests.stand_in_gpu import MODULE, DeviceArray, _unwrap, _wrap

from . import _faults, _launches, cuda  # noqa: F401

__version__ = "0 (stand-in)"
ndarray = DeviceArray


class _Generator:
    def __init__(self, seed):
        self._rng = np.random.default_rng(seed)

    def __getattr__(self, name):
        draw = getattr(self._rng, name)
        return lambda *args, **kwargs: _wrap(draw(*_unwrap(args), **_unwrap(kwargs)))


class random:
    """``cupy.random``: generators that draw on the device."""

    default_rng = _Generator

    @staticmethod
    def standard_normal(size, dtype="float64"):
        return _Generator(0).standard_normal(size).astype(dtype)


class _Pool:
    def free_all_blocks(self):
        pass

    def used_bytes(self):
        return 0


def get_default_memory_pool():
    """A pool that holds nothing: NumPy frees at once."""
    return _Pool()


def asnumpy(array):
    """A copy in host memory."""
    return array.get() if isinstance(array, DeviceArray) else np.asarray(array)


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(MODULE, name)


_launches.install()
