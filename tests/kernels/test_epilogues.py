"""Products with epilogues by cuBLASLt: what it is told, on a library that counts in columns too."""

import threading

import ml_dtypes
import numpy as np
import pytest
from tinygrad_llm.kernels.errors import KernelError
from tinygrad_llm.kernels.products import cublas_lt, epilogues

from tests.stand_in_cublas_lt import Library, gelu, gelu_slope, use
from tests.stand_in_gpu import DeviceArray

HALF = pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16], ids=["fp16", "bf16"])
BIAS, GELU_AUX_BIAS, DGELU_BGRAD, BGRADB = 4, 164, 208, 512  # cublasLt.h


@pytest.fixture
def library(monkeypatch):
    found = Library()
    use(monkeypatch, found)
    yield found
    assert not found.mistakes


def draw(half, *shapes):
    """Arrays on the host, as float64, and the same on the device."""
    rng = np.random.default_rng(0)
    halves = [(0.5 * rng.normal(size=s)).astype(half) for s in shapes]
    return [h.astype(np.float64) for h in halves], [DeviceArray(h) for h in halves]


def near(found, expected, dtype):
    assert found.dtype == dtype
    tolerance = 1e-5 if found.dtype == np.float32 else 4 * float(ml_dtypes.finfo(dtype).eps)
    gap = np.abs(found.host.astype(np.float64) - expected).max() / np.abs(expected).max()
    assert gap < tolerance


@HALF
def test_product_with_a_bias(library, half):
    for n, inner, out in ((5, 8, 3), (1, 4, 6), (5, 8, 3)):
        (x, w, b), moved = draw(half, (n, inner), (out, inner), (out,))
        near(epilogues.linear_with_bias(*moved), x @ w.T + b, half)
    assert library.epilogues == [BIAS] * 4  # one of them the trial
    assert library.created["handle"] == 1
    assert library.created["MatmulDesc"] == 3


@HALF
def test_gelu_is_taken_along(library, half):
    (x, w, b), moved = draw(half, (5, 6), (16, 6), (16,))
    z, a = epilogues.gelu_with_bias(*moved)
    near(z, x @ w.T + b, half)
    near(a, gelu(x @ w.T + b), half)
    assert library.epilogues == [GELU_AUX_BIAS] * 2


@HALF
@pytest.mark.parametrize("sums", [np.float32, None], ids=["float32", "half"])
def test_gradient_of_gelu_and_its_sum_over_rows(library, half, sums):
    (dy, w, z), moved = draw(half, (7, 6), (6, 16), (7, 16))
    dz, db = epilogues.gelu_gradient(*moved, dtype=sums)
    expected = (dy @ w) * gelu_slope(z)
    near(dz, expected, half)
    near(db, expected.sum(0), sums or half)
    assert library.epilogues == [DGELU_BGRAD] * 2


@HALF
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_gradients_of_weight_and_bias(library, half, accumulate, wide):
    (dy, x, before), moved = draw(half, (7, 6), (7, 5), (6, 5))
    target = np.float32 if wide else half
    out = DeviceArray(before.astype(target))
    place = DeviceArray(np.full(6, np.nan, target))
    db = epilogues.weight_gradient(*moved[:2], out, accumulate, place)
    near(out, dy.T @ x + (before if accumulate else 0), target)
    near(db, dy.sum(0), target)
    assert db is place
    assert library.epilogues == [BGRADB] * 2


def test_plans_are_destroyed_when_they_make_room_and_with_their_thread(library, monkeypatch):
    monkeypatch.setattr(cublas_lt, "PLANS", 3)
    monkeypatch.setattr(cublas_lt, "_plans", cublas_lt._Plans())

    def work():
        for n in range(1, 9):
            arrays = draw(np.float16, (n, 8), (4, 8), (4,))[1]
            assert epilogues.linear_with_bias(*arrays) is not None
        seen.update({kind: library.alive(kind) for kind in library.created})

    seen = {}
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == {"handle": 1, "MatmulDesc": 3, "MatrixLayout": 9, "MatmulPreference": 0}
    assert library.created["MatmulDesc"] == library.created["MatmulPreference"] == 9
    assert [kind for kind, _ in library.objects.values()] == ["handle"]


