"""The stand-in GPU with kernels, and with a stand-in for `kernels.capture` that truly replays.

A CUDA graph holds launches and addresses. What the Python around them decided, a learning rate
passed as a number, a check that copies only when something was edited, is in it as it was at the
time of recording, or not at all. `Replay` is like that: it runs a function once more while every
call on arrays of the stand-in is noted, with the very arrays, and then repeats these calls and
nothing else. A step that needs its Python in between goes wrong here as it would on a GPU.

Kernels run in Triton's interpreter on the host arrays behind the stand-in's, and count as calls.
"""

import contextlib
import sys

import numpy as np

from tests import stand_in_gpu
from tests.stand_in_gpu import MODULE


class Replay:
    """What `kernels.capture` returns, of the stand-in's calls."""

    def __init__(self, launch):
        launch()  # the warm-up
        stand_in_gpu.CALLS = self.calls = []
        try:
            self.result = launch()
        finally:
            stand_in_gpu.CALLS = None

    def replay(self):
        for function, args, kwargs, result in self.calls:
            _put(function(*args, **kwargs), result, args)
        return self.result


def _put(found, result, args):
    """Write what a repeated call found where the recorded call had it."""
    if isinstance(result, (tuple, list)):
        for f, r in zip(found, result, strict=True):
            _put(f, r, args)
    elif isinstance(result, np.ndarray) and not np.may_share_memory(found, result):
        result[...] = found


@contextlib.contextmanager
def gpu_with_kernels(monkeypatch):
    """Inside, ``device="cuda"`` is the stand-in, on which the kernels run; not cuBLASLt."""
    from tinygrad_llm.kernels import _runtime, tuning
    from tinygrad_llm.kernels.products import epilogues
    from tinygrad_llm.kernels.products import matmul as matmul_file

    from tinygrad_llm.training.steps import prefetch

    with stand_in_gpu.stand_in_gpu(monkeypatch) as synchronizations:
        monkeypatch.setitem(sys.modules, "cupy", MODULE)
        monkeypatch.setattr(prefetch, "cuda_module", lambda: MODULE)
        monkeypatch.setattr(_runtime, "why_no_gpu", lambda: None)
        monkeypatch.setattr(_runtime, "_launch_on_gpu", _launch)
        monkeypatch.setattr(_runtime, "_multiprocessors", lambda device: 2)
        monkeypatch.setattr(_runtime, "_device_capability", lambda device: 80)
        monkeypatch.setattr(_runtime, "_device_shared_memory", lambda device: 163 << 10)
        monkeypatch.setattr(matmul_file, "_on_gpu", _product(matmul_file._on_host))
        monkeypatch.setattr(tuning, "_cache_file", lambda folder: None)
        monkeypatch.setattr(tuning, "_load", lambda file: {})
        monkeypatch.setattr(epilogues, "_fits", lambda *arrays: False)
        yield synchronizations


def _launch(kernel, grid, args, num_warps, num_stages, constants):
    from tinygrad_llm.kernels import _runtime

    constants = {name: value for name, value in constants.items() if name != "maxnreg"}
    stand_in_gpu.run(_runtime._interpret, kernel, grid, args, constants)


def _product(on_host):
    def on_gpu(a, b, out, transpose_a, transpose_b, accumulate, tf32):
        stand_in_gpu.run(on_host, a, b, out, transpose_a, transpose_b, accumulate)
        return out

    return on_gpu
