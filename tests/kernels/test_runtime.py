"""launch() on NumPy arrays: what the interpreter gets right, detects, and leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import ml_dtypes
import numpy as np
import pytest
import triton
import triton.language as tl
from tinygrad_llm.kernels import _runtime

from tinygrad_llm import kernels


@triton.jit
def double_kernel(X, Y, n, limit, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(X + index, mask=index < limit)
    tl.store(Y + index, x * 2, mask=index < n)


@triton.jit
def dot_kernel(A, B, C, N: tl.constexpr):
    i, j = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    c = tl.dot(tl.load(A + i * N + j), tl.load(B + i * N + j))
    tl.store(C + i * N + j, c.to(C.dtype.element_ty))


@triton.jit
def loop_kernel(X, Out, n, last, BLOCK: tl.constexpr):
    """Bounds known at run time, a scalar mask with a block mask, a nested jitted function."""
    total = tl.zeros([], tl.float32)
    for start in range(0, n, BLOCK):
        index = start + tl.arange(0, BLOCK)
        present = last >= start
        total += tl.sum(tl.load(X + index, mask=(index < n) & present, other=0.0), 0)
    tl.store(Out, total)


def _double(n, limit, size):
    x, y = np.arange(size, dtype=np.float32), np.zeros(size, np.float32)
    kernels.launch(double_kernel, (1,), x, y, n, limit, BLOCK=16)
    return y


def test_masked_lanes_touch_nothing():
    np.testing.assert_array_equal(_double(5, 5, 7), [0, 2, 4, 6, 8, 0, 0])


@pytest.mark.parametrize(("n", "limit", "access"), [(7, 8, "load"), (8, 7, "store")])
def test_access_out_of_bounds_is_an_error(n, limit, access):
    with pytest.raises(
        kernels.KernelError, match=f"double_kernel: {access} out of bounds in .* 1 of 8 elements"
    ):
        _double(n, limit, 7)


def test_views_may_touch_only_what_they_span():
    base = np.zeros(64, np.float32)
    with pytest.raises(kernels.KernelError, match="out of bounds"):
        kernels.launch(double_kernel, (1,), base[16:20], base[16:20], 4, 5, BLOCK=8)


def test_bfloat16_is_computed_in_float32_and_rounded_to_even():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 16, 16)).astype(ml_dtypes.bfloat16)
    c = np.empty((16, 16), ml_dtypes.bfloat16)
    kernels.launch(dot_kernel, (1,), a, b, c, N=16)
    expected = (a.astype(np.float32) @ b.astype(np.float32)).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(c, expected)


def test_loops_masks_and_nested_functions():
    x, out = np.arange(20, dtype=np.float32), np.zeros(1, np.float32)
    kernels.launch(loop_kernel, (1,), x, out, 20, 9, BLOCK=8)
    assert out[0] == x[:16].sum()


def test_the_language_is_as_before_after_a_launch_even_a_failed_one():
    before = tl.load, tl.sum, tl.core.load, tl.tensor.to, triton.JITFunction.__call__
    with pytest.raises(kernels.KernelError):
        _double(8, 8, 7)
    assert before == (tl.load, tl.sum, tl.core.load, tl.tensor.to, triton.JITFunction.__call__)


def test_interpreting_and_compiling_alternate_in_one_process():
    for _ in range(2):
        _double(5, 5, 7)
        with kernels.compile_only(90) as compiled:
            _double(5, 5, 7)
        assert [k.metadata.name for k in compiled] == ["double_kernel"]


def test_an_empty_grid_launches_nothing():
    x = np.zeros(4, np.float32)
    kernels.launch(double_kernel, (0,), x, x, 100, 100, BLOCK=16)


@pytest.mark.parametrize(
    ("args", "constants", "words"),
    [((4, 4), {}, "no value for BLOCK"), (([1.0], 4), {"BLOCK": 16}, "argument n is a list")],
)
def test_wrong_arguments(args, constants, words):
    x = np.zeros(4, np.float32)
    with pytest.raises(kernels.KernelError, match=words):
        kernels.launch(double_kernel, (1,), x, x, *args, **constants)


def test_missing_cupy_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    _runtime.why_no_gpu.cache_clear()
    try:
        assert "CuPy is not installed; install it with: pip install" in kernels.why_not()
        assert not kernels.available()
        for refused in (kernels.do_bench, kernels.capture):
            with pytest.raises(kernels.KernelError, match="CuPy is not installed"):
                refused(lambda: None)
    finally:
        _runtime.why_no_gpu.cache_clear()


def test_numpy_arrays_need_triton_only(monkeypatch):
    assert kernels.available(np.zeros(1))
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "Triton is not installed" in kernels.why_not(np.zeros(1))


def test_decisions_are_counted():
    kernels.note_dispatch("an_op_of_this_test", "array code", "its reason")
    kernels.note_dispatch("an_op_of_this_test", "array code", "its reason")
    (line,) = [x for x in kernels.explain_dispatch().splitlines() if "an_op_of_this_test" in x]
    assert line.split() == ["2", "an_op_of_this_test", "array", "code", "its", "reason"]


def _run(script, **environment):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        text=True,
        capture_output=True,
        env={**os.environ, **environment},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_imports_neither_triton_nor_cupy():
    assert (
        _run("""
        import sys
        from tinygrad_llm import kernels
        print("triton" in sys.modules, "cupy" in sys.modules, "torch" in sys.modules)
        """)
        == "False False False\n"
    )


def test_everything_runs_and_compiles_where_torch_cannot_be_imported():
    """All kernels forward and backward in the interpreter, and one compiled."""
    assert (
        _run("""
        import sys
        class Forbidden:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name.partition(".")[0] == "torch":
                    raise ImportError("torch is forbidden here")
        sys.meta_path.insert(0, Forbidden)
        import numpy as np
        from tinygrad_llm import kernels as k
        x, w = np.ones((3, 8), np.float32), np.ones(8, np.float32)
        ids = np.array([1, 2, 1])
        y, mean, rstd = k.layer_norm(x, w, w)
        k.layer_norm_backward(x, x, w, mean, rstd)
        k.softmax_backward(x, k.softmax(x))
        k.bias_gelu_backward(x, k.bias_gelu(x, w), w)
        k.dropout(x, 0.5, (1, 2))
        k.linear_cross_entropy(x, np.ones((5, 8), np.float32), ids)
        k.embedding_backward(k.embedding(ids, x), ids, 3)
        q = np.ones((1, 2, 5, 16), np.float32)
        o, lse = k.attention(q, q, q, True)
        k.attention_backward(q, q, q, q, o, lse, True)
        k.attention_decode(q[:, :, :1], q, q)
        k.adamw(w, w, w, w, lr=0.1, step=1, clip=k.clip_factor(x, 1.0)[1:])
        with k.compile_only(80) as compiled:
            k.softmax(x)
        print(len(compiled), "torch" in sys.modules)
        """)
        == "1 False\n"
    )


def test_with_the_variable_of_triton_set():
    """TRITON_INTERPRET=1 still interprets, and says why it compiles nothing."""
    assert "unset it before the first import" in _run(
        """
        import numpy as np
        from tinygrad_llm import kernels
        x = np.zeros((2, 3), np.float32)
        assert np.allclose(kernels.softmax(x), 1 / 3)
        try:
            with kernels.compile_only(90):
                kernels.softmax(x)
        except kernels.KernelError as error:
            print(error)
        """,
        TRITON_INTERPRET="1",
    )


def test_without_triton_a_kernel_says_what_to_install():
    assert "Triton is not installed; install it with: pip install" in _run("""
        import sys
        class Forbidden:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name.partition(".")[0] == "triton":
                    raise ModuleNotFoundError("no triton here", name="triton")
        sys.meta_path.insert(0, Forbidden)
        from tinygrad_llm import kernels
        try:
            kernels.softmax
        except kernels.KernelError as error:
            print(error)
        """)
