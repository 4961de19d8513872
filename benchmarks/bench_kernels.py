"""The Triton kernels against what the GPU can do, and against PyTorch where it is installed.

    python benchmarks/bench_kernels.py                  # every size, about 20 minutes on an H100
    python benchmarks/bench_kernels.py --quick          # those of a training step, and a few more
    python benchmarks/bench_kernels.py --quick --only attention cross_entropy --no-peers
    python benchmarks/bench_kernels.py --check          # no GPU: each case once in the interpreter

Each row: error against float64, median milliseconds with the 20th and 80th percentile, GB/s or
TFLOP/s, percent of the ceiling measured in the same run (a copy of 1 GiB; a bfloat16 matrix
product of 8192 cubed), registers per thread, and whether a CUDA graph was timed or Python
("timed"). Rows go to --out as JSON lines, each as soon as it is there, the picture beside them. A
case that fails costs no other its row (isolated.py): what breaks the device ends one worker.
TINYGRAD_LLM_AUTOTUNE=1 lets the attention kernels try their configurations first. Without a GPU
the table of registers and shared memory is printed instead, compiled for sm_80, sm_90, sm_100.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path

import bench_sizes
import cases
import kernel_rows
import numpy as np
import torch_peers
from harness import TINY, Report, Row, Timer, gpu_timer
from isolated import GAVE_UP, give_up, in_workers, pieces
from machine import machine

from tinygrad_llm import kernels
from tinygrad_llm.hints import install

RESULTS = Path(__file__).parent / "results"
CEILINGS, PEERS = "ceilings", " peers"  # a piece of its own; what ends the name of a peers' piece
SECONDS = 30.0 if TINY else 60.0  # for one piece


def check() -> int:
    """Every case once in the interpreter at tiny sizes; returns how many are wrong."""
    wrong = 0
    for dtype in ("float32", "bfloat16"):
        for piece in bench_sizes.pieces("tiny"):
            case = bench_sizes.build(piece, np, dtype)
            error = case.error()
            good = error <= case.tolerance
            wrong += not good
            print(
                f"{case.op:22s} {case.shape:20s} {dtype:9s} error {error:.1e}"
                f"{'' if good else '  WRONG'}"
            )
    return wrong


def without_gpu() -> None:
    """What a machine without a GPU can tell."""
    print(
        f"No benchmark: {kernels.why_not()}.\n"
        "What the compiler makes of each kernel for sm_80, sm_90 and sm_100 instead "
        "(bfloat16, default configurations):\n"
    )
    print(kernels.table(kernels.resource_table()))


def with_gpu(options: argparse.Namespace) -> int:
    """Measure everything by workers; returns how many pieces were lost or refused."""
    names = bench_sizes.pieces(
        "tiny" if TINY else "quick" if options.quick else "full", options.only
    )
    reason = "not asked for" if options.no_peers else torch_peers.available()
    print(f"{machine()['gpu']}; peers: {reason or 'PyTorch'}\n", flush=True)
    peers = [] if reason else [name + PEERS for name in names]
    script = [str(Path(__file__).resolve()), "--out", str(options.out), "--dtype", options.dtype]
    script += ["--quick"] * options.quick + ["--no-peers"] * options.no_peers + ["--worker"]
    before = _lines(options.out)
    lost = in_workers(script, [CEILINGS, *names, *peers])
    report = Report(options.out)
    for name, what in lost.items():
        if what != GAVE_UP:  # else its row is written
            report.add(_failure(name, what))
    rows = [json.loads(text) for text in _lines(options.out)[len(before) :]]
    _draw(rows, options.out)
    return sum("refused" in r or "failed" in r for r in rows)


def _failure(name: str, reason: str) -> Row:
    """The row of a piece that gave none."""
    kind, shape, op = (*name.split(), "", "")[:3]
    return {
        "op": op or kind,
        "shape": shape,
        "ran": "peers" if name.endswith(PEERS) else "ours",
        "failed": reason,
    }


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _draw(rows: list[Row], out: Path) -> None:
    roofs = _roofs(out)
    ours = [r for r in rows if r.get("ran") == "ours"]
    if not roofs or not ours:
        return
    try:
        import roofline

        picture = out.with_suffix(".png")
        roofline.draw(ours, picture, roofs["GB/s"], roofs["TFLOP/s"], str(machine()["gpu"]))
        print(f"\nrows: {out}\npicture: {picture}")
    except ImportError:
        print(f"\nrows: {out}\nno picture: matplotlib is not installed. {install('plot')}")


def _roofs(out: Path) -> dict[str, float]:
    """The ceilings that an earlier piece has measured; empty where it failed."""
    found = [r for r in map(json.loads, _lines(out)) if r.get("op") == CEILINGS and "GB/s" in r]
    return {unit: found[-1][unit] for unit in ("GB/s", "TFLOP/s")} if found else {}


def worker(names: list[str], options: argparse.Namespace) -> None:
    """Some pieces in this process, up to the first that breaks it."""
    import cupy

    timer, report = gpu_timer(), Report(options.out)
    budget_ms = 1.0 if TINY else 60.0 if options.quick else 200.0
    for name in pieces(names, SECONDS):
        try:
            if name == CEILINGS:
                _report_ceilings(timer, report, options.quick)
                continue
            case = bench_sizes.build(name.removesuffix(PEERS), cupy, options.dtype)
            given = case, timer, _roofs(options.out), report, budget_ms
            if name.endswith(PEERS):
                kernel_rows.measure_peers(*given)
            else:
                kernel_rows.measure(*given, with_registers=not (TINY or options.no_peers))
            cupy.cuda.runtime.deviceSynchronize()
            cupy.get_default_memory_pool().free_all_blocks()  # the peers have a pool of their own
        except Exception as error:
            traceback.print_exc(file=sys.stdout)
            report.add(_failure(name, f"{type(error).__name__}: {error}".splitlines()[0]))
            give_up()


def _report_ceilings(timer: Timer, report: Report, quick: bool) -> None:
    roofs = kernel_rows.ceilings(timer, 10 if quick else 30)
    problem = kernel_rows.doubt(roofs, machine()["card"])
    print(
        f"ceilings: copy {roofs['GB/s']:.0f} GB/s, bfloat16 matrix product "
        f"{roofs['TFLOP/s']:.0f} TFLOP/s",
        problem,
        sep="\n" if problem else "",
        flush=True,
    )
    report.write({"op": CEILINGS, **roofs, "doubt": problem})


def main(arguments: list[str] | None = None) -> int:
    """Check, measure, or tell what needs no GPU; 0 when no row is wrong, lost or refused."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a training step's sizes, a few more")
    parser.add_argument("--check", action="store_true", help="tiny cases in the interpreter")
    parser.add_argument("--only", nargs="+", choices=sorted(bench_sizes.KINDS), metavar="KIND")
    parser.add_argument("--no-peers", action="store_true", help="our times alone, no registers")
    parser.add_argument("--dtype", default="bfloat16", choices=sorted(cases.TOLERANCE))
    parser.add_argument("--out", type=Path, default=RESULTS / "kernels.jsonl", help="JSON lines")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.check:
        return min(check(), 1)
    if options.worker:
        worker(options.worker, options)
        return 0
    if not kernels.available():
        without_gpu()
        return 0
    return min(with_gpu(options), 1)


if __name__ == "__main__":
    sys.exit(main())
