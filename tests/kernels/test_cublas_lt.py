"""The product with a bias by cuBLASLt: what it is told, on a library that counts in columns too."""

import ctypes
import sys
import types

import numpy as np
import pytest
from tinygrad_llm.kernels import cublas_lt
from tinygrad_llm.kernels.errors import KernelError

import tinygrad_llm as tg
from tests.stand_in_gpu import MODULE, DeviceArray

KINDS = {2: np.float16}  # cudaDataType_t of the arrays
STREAM = 0x51


class Library:
    """cuBLASLt's functions of cublas_lt.py, on host memory, as cublasLt.h describes them."""

    def __init__(self, wrong=0.0, algorithms=1):
        self.objects, self.wrong, self.algorithms, self.calls = [], wrong, algorithms, 0

    def __getitem__(self, name):
        return getattr(self, name)

    def create(self, place, value):
        self.objects.append(value)
        ctypes.c_void_p.from_address(place).value = len(self.objects)
        return 0

    def cublasLtCreate(self, place):
        return self.create(place, "handle")

    def cublasLtMatmulDescCreate(self, place, compute, scale):
        assert (compute, scale) == (68, 0)  # sums and factors in float32
        return self.create(place, {})

    def cublasLtMatrixLayoutCreate(self, place, kind, rows, columns, leading):
        return self.create(place, (KINDS[kind], rows, columns, leading))

    def cublasLtMatmulPreferenceCreate(self, place):
        return self.create(place, {})

    def set(self, target, attribute, address, size):
        kind = {4: ctypes.c_uint32, 8: ctypes.c_uint64}[size]
        self.objects[target - 1][attribute] = kind.from_address(address).value
        return 0

    cublasLtMatmulDescSetAttribute = cublasLtMatmulPreferenceSetAttribute = set

    def cublasLtMatmulAlgoGetHeuristic(self, handle, desc, a, b, c, d, preference, n, result,
                                       found):  # fmt: skip
        assert self.objects[preference - 1] == {1: cublas_lt.WORKSPACE, 5: 32, 6: 32, 7: 32, 8: 32}
        ctypes.c_uint64.from_address(result).value = 99
        ctypes.c_int.from_address(found).value = self.algorithms
        return 0

    def matrix(self, address, layout):
        """The matrix (rows, columns) at an address, whose columns are contiguous."""
        kind, rows, columns, leading = self.objects[layout - 1]
        assert leading >= rows
        size = leading * columns * np.dtype(kind).itemsize
        buffer = (ctypes.c_char * size).from_address(address)
        return np.frombuffer(buffer, kind).reshape(columns, leading).T[:rows]

    def cublasLtMatmul(self, handle, desc, alpha, a, la, b, lb, beta, c, lc, d, ld, algorithm,
                       workspace, size, stream):  # fmt: skip
        told = self.objects[desc - 1]
        assert (told[3], told[7], told[26]) == (1, 4, 2)  # A transposed; a bias; in float16
        assert ctypes.c_float.from_address(alpha).value == 1
        assert ctypes.c_float.from_address(beta).value == 0
        assert ctypes.c_uint64.from_address(algorithm).value == 99
        assert (c, lc, size, stream) == (d, ld, cublas_lt.WORKSPACE, STREAM)
        w, x, y = self.matrix(a, la).T, self.matrix(b, lb), self.matrix(d, ld)
        bias = np.frombuffer((ctypes.c_char * (2 * len(y))).from_address(told[8]), np.float16)
        y[...] = w.astype(np.float32) @ x.astype(np.float32) + bias[:, None] + self.wrong
        self.calls += 1
        return 0


def use(monkeypatch, library):
    """Make cublas_lt.py believe in a GPU with this library."""
    stream = types.SimpleNamespace(ptr=STREAM)
    cuda = types.SimpleNamespace(
        get_current_stream=lambda: stream, runtime=types.SimpleNamespace(getDevice=lambda: 0)
    )
    cupy = types.SimpleNamespace(
        ndarray=DeviceArray, empty=MODULE.empty, asarray=MODULE.asarray, cuda=cuda
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cublas_lt, "_functions", lambda: library)
    monkeypatch.setattr(cublas_lt, "_alignment", lambda array: 32)
    forget()


