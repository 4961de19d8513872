"""Products of the array code on a GPU: NumPy's values, and no product by CuPy where cuBLAS can."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tests import stand_in_gpu
from tests.replayed_gpu import gpu_with_kernels
from tinygrad_llm.backend.kernels import gpu_product

pytest.importorskip("triton")
pytest.importorskip("ml_dtypes")


@pytest.fixture
def cupy(monkeypatch):
    with gpu_with_kernels(monkeypatch):
        yield stand_in_gpu.MODULE


def parts(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


CASES = {
    "matrices": (parts(3, 4), parts(4, 5)),
    "transposed": (parts(4, 3).T, parts(5, 4).T),
    "columns of wider rows": (parts(3, 9)[:, 2:6], parts(4, 9)[:, ::2]),
    "batches": (parts(2, 3, 4, 5), parts(2, 3, 6, 5).swapaxes(-1, -2)),
    "part of a batch": (parts(2, 3, 8, 5)[..., 2:6, :], parts(2, 3, 5, 4)),
    "vector first": (parts(4), parts(4, 5)),
    "vector last": (parts(2, 3, 4), parts(4)),
    "one row": (parts(1, 4), parts(4, 1)),
    "nothing to add": (parts(3, 0), parts(0, 5)),
    "batches of unlike axes": (parts(2, 3, 4), parts(4, 5)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_the_values_are_numpys(cupy, name, dtype):
    a, b = (tg.tensor(x, dtype=dtype).to("cuda").data for x in CASES[name])
    y = gpu_product(cupy, a, b)
    expected = np.matmul(a.get().astype(np.float32), b.get().astype(np.float32))
    rtol = {"float32": 1e-5, "float64": 1e-5, "float16": 1e-3, "bfloat16": 1e-2}[dtype]
    np.testing.assert_allclose(y.get().astype(np.float32), expected, rtol, atol=rtol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_into_a_place_that_cublas_cannot_write(cupy, dtype):
    a, b = (tg.tensor(x, dtype=dtype).to("cuda").data for x in CASES["part of a batch"])
    whole = cupy.zeros((2, 3, 9, 4), dtype)
    place = whole[..., 3:7, :]
    assert gpu_product(cupy, a, b, place) is place
    expected = np.zeros((2, 3, 9, 4))
    expected[..., 3:7, :] = np.matmul(a.get(), b.get())
    np.testing.assert_allclose(whole.get(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["vector first", "vector last"])
def test_a_vectors_product_goes_into_its_place(cupy, name):
    a, b = (tg.tensor(x).to("cuda").data for x in CASES[name])
    expected = np.matmul(a.get(), b.get())
    place = cupy.zeros(expected.shape, "float32")
    gpu_product(cupy, a, b, place)
    np.testing.assert_allclose(place.get(), expected, rtol=1e-5, atol=1e-5)


def test_cupys_product_is_not_asked(cupy, monkeypatch):
    """It raises an error while launches are recorded; the stand-in does so, too."""
    a, b = (tg.tensor(x).to("cuda").data for x in CASES["batches"])
    monkeypatch.setattr(stand_in_gpu, "CALLS", [])
    with pytest.raises(NotImplementedError, match="stream capture"):
        cupy.matmul(a, b)
    assert gpu_product(cupy, a, b).shape == (2, 3, 4, 6)
