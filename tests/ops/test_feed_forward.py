"""feed_forward on a GPU: its products take everything along; when the module uses it."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.stand_in_gpu import DeviceArray, stand_in_gpu
from tinygrad_llm import nn
from tinygrad_llm.autograd.gradient_sink import GradientSink

pytest.importorskip("triton", reason="the kernel versions need the kernels")
from tinygrad_llm.kernels.products import linear as linear_file

from tests.stand_in_cublas_lt import Library, use

B, T, C = 2, 3, 8
BIAS, GELU_AUX_BIAS, DGELU_BGRAD, BGRADB = 4, 164, 208, 512  # cublasLt.h


@pytest.fixture
def library(monkeypatch, tmp_path):
    """A stand-in GPU on which the kernels run; products by cuBLAS are counted as 0."""
    import tinygrad_llm.kernels as package
    from tinygrad_llm.kernels import _common, gelu_kernel
    from tinygrad_llm.kernels.products import matmul as matmul_file

    found = Library()

    def product(a, b, out, transpose_a, transpose_b, accumulate, tf32):
        matmul_file._on_host(a.host, b.host, out.host, transpose_a, transpose_b, accumulate)
        found.epilogues.append(0)
        return out

    def launched(kernel, *args, **kwargs):
        raise AssertionError(f"{kernel} ran beside the products")

    # as if every fused form had been measured as the faster one
    monkeypatch.setattr(linear_file, "choose", lambda *args: {"fused": 1})
    monkeypatch.setenv("TINYGRAD_LLM_KERNEL_CACHE", str(tmp_path))
    monkeypatch.setattr(package, "why_not", lambda array=None: None)
    monkeypatch.setattr(matmul_file, "_on_gpu", product)
    for module in (_common, gelu_kernel):
        monkeypatch.setattr(module, "launch", launched)
    with stand_in_gpu(monkeypatch):
        use(monkeypatch, found)
        yield found
    assert not found.mistakes


def on_gpu(module):
    """The module in 16 bits, and gradients of its parameters that are summed in float32."""
    module.to("float16").to("cuda")
    buffers = {}
    for name, p in module.named_parameters():
        buffers[name] = GradientSink(DeviceArray(np.full(p.shape, np.nan, np.float32)))
        p.gradient_sink = buffers[name]
    return module, buffers


def inputs():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(B, T, C)).astype(np.float16) for _ in "xy"]


def step(module, x, dy):
    """y and dx."""
    x = tg.Tensor(x, device=module.device, requires_grad=True)
    y = module(x)
    y.backward(tg.Tensor(dy, device=module.device).data)
    return y.numpy(), tg.tensor(x.grad).numpy()


def exact(module, x, dy):
    """y, dx and the parameters' gradients in float64, of the same rounded numbers."""
    module.to("cpu").to("float64")
    values = step(module, x.astype(np.float64), dy.astype(np.float64))
    return values, {name: p.grad for name, p in module.named_parameters()}


def near(found, expected):
    np.testing.assert_allclose(found, expected, atol=4e-3 * np.abs(expected).max())


def test_six_products_and_nothing_else(library):
    tg.manual_seed(3)
    module, buffers = on_gpu(nn.FeedForward(C, hidden=16))
    x, dy = inputs()
    for repeat in range(2):
        library.epilogues.clear()
        found = step(module, x, dy)
        if not repeat:
            module.zero_grad()  # the first step also holds the trials
    assert library.epilogues == [GELU_AUX_BIAS, BIAS, BGRADB, DGELU_BGRAD, 0, 0]
    assert all(p.grad is buffers[name].array for name, p in module.named_parameters())
    expected, gradients = exact(module, x, dy)
    for a, b in zip(found, expected, strict=True):
        near(a, b)
    for name, buffer in buffers.items():
        near(buffer.array.host, gradients[name])