def test_two_threads_do_not_set_each_other_s_bias(library):
    x, w = draw(np.float16, (5, 8), (4, 8))[1]
    biases = [DeviceArray(np.full(4, value, np.float16)) for value in (0, 100)]
    epilogues.linear_with_bias(x, w, biases[0])  # the trial
    both = threading.Barrier(2, timeout=20)
    library.before_product = both.wait  # both have set their pointer when the first one computes
    found = {}
    threads = [
        threading.Thread(
            target=lambda i=i, b=b: found.update({i: epilogues.linear_with_bias(x, w, b).host})
        )
        for i, b in enumerate(biases)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(found[1] - found[0].astype(np.float64), 100, atol=0.1)


def shifted(array):
    """The same numbers, 2 bytes further than a multiple of 64."""
    memory = np.zeros(array.size + 64, array.dtype)
    start = -(memory.ctypes.data // memory.itemsize) % 32 + 1
    place = memory[start : start + array.size].reshape(array.shape)
    place[...] = array.host
    return DeviceArray(place)


def test_an_unaligned_vector_or_matrix_never_reaches_the_library(library):
    x, w, b = draw(np.float16, (5, 8), (16, 8), (16,))[1]
    assert shifted(b).data.ptr % 16 == 2
    assert epilogues.linear_with_bias(x, w, shifted(b)) is None
    assert epilogues.gelu_with_bias(x, w, shifted(b)) is None
    assert "no multiple of 16 bytes" in epilogues.fallbacks(0)
    z = shifted(draw(np.float16, (5, 8))[1][0])
    assert epilogues.gelu_gradient(draw(np.float16, (5, 16))[1][0], w, z) is None


def test_an_unaligned_place_for_a_bias_gradient_is_left_to_the_caller(library):
    (dy, x), moved = draw(np.float16, (7, 6), (7, 5))
    place = shifted(DeviceArray(np.zeros(6, np.float32)))
    db = epilogues.weight_gradient(*moved, DeviceArray(np.empty((6, 5), np.float32)), False, place)
    near(db, dy.sum(0), np.float32)
    assert db is not place
    assert not place.host.any()


@pytest.mark.parametrize("narrow", [False, True], ids=["refused", "ignored"])
def test_a_bias_gradient_in_float32_that_the_library_does_not_give(monkeypatch, narrow):
    """It refuses the type, or writes 16-bit numbers into the float32 array all the same."""
    asked = []
    library = Library(
        refuses=lambda epilogue, vector, size: not narrow and vector is np.float32, narrow=narrow
    )
    use(monkeypatch, library)
    (dy, w, z), moved = draw(np.float16, (7, 6), (6, 16), (7, 16))
    for _ in range(2):
        _, db = epilogues.gelu_gradient(*moved, dtype=np.float32)
        near(db, ((dy @ w) * gelu_slope(z)).sum(0), np.float16)
        asked.append(len(library.epilogues))
    assert epilogues.fallbacks(0) is None
    assert asked[1] == asked[0] + 1  # the trial of float32 is not repeated
    assert len([reason for reason in epilogues.trials().values() if reason]) == 1


def test_a_size_without_an_algorithm_is_asked_for_once(monkeypatch):
    library = Library(refuses=lambda epilogue, vector, size: size == (3, 5))
    use(monkeypatch, library)
    for _ in range(3):
        assert epilogues.linear_with_bias(*draw(np.float16, (5, 8), (3, 8), (3,))[1]) is None
    assert library.created["MatmulPreference"] == 2
    assert "status 15 (product with a bias, 5 x 3 x 8)" in epilogues.fallbacks(0)
    assert epilogues.linear_with_bias(*draw(np.float16, (4, 8), (3, 8), (3,))[1]) is not None


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (Library(wrong=0.5), "off by 0.0"),
        (Library(wrong=np.nan), "off by inf"),
        (Library(refuses=lambda *told: True), "status 15"),
    ],
)
def test_a_library_that_fails_the_trial_is_not_used(monkeypatch, library, reason):
    use(monkeypatch, library)
    assert epilogues.linear_with_bias(*draw(np.float16, (5, 8), (3, 8), (3,))[1]) is None
    assert reason in epilogues.fallbacks(0)


def test_without_the_library_there_is_a_reason(monkeypatch):
    use(monkeypatch, None)

    def missing():
        raise KernelError("linear: CuPy finds no cuBLAS")

    monkeypatch.setattr(cublas_lt, "_functions", missing)
    assert epilogues.linear_with_bias(*draw(np.float16, (5, 8), (3, 8), (3,))[1]) is None
    assert "linear: CuPy finds no cuBLAS" in epilogues.fallbacks(0)


def test_other_types_and_strides_are_left_to_cublas(library):
    x, w, b = draw(np.float16, (5, 8), (16, 8), (16,))[1]
    assert epilogues.linear_with_bias(DeviceArray(x.host.astype(np.float32)), w, b) is None
    assert epilogues.linear_with_bias(x[:, ::2], w[:, ::2], b) is None
    assert epilogues.gelu_with_bias(x, w[:12], b[:12]) is None  # 12 is not divisible by 8
    assert not library.epilogues


def test_alignment_is_a_power_of_two_of_at_most_256():
    assert [cublas_lt.alignment(a) for a in (0x1020, 0x4000, 0x1002, 0)] == [32, 256, 2, 256]


def test_the_fault_of_the_stand_in_is_seen():
    """An address that the check let through would be noticed by these tests."""
    library = Library()
    library.objects[1] = ("MatmulDesc", {8: 24})
    library.asked[1] = dict.fromkeys((5, 6, 7, 8), 1)
    number = np.array([99], np.uint64)
    library.cublasLtMatmul(
        0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number.ctypes.data, 0, cublas_lt.WORKSPACE, 0x51
    )
    assert library.mistakes == ["misaligned address"]
