"""Every op on a GPU's arrays: on the stand-in everywhere, on CuPy where there is a GPU."""

import sys

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.shortened_samples import EMPTY, SCALAR
from tests.stand_in_gpu import DeviceArray, stand_in_gpu
from tinygrad_llm import backend
from tinygrad_llm.autograd import REGISTRY, Tensor
from tinygrad_llm.backend.dtypes import is_float
from tinygrad_llm.backend.random import Generator, keep_mask, random_bits
from tinygrad_llm.errors import IndexRangeError, ShapeError
from tinygrad_llm.explain.proof import differentiable_call

CASES = [
    pytest.param(op, s, id=f"{op.name}-{s.label or i}")
    for op in REGISTRY.values()
    for i, s in enumerate(op.samples(np.random.default_rng(3)))
]


@pytest.fixture(params=["stand-in", pytest.param("cupy", marks=pytest.mark.gpu)])
def gpu(request, monkeypatch):
    if request.param == "cupy":
        backend.cuda_module()
        yield None
    else:
        with stand_in_gpu(monkeypatch) as synchronizations:
            yield synchronizations


def results(op, s, device, composed=False):
    run, inputs = differentiable_call(op.composed if composed else op.function.apply, s)
    tensors = [Tensor(x, device=device, requires_grad=True) for x in inputs]
    outs = run(*tensors)
    outs = [o for o in (outs if isinstance(outs, tuple) else (outs,)) if is_float(o.dtype)]
    sum(((o * o).sum() for o in outs[1:]), (outs[0] * outs[0]).sum()).backward()
    return [o.data for o in outs], [t.grad for t in tensors]


@pytest.mark.parametrize(("op", "s"), CASES)
def test_op_runs_on_the_device_and_agrees(op, s, gpu):
    if op.name == "to_device":
        pytest.skip("has a test of its own")
    here, there = results(op, s, "cpu"), results(op, s, "cuda")
    for a, b in zip(here[0] + here[1], there[0] + there[1], strict=True):
        assert not isinstance(b, np.ndarray)
        np.testing.assert_allclose(a, backend.to_numpy(b), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("op", "s"), [*EMPTY, *SCALAR])
def test_an_empty_axis_and_no_axis_are_on_the_device_what_they_are_here(op, s, gpu):
    if op.name == "to_device":
        pytest.skip("has a test of its own")
    try:
        here = results(op, s, "cpu")
    except (ShapeError, IndexRangeError) as refusal:
        with pytest.raises(type(refusal)):
            results(op, s, "cuda")
        return
    there = results(op, s, "cuda")
    for a, b in zip(here[0] + here[1], there[0] + there[1], strict=True):
        assert not isinstance(b, np.ndarray)
        np.testing.assert_allclose(a, backend.to_numpy(b), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("op", "s"), [c for c in CASES if c.values[0].composed is not None])
def test_composition_runs_on_the_device_and_agrees(op, s, gpu):
    here, there = results(op, s, "cpu"), results(op, s, "cuda", composed=True)
    for a, b in zip(here[0] + here[1], there[0] + there[1], strict=True):
        assert not isinstance(b, np.ndarray)
        np.testing.assert_allclose(a, backend.to_numpy(b), rtol=1e-7, atol=1e-10)


def test_gradients_cross_devices(gpu):
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x.to("cuda")
    assert y.device == "cuda:0"
    (y * y).sum().to("cpu").backward()
    np.testing.assert_array_equal(x.grad, [2.0, 4.0])


def test_mixed_devices_are_refused(gpu):
    x = tg.tensor([1.0], device="cuda")
    with pytest.raises(tg.errors.DeviceError, match="cuda:0 and cpu"):
        x + tg.tensor([1.0])


def test_random_bits_are_the_same_everywhere(gpu):
    xp = backend.cuda_module()
    here, there = random_bits(np, (5, 9), 1000, 17), random_bits(xp, (5, 9), 1000, 17)
    np.testing.assert_array_equal(here, backend.to_numpy(there))
    mask = keep_mask(xp, (1, 2), (30, 7), 0.3)
    np.testing.assert_array_equal(keep_mask(np, (1, 2), (30, 7), 0.3), backend.to_numpy(mask))


