"""The direct calls of cuBLAS: handle, stream and workspace, played by a recorder."""

import contextlib
import ctypes
import sys
import types

import pytest
from tinygrad_llm.kernels.products import cublas

from tinygrad_llm import kernels


@pytest.fixture
def played(monkeypatch):
    """The calls that were made, and switches for the stream, the status and the memory pool."""
    state = types.SimpleNamespace(calls=[], stream=7, status=0, pool=1000)
    cupy = types.ModuleType("cupy")
    cupy.empty = lambda size, dtype: types.SimpleNamespace(
        data=types.SimpleNamespace(ptr=(state.pool or 0) + state.stream)
    )
    cupy.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(getDevice=lambda: 0),
        get_current_stream=lambda: types.SimpleNamespace(ptr=state.stream),
        using_allocator=lambda pool: using(pool),
    )

    @contextlib.contextmanager
    def using(pool):
        before, state.pool = state.pool, pool
        yield
        state.pool = before

    def function(name):
        def call(*arguments):
            assert len(arguments) == len(cublas._ARGUMENTS[name])
            if name == "cublasCreate_v2":
                ctypes.cast(arguments[0], ctypes.POINTER(ctypes.c_void_p))[0] = 42
            state.calls.append((name, arguments[:2]))
            return state.status

        return call

    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cublas, "_handles", cublas._Handles())
    monkeypatch.setattr(cublas, "_functions", lambda: {n: function(n) for n in cublas._ARGUMENTS})
    return state


def test_handle_follows_the_stream_and_keeps_its_workspaces(played):
    product = (0,) * 18
    for stream in (7, 7, 9, 7):
        played.stream = stream
        cublas.gemm_ex(*product)
    names = [name for name, _ in played.calls]
    assert names.count("cublasCreate_v2") == 1
    assert names.count("cublasGemmEx") == 4
    assert [a for n, a in played.calls if n == "cublasSetStream_v2"] == [(42, 7), (42, 9), (42, 7)]
    spaces = [a for n, a in played.calls if n == "cublasSetWorkspace_v2"]
    assert spaces == [(42, 7), (42, 9), (42, 7)]


def test_workspace_is_no_part_of_the_pool_in_use(played):
    """A graph's pool frees its memory with the graph, and CuPy's arrays do not hold their pool."""
    assert cublas.workspace(0, 7) == 7
    assert played.pool == 1000


def test_status_becomes_an_error(played):
    cublas.gemm_strided_batched_ex(*(0,) * 22)
    played.status = 13
    with pytest.raises(kernels.KernelError, match="cublasGemmStridedBatchedEx .* status 13"):
        cublas.gemm_strided_batched_ex(*(0,) * 22)
