"""What only a GPU can show: streams, graphs, timing, sizes that an interpreter would take days for.

The other files of this folder run on a GPU too: pytest tests/kernels -m gpu.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from tinygrad_llm.kernels import tuning

from tests.kernels import kernel_references as reference
from tests.kernels.conftest import DTYPES, Device
from tinygrad_llm import kernels

pytestmark = pytest.mark.gpu
cupy = pytest.importorskip("cupy")


@pytest.fixture
def gpu():
    return Device("gpu")


def test_kernels_can_run_here():
    assert kernels.why_not() is None


def test_a_launch_follows_the_stream_it_is_made_on(gpu):
    x = gpu.put(gpu.normal((4096, 1024)))
    expected = kernels.softmax(x).get()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        y = kernels.softmax(x)
    stream.synchronize()
    np.testing.assert_array_equal(y.get(), expected)


def test_the_thin_path_sees_new_addresses_and_sizes(gpu):
    for rows in (8, 8, 24, 56):
        x = gpu.normal((rows, 96))
        gpu.check(kernels.softmax(gpu.put(x)), reference.softmax(x), "float32")


def test_a_graph_replays_with_what_stands_in_device_memory(gpu):
    """AdamW with rate, step, clip factor and dropout key in device memory, captured once."""
    state = [
        gpu.normal((5000,)),
        gpu.normal((5000,)),
        np.zeros(5000, np.float32),
        np.zeros(5000, np.float32),
    ]
    p, g, m, v = map(gpu.put, state)
    lr, step = gpu.put(np.array([0.1], np.float32)), gpu.put(np.array([1], np.int32))
    key = gpu.put(np.array([1, 2], np.uint32))

    def one_step():
        dropped = kernels.dropout(g, 0.5, key)
        clip = kernels.clip_factor(dropped, 1.0)
        kernels.adamw(p, dropped, m, v, lr=lr, step=step, clip=clip[1:])
        return clip

    graph = kernels.capture(one_step)
    for array, start in zip((p, g, m, v), state, strict=True):
        array.set(start)
    expected = state
    for number in (1, 2, 3):
        lr.set(np.array([0.1 / number], np.float32))
        step.set(np.array([number], np.int32))
        key.set(np.array([number, 7], np.uint32))
        graph.replay()
        keep = reference.keep((number, 7), np.arange(5000), 0.5)
        gradient = np.where(keep, expected[1].astype(np.float64) * 2, 0)
        gradient *= min(1, 1 / (np.linalg.norm(gradient) + 1e-6))
        new = reference.adamw(
            expected[0],
            gradient,
            expected[2],
            expected[3],
            0.1 / number,
            number,
            (0.9, 0.999),
            1e-8,
            0.01,
            1.0,
        )
        expected = [new[0], expected[1], new[1], new[2]]
    gpu.check(p, expected[0], "float32", factor=10)


def test_capture_of_something_that_waits_is_refused(gpu):
    x = gpu.put(gpu.normal((8, 8)))
    with pytest.raises(kernels.KernelError, match="a graph cannot record"):
        kernels.capture(lambda: float(kernels.softmax(x).sum()))
    np.testing.assert_allclose(kernels.softmax(x).get().sum(), 8, rtol=1e-5)


def test_bench_is_no_faster_than_memory(gpu):
    x = cupy.zeros((8192, 8192), "float32")
    y = cupy.empty_like(x)
    median, low, high = kernels.do_bench(lambda: kernels.softmax(x, out=y))
    assert 0 < low <= median <= high
    assert 2 * x.nbytes / median / 1e6 < 20_000  # GB/s; no memory today is that fast


def test_attention_is_tuned_and_the_choice_kept(gpu, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGRAD_LLM_AUTOTUNE", "1")
    monkeypatch.setenv("TINYGRAD_LLM_KERNEL_CACHE", str(tmp_path))
    q, k, v, do = (gpu.normal((2, 3, 300, 64), "bfloat16") for _ in range(4))
    moved = [gpu.put(a) for a in (q, k, v)]
    o, lse = kernels.attention(*moved, True)
    *expected, _ = reference.attention(q, k, v, do, True)
    for deterministic in (False, True):
        gradients = kernels.attention_backward(
            gpu.put(do), *moved, o, lse, True, deterministic=deterministic
        )
        for actual, wanted in zip((o, *gradients), expected, strict=True):
            gpu.check(actual, wanted, "bfloat16", factor=2)
    (file,) = tmp_path.glob("*.json")
    kept = {name.split()[0] for name in tuning._load(file)}
    assert kept >= {"attention_backward_keys", "attention_backward_queries"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("t", "d", "causal"),
    [(2048, 64, True), (1000, 128, True), (777, 256, False), (4096, 64, False)],
)
def test_long_attention(gpu, dtype, t, d, causal):
    q, k, v, do = (gpu.normal((1, 2, t, d), dtype) for _ in range(4))
    moved = [gpu.put(a) for a in (q, k, v)]
    o, lse = kernels.attention(*moved, causal)
    gradients = kernels.attention_backward(gpu.put(do), *moved, o, lse, causal)
    *expected, _ = reference.attention(q, k, v, do, causal)
    for actual, wanted in zip((o, *gradients), expected, strict=True):
        gpu.check(actual, wanted, dtype, factor=2)


def test_the_same_bits_in_every_run(gpu):
    """No atomics: gradients that are sums over many programs repeat exactly."""
    x, dy = (gpu.put(gpu.normal((5000, 768), "bfloat16")) for _ in range(2))
    ids = cupy.arange(5000) % 7
    q = gpu.put(gpu.normal((2, 4, 500, 64), "bfloat16"))
    _, mean, rstd = kernels.layer_norm(x)
    o, lse = kernels.attention(q, q, q, True)

    def sums():
        return (
            *kernels.layer_norm_backward(dy, x, None, mean, rstd)[1:],
            kernels.embedding_backward(dy, ids, 7),
            kernels.grad_norm(dy),
            *kernels.attention_backward(q, q, q, q, o, lse, True, deterministic=True),
        )

    first = [a.get() for a in sums()]
    for _ in range(3):
        for a, b in zip(sums(), first, strict=True):
            np.testing.assert_array_equal(a.get(), b)


def test_more_than_two_to_the_31_elements(gpu):
    """Offsets are 64-bit: the last rows of an array of 4 GiB are right."""
    rows, n = 2**31 // 1024 + 5, 1024
    if cupy.cuda.Device().mem_info[0] < 16 << 30:
        pytest.skip("needs 16 GiB of free device memory")
    x = cupy.zeros((rows, n), DTYPES["bfloat16"])
    tail = gpu.normal((5, n), "bfloat16")
    x[-5:] = gpu.put(tail)
    gpu.check(kernels.softmax(x)[-5:], reference.softmax(tail), "bfloat16")
    keep = reference.keep((3, 4), np.arange(rows * n - n, rows * n), 0.5)
    np.testing.assert_array_equal(kernels.dropout(x, 0.5, (3, 4))[-1].get() != 0, keep)


@pytest.mark.parametrize("shape", [(4096, 768, 3072), (33, 77, 129)])
def test_matrix_products_accumulate_in_float32(gpu, shape):
    m, k, n = shape
    a, b = gpu.normal((m, k), "bfloat16"), gpu.normal((k, n), "bfloat16")
    out = cupy.zeros((m, n), "float32")
    for _ in range(2):
        kernels.matmul(gpu.put(a), gpu.put(b), out, accumulate=True)
    gpu.check(out, 2 * a.astype(np.float64) @ b.astype(np.float64), "float32", factor=math.sqrt(k))