def test_the_stand_in_catches_what_it_is_for(monkeypatch):
    with stand_in_gpu(monkeypatch) as synchronizations:
        x = DeviceArray(np.ones(3))
        with pytest.raises(TypeError, match="numpy.exp"):
            np.exp(x)
        with pytest.raises(TypeError, match="numpy.concatenate"):
            np.concatenate([x, x])
        with pytest.raises(TypeError, match="mixed"):
            x + np.ones(3)
        with pytest.raises(TypeError, match="mixed"):
            x * np.asarray(2.0)
        with pytest.raises(AttributeError, match="writeable"):
            assert x.flags.writeable
        with pytest.raises(AttributeError, match="vecdot"):
            assert backend.cuda_module().vecdot
        with pytest.raises(TypeError, match="integer"):
            range(DeviceArray(np.array(3)))
        float(x.sum())
        x[DeviceArray(np.array([0, 2]))], x[1:], x[None]
        x[np.array([0])], x[x > 0], backend.cuda_module().where(x)
        index, mask = "copy of an index from the host", "number of elements that a mask selects"
        assert synchronizations == ["float", index, mask, "nonzero"]


def test_what_cupy_lacks_for_bfloat16_goes_through_float32(monkeypatch):
    pytest.importorskip("ml_dtypes")
    with stand_in_gpu(monkeypatch):
        x = tg.Tensor(np.ones((2, 3, 4)), "bfloat16", "cuda", requires_grad=True)
        (x @ x.swapaxes(1, 2)).sum().backward()
        assert x.grad.dtype.name == "bfloat16"
        np.testing.assert_array_equal(x.grad.host, np.full((2, 3, 4), 6))
        table = tg.Tensor(np.ones((5, 4)), "bfloat16", "cuda", requires_grad=True)
        picked = table[DeviceArray(np.array([1, 1, 3]))].sum()
        (picked + tg.functional.embedding([1, 0], table).sum()).backward()
        np.testing.assert_array_equal(table.grad.host[:, 0], [1, 3, 0, 1, 0])


def test_without_a_gpu_the_error_says_what_to_do():
    cupy = pytest.importorskip("cupy") if "cupy" in sys.modules else None
    if cupy is not None and cupy.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(tg.errors.DeviceError, match="CuPy"):
        tg.tensor([1.0], device="cuda")
    with pytest.raises(tg.errors.DeviceError, match='expected "cpu", "cuda"'):
        tg.tensor([1.0], device="gpu")


def test_random_bits_are_uniform_and_uncorrelated():
    bits = random_bits(np, (123, 456), 1 << 20)
    counts = np.bincount(bits >> 24, minlength=256)
    chi2 = ((counts - 4096.0) ** 2 / 4096).sum()
    assert 160 < chi2 < 370  # 255 degrees of freedom: six standard deviations to either side
    u = bits / 2**32
    for lag in (1, 2, 64, 768):
        assert abs(np.corrcoef(u[:-lag], u[lag:])[0, 1]) < 5e-3
    other = random_bits(np, (124, 456), 1 << 20) / 2**32
    assert abs(np.corrcoef(u, other)[0, 1]) < 5e-3


def test_generator_state_is_json_and_exact():
    import json

    g = Generator(3)
    g.normal((5,))
    g.next_key()
    state = json.loads(json.dumps(g.state()))
    first = [g.normal((3,)).tolist(), g.permutation(9).tolist(), g.next_key()]
    g.set_state(state)
    assert first == [g.normal((3,)).tolist(), g.permutation(9).tolist(), g.next_key()]
    with pytest.raises(tg.errors.ConfigError, match="state"):
        g.set_state({"nonsense": 1})
    with pytest.raises(tg.errors.ConfigError, match="seed"):
        Generator(-1)
