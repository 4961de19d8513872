"""The Triton kernels against what the GPU can do, and against PyTorch where it is installed.

    python benchmarks/bench_kernels.py                  every size, about 20 minutes on an H100
    python benchmarks/bench_kernels.py --quick          one size of each, within 5 minutes
    python benchmarks/bench_kernels.py --check          no GPU: each case once in the interpreter

On a machine with a GPU, one command runs the tests on it and then the benchmark:

    python -m pytest tests/kernels -m gpu && python benchmarks/bench_kernels.py --quick

Each row: error against float64, median milliseconds with the 20th and 80th percentile, GB/s or
TFLOP/s, percent of the ceiling measured in the same run (a copy of 1 GiB; a bfloat16 matrix
product of 8192 cubed), registers per thread. Rows go to --out as JSON lines, the picture beside
them. TINYGRAD_LLM_AUTOTUNE=1 lets the attention kernels try their configurations first. Without a
GPU the table of registers and shared memory is printed instead, compiled for sm_80, sm_90, sm_100.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attention_cases
import kernel_cases
import numpy as np
import torch_peers
from harness import Report, Row, gpu_timer, interleaved, machine, relative_error, rounds_for, row
from kernel_cases import Case

from tinygrad_llm import kernels

RESULTS = Path(__file__).parent / "results"
Builder = Callable[[Any, str], Iterator[Case]]
BUDGET_MS = {True: 60.0, False: 200.0}  # for the runs of one contender; key: --quick
NOT_COMPARED = {"dropout", "adamw"}  # random, and in place


def builders(size: str) -> list[Builder]:
    """The cases at "tiny", "quick" or "full" sizes."""
    rows = {"tiny": [(9, 48)], "quick": [(65536, 768)],
            "full": [(65536, 768), (65536, 1024), (65536, 1600), (32768, 4096), (8192, 16384)]}
    vocabulary = {"tiny": [(5, 99)], "quick": [(8192, 50304)],
                  "full": [(8192, 32768), (8192, 50304), (4096, 131072)]}
    flat = {"tiny": [999], "quick": [124_000_000], "full": [124_000_000, 355_000_000]}
    heads = {"tiny": [(1, 2, 33, 16)],
             "quick": [(16, 12, 1024, 64), (4, 16, 4096, 64), (4, 16, 4096, 128)],
             "full": [(64, 12, 1024, 64), (8, 32, 2048, 64), (4, 32, 4096, 64), (2, 32, 8192, 64),
                      (16, 16, 1024, 128), (4, 16, 4096, 128), (2, 16, 8192, 128),
                      (4, 8, 4096, 256)]}
    caches = {"tiny": [(1, 2, 70, 16)], "quick": [(8, 12, 1024, 64)],
              "full": [(1, 12, 1024, 64), (8, 12, 1024, 64), (64, 12, 1024, 64)]}
    found: list[Builder] = []
    for case in (kernel_cases.softmax, kernel_cases.layer_norm, kernel_cases.bias_gelu,
                 kernel_cases.dropout, kernel_cases.embedding):
        found += [functools.partial(_sized, case, shape) for shape in rows[size]]
    found += [functools.partial(_sized, kernel_cases.cross_entropy, s) for s in vocabulary[size]]
    for optimizer_case in (kernel_cases.adamw, kernel_cases.grad_norm):
        found += [functools.partial(_sized, optimizer_case, (n,)) for n in flat[size]]
    found += [functools.partial(_sized, attention_cases.attention, s) for s in heads[size]]
    found += [functools.partial(_sized, attention_cases.decode, s) for s in caches[size]]
    return found


def _sized(case: Callable[..., Iterator[Case]], shape: tuple[int, ...], xp: Any,
           dtype: str) -> Iterator[Case]:
    return case(xp, dtype, *shape)


def ceilings(timer: Any, quick: bool) -> dict[str, float]:
    """What this GPU reaches: GB/s of a copy, TFLOP/s of a matrix product."""
    import cupy
    import ml_dtypes

    source, target = (cupy.empty(1 << 30, "int8") for _ in range(2))
    n = 8192
    a, b = (cupy.random.standard_normal((n, n), dtype="float32").astype(ml_dtypes.bfloat16)
            for _ in range(2))
    out = cupy.empty_like(a)
    contenders = {"copy": lambda: cupy.copyto(target, source),
                  "matmul": lambda: kernels.matmul(a, b, out)}
    times = interleaved(contenders, timer, 10 if quick else 30)
    copy, product = (float(np.median(times[name])) for name in ("copy", "matmul"))
    return {"GB/s": 2 * source.nbytes / copy / 1e6, "TFLOP/s": 2 * n**3 / product / 1e9}


def registers() -> dict[tuple[str, str], int]:
    """(launch, kernel) -> registers per thread in the default configuration on this GPU."""
    import cupy

    chip = int(cupy.cuda.Device().compute_capability)
    return {(launch, r.name.removesuffix("_kernel")): r.registers
            for launch, r in kernels.resource_table((chip,))}


# op -> (launch, kernel) in kernels/catalog.py; D is the head size of the case
CATALOG_NAME = {
    "softmax": ("softmax", "softmax_forward"), "layer_norm": ("layer_norm", "layer_norm_forward"),
    "layer_norm_backward": ("layer_norm_backward", "layer_norm_backward"),
    "bias_gelu": ("bias_gelu tanh", "bias_gelu_forward"),
    "bias_gelu_backward": ("bias_gelu_backward tanh", "bias_gelu_backward"),
    "dropout": ("dropout", "dropout"), "embedding": ("embedding", "embedding_forward"),
    "embedding_backward": ("embedding_backward", "embedding_backward"),
    "cross_entropy": ("cross_entropy_with_gradient", "cross_entropy_forward"),
    "adamw": ("adamw", "adamw"), "clip_factor": ("clip_factor", "squares"),
    "attention": ("attention D={d}", "attention_forward"),
    "attention_backward": ("attention D={d}", "attention_backward_keys"),
    "attention_decode": ("attention_decode D={d}", "attention_decode"),
}


def registers_of(case: Case, taken: dict[tuple[str, str], int]) -> int | None:
    """Registers of the case's kernel (of dK and dV for attention's backward), None if unknown."""
    launch, kernel = CATALOG_NAME[case.op]
    head_size = case.shape.split()[0].rpartition("x")[2]
    return taken.get((launch.format(d=head_size), kernel))


def measure(case: Case, timer: Any, roofs: dict[str, float],
            taken: dict[tuple[str, str], int], report: Report, quick: bool) -> None:
    """Verify, time with the peers taking turns, and report one row per contender."""
    facts: Row = {"shape": case.shape, "dtype": case.dtype}
    error = case.error()
    if not error <= case.tolerance:
        report.add(row(case.op, error, case.tolerance, [], ran="triton", **facts))
        return
    contenders: dict[str, Callable[[], Any]] = {"triton": case.run}
    errors = {"triton": error}
    if torch_peers.available() is None:
        for name, peer in torch_peers.peers(case).items():
            try:
                errors[name] = _distance(case, peer())
                contenders[name] = peer
            except RuntimeError as problem:  # a backend that does not take this shape
                print(f"  {name}: {str(problem).splitlines()[0]}")
    rounds = rounds_for(case.run, timer, BUDGET_MS[quick])
    times = interleaved(contenders, timer, rounds)
    ours = float(np.median(times["triton"]))
    for name in contenders:
        result = row(case.op, errors[name], 2 * case.tolerance, times[name], work=case.work,
                     unit=case.unit, ceiling=roofs[case.unit], ran=name, **facts)
        if name == "triton":
            result["registers"] = registers_of(case, taken)
            result["intensity"] = round(case.operations / case.bytes, 2)
            result["tflops"] = case.operations / ours / 1e9
        elif "ms" in result:
            result["times_ours"] = float(f"{result['ms'] / ours:.3g}")
        report.add(result)


def _distance(case: Case, theirs: Any) -> float:
    """How far a peer's first result lies from ours; 0 where the two cannot agree bit by bit."""
    if case.op in NOT_COMPARED:
        return 0.0
    ours = case.run()
    if case.op == "cross_entropy":  # the eager peer returns the gradient alone
        ours, theirs = ours[1], theirs[-1] if isinstance(theirs, tuple) else theirs
    first_ours = ours[0] if isinstance(ours, tuple) else ours
    if case.op == "cross_entropy":
        first_ours = ours
    first_theirs = theirs[0] if isinstance(theirs, tuple) else theirs
    if case.op == "clip_factor":
        first_ours, first_theirs = ours[:1], first_theirs.reshape(1)
    return relative_error(first_ours.astype("float32"), first_theirs.detach().float().cpu().numpy())


