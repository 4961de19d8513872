"""Linear layers and feed-forward products: one launch, or what replaces it, give the same."""

import numpy as np
import pytest
from tinygrad_llm.kernels.products import epilogues
from tinygrad_llm.kernels.products import linear as linear_file

from tests.kernels import kernel_references as reference
from tests.kernels.conftest import DTYPES
from tests.stand_in_cublas_lt import Library, use
from tests.stand_in_gpu import DeviceArray
from tinygrad_llm import kernels

BIAS, GELU_AUX_BIAS, DGELU_BGRAD, BGRADB = 4, 164, 208, 512  # cublasLt.h
F32 = np.dtype("float32")


def expected(x, w, b, dy, outer, before):
    """y, z, a of a layer (w, b); dz, db through a second layer `outer`; dW added onto before."""
    x, w, b, dy, outer, before = reference.double(x, w, b, dy, outer, before)
    z = x @ w.T + b
    a, slope = reference.gelu(z, None, "tanh")
    dz = (dy @ outer) * slope
    return {
        "y": z,
        "z": z,
        "a": a,
        "dz": dz,
        "db": dz.sum(0),
        "dW": before + dy.T @ x,
        "db2": dy.sum(0),
    }


def computed(x, w, b, dy, outer, before):
    """The same by the four functions, biases summed in float32 as the optimizer wants it."""
    z, a = kernels.linear_gelu(x, w, b)
    dz, db = kernels.linear_gelu_backward(dy, outer, z, dtype="float32")
    dw, db2 = kernels.linear_backward_weight(dy, x, before, True, dtype="float32")
    return {"y": kernels.linear(x, w, b), "z": z, "a": a, "dz": dz, "db": db, "dW": dw, "db2": db2}


def draw(device, dtype, n, inner, hidden, out):
    shapes = ((n, inner), (hidden, inner), (hidden,), (n, out), (out, hidden))
    arrays = [device.normal(s, dtype) for s in shapes]
    for i in (1, 4):
        arrays[i] = (arrays[i] / np.sqrt(arrays[i].shape[1])).astype(arrays[i].dtype)
    return [*arrays, device.normal((out, inner))]


def check(device, found, wanted, dtype):
    """dW and db2 are as exact as their type, the others as what they are computed from."""
    for name, array in found.items():
        host = device.get(array)
        assert host.dtype.name in ("float32", dtype)
        exact = name in ("dW", "db2")
        kind = host.dtype.name if exact else dtype
        # Tensor cores cut off as they add; that much of a float32 sum is lost over 8192 rows.
        factor = 30 if exact and kind == "float32" else 4
        device.check(host if exact else host.astype(DTYPES[dtype]), wanted[name], kind, factor)


def test_all_four_equal_the_formulas(device, dtype):
    arrays = draw(device, dtype, 21, 24, 40, 16)
    wanted = expected(*arrays)  # before dW is added onto one of them
    check(device, computed(*map(device.put, arrays)), wanted, dtype)


@pytest.fixture
def fused(monkeypatch):
    """As if every fused form had been measured as the faster one."""
    monkeypatch.setattr(linear_file, "choose", lambda *args: {"fused": 1})


@pytest.mark.gpu
@pytest.mark.parametrize("form", [linear_file.FUSED, linear_file.APART])
@pytest.mark.parametrize("half", ["bfloat16", "float16"])
@pytest.mark.parametrize("rows", [8192, 1000, 1])
def test_sizes_of_gpt2_on_a_gpu(device, half, rows, form, monkeypatch):
    """No fused form is refused; the table of trials says in which type biases are summed."""
    if device.name == "cpu":
        pytest.skip("these sizes are for a GPU")
    monkeypatch.setattr(linear_file, "choose", lambda *args: dict(form))
    arrays = draw(device, half, rows, 768, 3072, 768)
    check(device, computed(*map(device.put, arrays)), expected(*arrays), half)
    assert epilogues.fallbacks(0) is None, epilogues.trials()


@pytest.mark.gpu
def test_parameters_of_an_optimizer_on_a_gpu(device, fused):
    """Weight and bias within one array, 32 bytes apart from each other, as the optimizer has it."""
    if device.name == "cpu":
        pytest.skip("the interpreter knows no addresses")
    arrays = draw(device, "bfloat16", 256, 64, 96, 64)
    flat = device.put(np.zeros(96 * 64 + 16 + 96, arrays[1].dtype))
    weight, bias = flat[16 : 16 + 96 * 64].reshape(96, 64), flat[16 + 96 * 64 :]
    weight[...], bias[...] = device.put(arrays[1]), device.put(arrays[2])
    moved = [device.put(a) for a in arrays]
    moved[1:3] = weight, bias
    check(device, computed(*moved), expected(*arrays), "bfloat16")


# ---- on the library that counts in columns ---------------------------------------------------


class Here:
    """The device of these tests."""

    name = "stand-in"
    rng = np.random.default_rng(2)

    def normal(self, shape, dtype="float32"):
        return self.rng.standard_normal(shape).astype(dtype)

    get = staticmethod(lambda array: array.host)

    def check(self, array, wanted, dtype, factor):
        assert array.dtype.name == dtype
        gap = np.abs(array.astype(np.float64) - wanted).max() / np.abs(wanted).max()
        assert gap < factor * (1e-3 if dtype == "float16" else 1e-5)