def forget():
    for cached in (cublas_lt.why_not, cublas_lt._plan, cublas_lt._handle, cublas_lt._workspace):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def _start_and_end_without_plans():
    forget()
    yield
    forget()


def arrays(n=5, inner=8, out=3):
    rng = np.random.default_rng(0)
    host = [rng.normal(size=s).astype(np.float16) for s in ((n, inner), (out, inner), (out,))]
    return host, [DeviceArray(a) for a in host]


def test_the_product_is_the_one_that_was_meant(monkeypatch):
    library = Library()
    use(monkeypatch, library)
    for sizes in ((5, 8, 3), (1, 4, 6), (5, 8, 3)):
        (x, w, b), moved = arrays(*sizes)
        y = cublas_lt.linear_with_bias(*moved)
        expected = x.astype(np.float32) @ w.astype(np.float32).T + b
        np.testing.assert_allclose(y.host.astype(np.float32), expected, rtol=2e-3, atol=2e-3)
    assert library.calls == 4  # one of them the trial
    assert library.objects.count("handle") == 1


@pytest.mark.parametrize(("library", "reason"), [
    (Library(wrong=0.5), "off by 0.5"), (Library(algorithms=0), "knows no algorithm"),
])  # fmt: skip
def test_a_library_that_fails_the_trial_is_not_used(monkeypatch, library, reason):
    use(monkeypatch, library)
    assert cublas_lt.linear_with_bias(*arrays()[1]) is None
    assert reason in cublas_lt.why_not(0)


def test_without_the_library_there_is_a_reason(monkeypatch):
    use(monkeypatch, None)

    def missing():
        raise KernelError("linear: CuPy finds no cuBLAS")

    monkeypatch.setattr(cublas_lt, "_functions", missing)
    assert cublas_lt.linear_with_bias(*arrays()[1]) is None
    assert cublas_lt.why_not(0) == "linear: CuPy finds no cuBLAS"


def test_other_types_and_strides_are_left_to_cublas(monkeypatch):
    use(monkeypatch, Library())
    x, w, b = arrays()[1]
    assert cublas_lt.linear_with_bias(DeviceArray(x.host.astype(np.float32)), w, b) is None
    assert cublas_lt.linear_with_bias(x[:, ::2], w[:, ::2], b) is None


def test_alignment_is_a_power_of_two_of_at_most_256():
    found = []
    for address in (0x1020, 0x4000, 0x1002):
        array = types.SimpleNamespace(data=types.SimpleNamespace(ptr=address))
        found.append(cublas_lt._alignment(array))
    assert found == [32, 256, 2]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(4096, 768, 2304), (300, 768, 3072), (33, 64, 40), (1, 96, 32)])
def test_on_a_gpu(shape, dtype):
    import cupy

    n, inner, out = shape
    rng = np.random.default_rng(0)
    kind = tg.Tensor(np.zeros(1), dtype).dtype
    x, w, b = (rng.normal(size=s).astype(kind) for s in ((n, inner), (out, inner), (out,)))
    flat = cupy.empty(w.size + out + 32, kind)  # as in the optimizer: parameters 32 bytes apart
    weight = flat[16 : 16 + w.size].reshape(w.shape)
    bias = flat[16 + w.size : 16 + w.size + out]
    weight[...], bias[...] = cupy.asarray(w), cupy.asarray(b)
    y = cublas_lt.linear_with_bias(cupy.asarray(x), weight, bias)
    assert cublas_lt.why_not(cupy.cuda.runtime.getDevice()) is None
    expected = x.astype(np.float64) @ w.astype(np.float64).T + b.astype(np.float64)
    error = np.linalg.norm(y.get().astype(np.float64) - expected) / np.linalg.norm(expected)
    assert error < 5e-3