def check() -> int:
    """Every case once in the interpreter at tiny sizes; returns how many are wrong."""
    wrong = 0
    for dtype in ("float32", "bfloat16"):
        for build in builders("tiny"):
            for case in build(np, dtype):
                error = case.error()
                good = error <= case.tolerance
                wrong += not good
                print(f"{case.op:22s} {case.shape:14s} {dtype:9s} error {error:.1e}"
                      f"{'' if good else '  WRONG'}")
    return wrong


def without_gpu() -> None:
    """What a machine without a GPU can tell."""
    print(f"No benchmark: {kernels.why_not()}.\n"
          "What the compiler makes of each kernel for sm_80, sm_90 and sm_100 instead "
          "(bfloat16, default configurations):\n")
    print(kernels.table(kernels.resource_table()))


def with_gpu(quick: bool, out: Path, dtype: str) -> int:
    """Measure everything; returns how many rows were refused."""
    import cupy

    timer = gpu_timer()
    roofs = ceilings(timer, quick)
    reason = torch_peers.available()
    print(f"{machine()['gpu']}: copy {roofs['GB/s']:.0f} GB/s, bfloat16 matrix product "
          f"{roofs['TFLOP/s']:.0f} TFLOP/s; peers: {reason or 'PyTorch'}\n")
    report, taken = Report(out), registers()
    for build in builders("quick" if quick else "full"):
        for case in build(cupy, dtype):
            measure(case, timer, roofs, taken, report, quick)
        cupy.get_default_memory_pool().free_all_blocks()
    picture = out.with_suffix(".png")
    ours = [r for r in report.rows if r["ran"] == "triton"]
    try:
        import roofline

        roofline.draw(ours, picture, roofs["GB/s"], roofs["TFLOP/s"], str(machine()["gpu"]))
        print(f"\nrows: {out}\npicture: {picture}")
    except ImportError:
        print(f"\nrows: {out}\nno picture: matplotlib is not installed (pip install matplotlib)")
    return sum("refused" in r for r in report.rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one size of each kernel")
    parser.add_argument("--check", action="store_true", help="tiny cases in the interpreter")
    parser.add_argument("--dtype", default="bfloat16", choices=sorted(kernel_cases.TOLERANCE))
    parser.add_argument("--out", type=Path, default=RESULTS / "kernels.jsonl", help="JSON lines")
    options = parser.parse_args(arguments)
    if options.check:
        return min(check(), 1)
    if not kernels.available():
        without_gpu()
        return 0
    return min(with_gpu(options.quick, options.out, options.dtype), 1)


if __name__ == "__main__":
    sys.exit(main())
