"""The first minute on a GPU: what everything else stands on, one small check after the other.

    python benchmarks/gpu_smoke.py

A kernel, the matrix products, the largest kernels, a graph, then three training steps of a small
GPT in each mode, compared with the CPU. Each check prints a line when it is done, a failing one its
traceback. One that fails ends its process, and another goes on with the next (isolated.py), so that
none suffers from what another has broken. Exit status 0 when all passed.
"""

from __future__ import annotations

import platform
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from harness import TINY, relative_error
from isolated import GAVE_UP, give_up, in_workers, pieces

Check = Callable[[], str]
STEPS, RATE = 3, 1e-3
SECONDS = 30.0  # for one check
CONTEXT, LAYERS, WIDTH, ROWS = (8, 1, 32, 1) if TINY else (64, 2, 128, 4)


def environment() -> str:
    """Versions, the GPU, and whether the kernels can run at all."""
    import cupy
    import ml_dtypes
    import triton

    from tinygrad_llm import kernels
    from tinygrad_llm.training.report import utilization as chips

    reason = kernels.why_not()
    _demand(reason is None, str(reason))
    free, total = cupy.cuda.runtime.memGetInfo()
    return (
        f"{chips.gpu_name()}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free; Python "
        f"{platform.python_version()}, NumPy {np.__version__}, CuPy {cupy.__version__}, Triton "
        f"{triton.__version__}, ml_dtypes {ml_dtypes.__version__}"
    )


def one_kernel() -> str:
    """Softmax, twice: through Triton's launcher, then through ours."""
    import cupy

    from tinygrad_llm import kernels

    x = np.random.default_rng(0).normal(size=(300, 100)).astype(np.float32)
    expected = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    errors = [relative_error(kernels.softmax(cupy.asarray(x)), expected) for _ in range(2)]
    _demand(max(errors) < 1e-5, f"error {max(errors):.1e}")
    return f"error {max(errors):.1e}"


def matrix_products() -> str:
    """cuBLAS in bfloat16 with a float32 sum, added onto an array."""
    import cupy

    from tinygrad_llm import kernels

    a, b = _half(256, 512), _half(384, 512)
    out = cupy.ones((256, 384), "float32")
    kernels.matmul(cupy.asarray(a), cupy.asarray(b), out, transpose_b=True, accumulate=True)
    error = relative_error(out, a.astype(np.float32) @ b.astype(np.float32).T + 1)
    _demand(error < 1e-4, f"error {error:.1e}")
    return f"error {error:.1e}"


def product_with_bias() -> str:
    """cuBLASLt; without it training works too, with one more pass per linear layer."""
    import cupy
    from tinygrad_llm.kernels.products import epilogues

    x, w, b = _half(1024, 768), _half(2304, 768), _half(2304)
    y = epilogues.linear_with_bias(*(cupy.asarray(array) for array in (x, w, b)))
    reason = epilogues.fallbacks(cupy.cuda.runtime.getDevice())
    _demand(y is not None, f"not used: {reason or 'no algorithm for this size'}")
    wide = [array.astype(np.float32) for array in (x, w, b)]
    error = relative_error(y, wide[0] @ wide[1].T + wide[2])
    _demand(error < 1e-2, f"error {error:.1e}")
    return f"error {error:.1e}"


def against_numpy(kind: str, small: str, size: str) -> Check:
    """The kernels of a kind against float64, as bench_kernels.py checks them before timing."""

    def check() -> str:
        import bench_sizes
        import cupy

        said = []
        for op in bench_sizes.KINDS[kind].ops:
            case = bench_sizes.build(f"{kind} {small if TINY else size} {op}", cupy, "bfloat16")
            error = case.error()
            _demand(error <= case.tolerance, f"{op}: error {error:.1e}")
            said.append(f"{op} {error:.0e}")
        return "errors: " + ", ".join(said) + _refusals()

    return check


def _refusals() -> str:
    """What cuBLASLt takes with no type of its vector; it costs a pass over memory more."""
    from tinygrad_llm.kernels.products import epilogues

    trials = epilogues.trials()
    taken = {form.partition(", vector")[0] for form, why in trials.items() if not why}
    refused = sorted(
        f"{form} ({why})"
        for form, why in trials.items()
        if why and form.partition(", vector")[0] not in taken
    )
    return "".join(f"\n{'':47}not fused: {line}" for line in refused)


def a_graph() -> str:
    """What is recorded once follows what stands in its input later."""
    import cupy

    from tinygrad_llm import kernels

    x = cupy.zeros((64, 64), "float32")
    graph = kernels.capture(lambda: (kernels.softmax(x) * 2).sum(axis=1))
    x += cupy.arange(64, dtype="float32")
    error = relative_error(graph.replay(), np.full(64, 2.0))
    _demand(error < 1e-5, f"error {error:.1e}")
    return f"error {error:.1e}"


