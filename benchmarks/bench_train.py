"""The training step on this machine: this project against PyTorch, in float32 and bfloat16.

    python benchmarks/bench_train.py                     # the tables for all four sizes
    python benchmarks/bench_train.py --sizes a b --rounds 6
    python benchmarks/bench_train.py --no-torch          # this project alone (PyTorch not needed)
    python benchmarks/bench_train.py --no-bf16           # float32 alone
    python benchmarks/bench_train.py --processor-time    # one thread each, for a busy machine
    python benchmarks/bench_train.py --breakdown         # where the time of our step goes
    python benchmarks/bench_train.py --techniques        # what each technique gains, in float32
    python benchmarks/bench_train.py --beside 1          # how it fares beside a busy process
    python benchmarks/bench_train.py --curve steps.png   # time against tokens, width, vocabulary
    python benchmarks/bench_train.py --device cuda       # GPT-2 124M on a GPU (see train_gpu.py)

Every measurement is a process of its own, so that memory can be compared, and the contenders take
turns, so that a change of the machine's load meets all of them. A step is forward, backward,
clipping of the gradient's norm and AdamW. Losses of the contenders start from different random
weights; their first values are compared to within 5 %, and a contender that computes something
else is refused. Each row says which library computed the products, and by which instructions.

    tinygrad_llm bf16     tg.set_float32_matmul_precision("medium")
    torch bf16            torch.autocast("cpu", dtype=torch.bfloat16) around the forward pass
    torch medium          torch.set_float32_matmul_precision("medium")

Where bfloat16 does not pay, ours in bf16 would be the same as in float32, and is left out.
TINYGRAD_LLM_MATRIX_UNITS=on measures it all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from machine import machine
from train_ablation import print_techniques
from train_breakdown import print_breakdown
from train_busy import print_slowdown
from train_contenders import ONE_THREAD, OURS, Series, check_losses, chosen, measure
from train_curve import draw_curve
from train_instructions import blas_kernels
from train_sizes import SIZES, python_file
from train_table import print_ratios, print_table


def save(rows: Sequence[Mapping[str, object]], folder: Path) -> None:
    """Append the rows to the file of the day, with the machine."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"train_{time.strftime('%Y-%m-%d')}.jsonl"
    where = {
        "machine": platform.machine(),
        "processor": machine()["processor"],
        "system": platform.system(),
        "cores": os.cpu_count(),
        "blas": blas_kernels(),
    }
    with open(path, "a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({**row, **where, "time": time.strftime("%H:%M:%S")}) + "\n")
    print(f"  (saved to {path})")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), metavar="SIZE")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="with --device cuda: one batch size")
    parser.add_argument("--rounds", type=int, default=4, help="processes per contender")
    parser.add_argument("--steps", type=int, help="timed steps per process (default: by size)")
    parser.add_argument("--no-torch", action="store_true", help="this project alone")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--no-bf16", action="store_true", help="leave bfloat16 out")
    parser.add_argument("--tuned", action="store_true", help="also PyTorch with glibc tuned")
    parser.add_argument(
        "--processor-time", action="store_true", help="processor time of one thread each"
    )
    parser.add_argument("--breakdown", action="store_true", help="time by op, and GEMM rate")
    parser.add_argument("--techniques", action="store_true", help="what each technique gains")
    parser.add_argument("--beside", type=int, metavar="N", help="beside N busy processes")
    parser.add_argument("--curve", type=Path, metavar="PNG", help="draw step time against size")
    parser.add_argument("--results", type=Path, default=Path(python_file("results")))
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.device == "cuda":
        import train_gpu

        train_gpu.main(options.quick, options.breakdown, options.results / "train_cuda.jsonl")
        return
    if options.breakdown:
        for size in options.sizes:
            print_breakdown(size, in_bf16=not options.no_bf16)
        return
    if options.curve:
        draw_curve(options.curve, with_torch=not options.no_torch)
        return
    print(f"{machine()['processor']}; NumPy's BLAS: {blas_kernels()}")
    if options.techniques:
        save(print_techniques(options.sizes, options.rounds, options.steps), options.results)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Measure all contenders, size by size; print the rows and save them."""
    found: dict[str, dict[str, Series]] = {}
    clock = "processor, one thread" if options.processor_time else "wall"
    for size in options.sizes:
        if options.beside:
            rows = print_slowdown(size, options.beside, partial(measure_one, size, options))
        else:
            found[size] = measure_one(size, options)
            rows = print_table(size, found[size])
        save([{**row, "clock": clock} for row in rows], options.results)
    if found:
        print_ratios(found)


def measure_one(size: str, options: argparse.Namespace) -> dict[str, Series]:
    """All contenders at one size.

    Raises:
        SystemExit: our own step in float32 failed.
    """
    names = chosen(
        torch=not options.no_torch,
        compiled=not options.no_compile,
        tuned=options.tuned,
        bf16=not options.no_bf16,
    )
    settings = ONE_THREAD if options.processor_time else {}
    steps = options.steps or SIZES[size].steps
    found = measure(size, names, options.rounds, steps, settings)
    if found[OURS].problem:
        raise SystemExit(f"bench_train: our own step failed: {found[OURS].problem}")
    check_losses(found)
    return found


if __name__ == "__main__":
    main()