def test_gradients_of_two_batches_are_added(library):
    tg.manual_seed(3)
    module, buffers = on_gpu(nn.FeedForward(C, hidden=16))
    x, dy = inputs()
    step(module, x, dy)
    step(module, dy, x)
    _, first = exact(module, x, dy)
    module.zero_grad()
    _, second = exact(module, dy, x)
    for name, buffer in buffers.items():
        near(buffer.array.host, first[name] + second[name])


def test_a_linear_layer_takes_three_products(library):
    tg.manual_seed(3)
    module, buffers = on_gpu(nn.Linear(C, C))
    x, dy = inputs()
    step(module, x, dy)
    module.zero_grad()
    library.epilogues.clear()
    step(module, x, dy)
    assert library.epilogues == [BIAS, 0, BGRADB]
    _, gradients = exact(module, x, dy)
    for name, buffer in buffers.items():
        near(buffer.array.host, gradients[name])


@pytest.mark.parametrize("wanted", [[i] for i in range(5)] + [[0, 3], [2, 4]], ids=str)
def test_only_what_is_wanted_gets_a_gradient(wanted):
    rng = np.random.default_rng(0)
    shapes = ((2, 4), (6, 4), (6,), (4, 6), (4,))
    arrays = [rng.normal(size=s).astype(np.float32) for s in shapes]
    everything = gradients_of(arrays, range(5), "off")
    for mode in ("off", "force"):
        found = gradients_of(arrays, wanted, mode)
        assert [i for i, g in enumerate(found) if g is not None] == wanted
        for i in wanted:
            np.testing.assert_allclose(found[i], everything[i], rtol=1e-4, atol=1e-5)


def gradients_of(arrays, wanted, mode):
    tensors = [tg.Tensor(a, requires_grad=i in wanted) for i, a in enumerate(arrays)]
    with tg.use_kernels(mode):
        (tg.functional.feed_forward(*tensors) ** 2).sum().backward()
    return [t.grad for t in tensors]


def ops_of(module, x):
    with tg.use_kernels("off"), tg.trace() as t:
        y = module(x)
    return [op.name for op in t.ops], y


def test_the_module_takes_one_op_where_nobody_needs_the_layers(monkeypatch):
    x, _ = inputs()
    small = ["linear", "gelu", "linear"]
    with stand_in_gpu(monkeypatch):
        module = nn.FeedForward(C).to("float16")
        assert ops_of(module, tg.Tensor(x))[0] == small
        moved = tg.Tensor(x, device="cuda")
        module.to("cuda")
        names, fused = ops_of(module, moved)
        assert names == ["feed_forward"]
        for hook in (
            "register_forward_pre_hook",
            "register_forward_hook",
            "register_backward_hook",
        ):
            remove = getattr(module.project, hook)(lambda *args: None)
            names, y = ops_of(module, moved)
            assert names == small
            near(y.numpy().astype(float), fused.numpy().astype(float))
            remove()
        assert ops_of(module, moved)[0] == ["feed_forward"]
        with tg.trace(values=True):  # somebody reads along
            assert ops_of(module, moved)[0] == small
        module.expand = nn.LoRALinear(module.expand, rank=2)
        assert "feed_forward" not in ops_of(module, moved)[0]
        wide = nn.FeedForward(C).to("cuda")
        assert ops_of(wide, tg.Tensor(x.astype(np.float32), device="cuda"))[0] == small


def test_shapes_that_do_not_fit():
    arrays = [np.ones(s) for s in ((2, 4), (6, 4), (6,), (4, 6), (4,))]
    for i, wrong, name in (
        (1, (6, 3), "weight"),
        (2, (5,), "bias"),
        (3, (4, 5), "w2"),
        (4, (3,), "b2"),
    ):
        changed = [tg.Tensor(np.ones(wrong) if j == i else a) for j, a in enumerate(arrays)]
        with pytest.raises(tg.errors.ShapeError, match=f"feed_forward: .*{name}"):
            tg.functional.feed_forward(*changed)
    with pytest.raises(tg.errors.ShapeError, match="b1 and b2 must be arrays"):
        tg.functional.feed_forward(*arrays[:4], None)