def by_host(function, ran):
    """A kernel on host memory, for arrays of the stand-in; its name is added to `ran`."""

    def run(*args, out=None, **kwargs):
        ran.append(function.__name__)
        plain = [a.host if isinstance(a, DeviceArray) else a for a in args]
        more = {} if out is None else {"out": out.host}
        found = function(*plain, **more, **kwargs)
        pair = isinstance(found, tuple)
        wrapped = tuple(a if a is None else DeviceArray(a) for a in (found if pair else (found,)))
        return wrapped if pair else wrapped[0]

    run.unchecked = run
    return run


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Runs the four functions on a library; returns values, and which kernels ran beside it."""
    monkeypatch.setenv("TINYGRAD_LLM_KERNEL_CACHE", str(tmp_path))
    ran = []
    for name in ("matmul", "bias_gelu", "bias_gelu_backward", "column_sum"):
        replaced = by_host(getattr(linear_file, name), ran)
        monkeypatch.setattr(linear_file, name, replaced)

    def run(library):
        use(monkeypatch, library)
        arrays = draw(Here(), "float16", 21, 24, 40, 16)
        found = computed(*(DeviceArray(a.copy()) for a in arrays))
        check(Here(), found, expected(*arrays), "float16")
        assert not library.mistakes
        return ran

    return run


def test_nothing_runs_beside_the_products(stand_in, fused):
    library = Library()
    assert stand_in(library) == []
    used = [e for e in library.epilogues if e != BIAS]
    assert used == [e for e in (GELU_AUX_BIAS, DGELU_BGRAD, BGRADB) for _ in range(2)]
    assert epilogues.fallbacks(0) is None


@pytest.mark.parametrize(
    ("refused", "beside"),
    [
        (BIAS, ["matmul"]),
        (GELU_AUX_BIAS, ["bias_gelu"]),
        (DGELU_BGRAD, ["matmul", "bias_gelu_backward"]),
        (BGRADB, ["matmul", "column_sum"]),
    ],
)
@pytest.mark.parametrize("sizes", [None, (40, 21), (24, 16)], ids=["all", "hidden", "weight"])
def test_a_refused_product_is_computed_in_two_passes(stand_in, fused, refused, beside, sizes):
    """Refused in the trial, or only at the size of the layer."""
    library = Library(
        refuses=lambda epilogue, vector, size: epilogue == refused and sizes in (None, size)
    )
    ran = stand_in(library)
    hit = sizes is None or (sizes == (24, 16)) == (refused == BGRADB)
    assert ran == (beside if hit else [])
    assert (epilogues.fallbacks(0) is not None) == hit


def test_gradients_stay_apart_unless_fusing_them_was_measured_as_faster(stand_in):
    library = Library()
    assert stand_in(library) == ["matmul", "bias_gelu_backward", "matmul", "column_sum"]
    assert set(library.epilogues) == {BIAS, GELU_AUX_BIAS}


def test_measured_as_slower_means_not_used(stand_in, monkeypatch):
    monkeypatch.setattr(linear_file, "choose", lambda *args: {"fused": 0})
    library = Library()
    assert stand_in(library) == [
        "bias_gelu",
        "matmul",
        "bias_gelu_backward",
        "matmul",
        "column_sum",
    ]
    assert set(library.epilogues) == {BIAS}


@pytest.mark.parametrize("best", [linear_file.FUSED, linear_file.APART])
def test_timing_both_adds_nothing_onto_the_gradient(stand_in, monkeypatch, best):
    def choose(name, key, candidates, default, run):
        for config in candidates * 2:
            run(config)
        return dict(best)

    monkeypatch.setattr(linear_file, "choose", choose)
    stand_in(Library())


def test_a_form_that_is_refused_is_not_timed(stand_in, monkeypatch):
    """It would take no time at all and be chosen."""
    passed_over = []

    def choose(name, key, candidates, default, run):
        for config in candidates:
            try:
                run(config)
            except kernels.KernelError as error:
                passed_over.append((name, dict(config), str(error)))
        return {"fused": 0}

    monkeypatch.setattr(linear_file, "choose", choose)
    stand_in(Library(refuses=lambda epilogue, *rest: epilogue == GELU_AUX_BIAS))
    assert [p[:2] for p in passed_over] == [("linear_gelu", {"fused": 1})]
    assert "cuBLASLt does not take these arrays" in passed_over[0][2]


def test_refusals():
    x, w, b = np.ones((3, 4), F32), np.ones((5, 4), F32), np.ones(5, F32)
    for function in (kernels.linear, kernels.linear_gelu):
        assert "equal `in`, got" in function.supports(x, w[:, :3], b)
        assert "weight is float16; convert one" in function.supports(x, w.astype("float16"), b)
        assert "bias must have shape (5,)" in function.supports(x, w, b[:4])
    dy, z = np.ones((3, 5), F32), np.ones((3, 4), F32)
    assert kernels.linear_gelu_backward.supports(dy, w, z) is None
    assert "z must have shape (3, 4)" in kernels.linear_gelu_backward.supports(dy, w, z[:2])
    assert "do not fit" in kernels.linear_gelu_backward.supports(dy, w[:4], z)
    assert "dbias must have shape (5,)" in kernels.linear_backward_weight.supports(
        dy, x, dbias=b[:2]
    )
    assert "out must have shape (5, 4)" in kernels.linear_backward_weight.supports(dy, x, x)
    with pytest.raises(kernels.KernelError, match="adds onto out, which is missing"):
        kernels.linear_backward_weight(dy, x, None, True)