def training(dtype: str, graph: bool, dropout: float = 0.0, accumulate: int = 1) -> Check:
    """Some steps on the GPU against the same ones on the CPU in float32."""

    def check() -> str:
        here = _losses("cpu", "float32", False, dropout, accumulate)
        there = _losses("cuda", dtype, graph, dropout, accumulate)
        gap = max(abs(a - b) for a, b in zip(here, there, strict=True))
        shown = ", ".join(f"{x:.4f}" for x in there)
        bound = 2e-3 if dtype == "float32" else 5e-2
        _demand(gap < bound, f"losses {shown} differ from the CPU's by {gap:.1e}")
        return f"losses {shown}, off by {gap:.1e}"

    return check


def _losses(device: str, dtype: str, graph: bool, dropout: float, accumulate: int) -> list[float]:
    import tinygrad_llm as tg
    from tinygrad_llm.training.loop_settings import LoopSettings
    from tinygrad_llm.training.steps.captured import CapturedStep
    from tinygrad_llm.training.steps.eager import EagerStep
    from tinygrad_llm.training.steps.loss_scale import LossScale
    from tinygrad_llm.training.steps.precision import Precision, ScaledLoss
    from tinygrad_llm.training.trainer import Trainer

    tg.manual_seed(0)
    config = tg.nn.GPTConfig(501, CONTEXT, n_layer=LAYERS, n_head=2, n_embd=WIDTH, dropout=dropout)
    model = tg.nn.GPT(config).to(device).to(dtype)
    optimizer = tg.optim.AdamW(tg.optim.decay_groups(model, 0.1), lr=RATE)
    settings = LoopSettings(STEPS, accumulate=accumulate, clip=1.0, eval_every=0)
    stepper = CapturedStep() if graph else EagerStep()
    precision = ScaledLoss(LossScale(2.0**10)) if dtype == "float16" else Precision()
    trainer = Trainer(model, optimizer, _Batches(), settings, stepper=stepper, precision=precision)
    return [trainer.train_step().loss for _ in range(STEPS)]


class _Batches:
    """A loader of random ids."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def next_batch(self) -> tuple[np.ndarray, np.ndarray]:
        ids = self.rng.integers(0, 501, (ROWS, CONTEXT + 1))
        return ids[:, :-1], ids[:, 1:]

    def state(self) -> dict[str, object]:
        return {}

    def set_state(self, state: Mapping[str, object]) -> None:
        pass


def _half(*shape: int) -> np.ndarray:
    import ml_dtypes

    return np.random.default_rng(0).normal(size=shape).astype(ml_dtypes.bfloat16)


def _demand(good: bool, problem: str) -> None:
    if not good:
        raise SystemExit(problem)


CHECKS: dict[str, Check] = {
    "environment": environment,
    "one kernel": one_kernel,
    "matrix products": matrix_products,
    "product with bias": product_with_bias,
    "products with GELU and sums": against_numpy("linear", "9x16x48", "1024x768x3072"),
    "cross-entropy": against_numpy("cross_entropy", "5x99x112", "256x50257x50304"),
    "attention": against_numpy("attention", "1x2x33x16", "2x3x1000x64"),
    "a graph": a_graph,
    "step float32": training("float32", False),
    "step bfloat16": training("bfloat16", False),
    "step float32, graph": training("float32", True),
    "step bfloat16, graph": training("bfloat16", True),
    "step float16, graph": training("float16", True),
    "graph, dropout, 2 micro-batches": training("float32", True, 0.1, 2),
}


def main(arguments: list[str] | None = None) -> int:
    """Run all checks; 0 when all passed. With names: those checks in this process."""
    given = sys.argv[1:] if arguments is None else arguments
    if given:
        return worker(given)
    script = str(Path(__file__).resolve())
    begun = time.perf_counter()
    lost = in_workers([script], list(CHECKS))
    for name, reason in lost.items():
        if reason != GAVE_UP:  # its verdict stands above
            print(f"{'LOST':7}{name:32}{'':10}{reason}", flush=True)
    print(f"{len(CHECKS) - len(lost)} of {len(CHECKS)} in {time.perf_counter() - begun:.0f} s")
    return min(len(lost), 1)


def worker(names: list[str]) -> int:
    """The checks of these names, up to the first that fails."""
    for name in pieces(names, SECONDS):
        start = time.perf_counter()
        try:
            verdict, said = "ok", CHECKS[name]()
            _wait_for_the_device()
        except SystemExit as problem:
            verdict, said = "WRONG", str(problem)
        except Exception:
            verdict, said = "FAILED", traceback.format_exc()
        seconds = time.perf_counter() - start
        print(f"{verdict:7}{name:32}{seconds:6.1f} s  {said}", flush=True)
        if verdict != "ok":
            give_up()
    return 0


def _wait_for_the_device() -> None:
    """A launch that went wrong says so here."""
    import cupy

    cupy.cuda.runtime.deviceSynchronize()


if __name__ == "__main__":
    sys.exit(main())
