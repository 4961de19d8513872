"""The training step on this machine: this project against PyTorch, eager and compiled.

    python benchmarks/bench_train.py                     # the table for all four sizes
    python benchmarks/bench_train.py --sizes a b --rounds 6
    python benchmarks/bench_train.py --no-torch          # this project alone (PyTorch not needed)
    python benchmarks/bench_train.py --processor-time    # one thread each, for a busy machine
    python benchmarks/bench_train.py --breakdown         # where the time of our step goes
    python benchmarks/bench_train.py --techniques        # what each technique gains
    python benchmarks/bench_train.py --beside 1          # how it fares beside a busy process
    python benchmarks/bench_train.py --curve steps.png   # time against tokens, width, vocabulary
    python benchmarks/bench_train.py --device cuda       # GPT-2 124M on a GPU (see train_gpu.py)

Every measurement is a process of its own, so that memory can be compared, and the contenders take
turns, so that a change of the machine's load meets all of them. A step is forward, backward,
clipping of the gradient's norm and AdamW, in float32. Losses of the contenders start from
different random weights; their first values are compared to within 5 %, and a contender that
computes something else is refused.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from train_ablation import print_techniques
from train_breakdown import print_breakdown
from train_busy import print_slowdown
from train_curve import draw_curve
from train_sizes import SIZES, python_file

OURS, EAGER, COMPILED, TUNED = "tinygrad_llm", "torch eager", "torch.compile", "torch, malloc tuned"
COMMANDS = {
    OURS: ["train_ours.py"],
    EAGER: ["train_torch.py"],
    TUNED: ["train_torch.py"],
    COMPILED: ["train_torch.py", "--compile"],
}
# glibc then keeps large blocks instead of giving them back and having them cleared again.
TUNED_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "8589934592", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
# One thread each, which has nobody to wait for: its processor time hardly depends on other load.
ONE_THREAD = {
    "BENCH_PROCESSOR_TIME": "1",
    "TINYGRAD_LLM_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass
class Series:
    """What the processes of one contender measured.

    Attributes:
        times: seconds of each timed step.
        peaks: peak resident memory of each process in MB.
        losses: of the first process.
        problem: why it did not run, or "".
    """

    times: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    problem: str = ""

    @property
    def median_ms(self) -> float:
        return 1000 * median(self.times)

    @property
    def best_ms(self) -> float:
        return 1000 * min(self.times)


def run_once(
    contender: str, size: str, steps: int, series: Series, settings: dict[str, str]
) -> None:
    """One process: append what it measured to ``series``."""
    script, *options = COMMANDS[contender]
    command = [sys.executable, python_file(script), size, str(steps), *options]
    environment = {**os.environ, **settings, **(TUNED_MALLOC if contender == TUNED else {})}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)
    if done.returncode:
        series.problem = (done.stderr.strip().splitlines() or ["failed"])[-1]
        return
    report = json.loads(done.stdout.strip().splitlines()[-1])
    series.times += report["times"]
    series.peaks.append(report["peak_mb"])
    series.losses = series.losses or report["losses"]


def measure(
    size: str, contenders: list[str], rounds: int, steps: int, settings: dict[str, str]
) -> dict[str, Series]:
    """All contenders, taking turns."""
    found = {name: Series() for name in contenders}
    for _ in range(rounds):
        for name, series in found.items():
            if not series.problem:
                run_once(name, size, steps, series, settings)
    return found


def check_losses(found: dict[str, Series]) -> None:
    """Refuse a contender whose first loss is not ours."""
    ours = found[OURS].losses
    for series in found.values():
        if series.losses and abs(series.losses[0] - ours[0]) > 0.05 * ours[0]:
            series.problem = f"first loss {series.losses[0]:.3f}, ours {ours[0]:.3f}: not compared"


def print_table(size: str, found: dict[str, Series]) -> list[dict[str, object]]:
    """The rows for people; returns them for the JSON file."""
    print(f"\n({size}) {SIZES[size].title}")
    print(f"  {'':22}{'median ms':>10}{'best ms':>10}{'peak MB':>9}  theirs / ours: time, memory")
    ours = found[OURS]
    rows: list[dict[str, object]] = []
    for name, series in found.items():
        if series.problem or not series.times:
            print(f"  {name:22}{series.problem}")
            continue
        peak = max(series.peaks)
        time_ratio = series.median_ms / ours.median_ms
        best_ratio = series.best_ms / ours.best_ms
        memory_ratio = peak / max(ours.peaks)
        print(
            f"  {name:22}{series.median_ms:10.1f}{series.best_ms:10.1f}{peak:9.0f}"
            f"  {time_ratio:6.2f} (best {best_ratio:4.2f}) {memory_ratio:6.2f}"
        )
        rows.append(
            {
                "size": size,
                "contender": name,
                "median_ms": series.median_ms,
                "best_ms": series.best_ms,
                "peak_mb": peak,
                "time_ratio": time_ratio,
                "best_ratio": best_ratio,
                "memory_ratio": memory_ratio,
                "n": len(series.times),
            }
        )
    return rows


def save(rows: Sequence[Mapping[str, object]], folder: Path) -> Path:
    """Write the rows with date and machine."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"train_{time.strftime('%Y-%m-%d')}.jsonl"
    machine = {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "blas": blas_kernels(),
    }
    with open(path, "a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({**row, **machine, "time": time.strftime("%H:%M:%S")}) + "\n")
    return path


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), metavar="SIZE")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="with --device cuda: one batch size")
    parser.add_argument("--rounds", type=int, default=4, help="processes per contender")
    parser.add_argument("--steps", type=int, help="timed steps per process (default: by size)")
    parser.add_argument("--no-torch", action="store_true", help="this project alone")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
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
            print_breakdown(size)
        return
    if options.curve:
        draw_curve(options.curve, with_torch=not options.no_torch)
        return
    print(f"NumPy's BLAS: {blas_kernels()}")
    rows: Sequence[Mapping[str, object]]
    if options.techniques:
        rows = print_techniques(options.sizes, options.rounds, options.steps)
    else:
        rows = [row for size in options.sizes for row in compare(size, options)]
    print(f"\nsaved to {save(rows, options.results)}")


def compare(size: str, options: argparse.Namespace) -> list[dict[str, object]]:
    """Measure all contenders at one size, print and return the rows."""
    steps = options.steps or SIZES[size].steps
    settings = ONE_THREAD if options.processor_time else {}
    peers = [] if options.no_torch else [EAGER]
    peers += [TUNED] * (bool(peers) and options.tuned)
    peers += [COMPILED] * (bool(peers) and not options.no_compile)

    def measure_once() -> dict[str, Series]:
        found = measure(size, [OURS, *peers], options.rounds, steps, settings)
        if found[OURS].problem:
            raise SystemExit(f"bench_train: our own step failed: {found[OURS].problem}")
        check_losses(found)
        return found

    if options.beside:
        return print_slowdown(size, options.beside, measure_once)
    clock = "processor, one thread" if options.processor_time else "wall"
    return [{**row, "clock": clock} for row in print_table(size, measure_once())]


def blas_kernels() -> str:
    """Version and processor type of NumPy's BLAS; a warning where the environment chose it.

    OPENBLAS_CORETYPE makes OpenBLAS use the kernels of an older processor. That is set for older
    versions of it on machines they do not know, and halves the speed of a current one.
    """
    from threadpoolctl import threadpool_info

    found = [
        f"{b['internal_api']} {b['version']}, {b.get('architecture', 'unknown')} kernels"
        for b in threadpool_info()
        if b["user_api"] == "blas"
    ]
    forced = os.environ.get("OPENBLAS_CORETYPE")
    warning = f" (forced by OPENBLAS_CORETYPE={forced}; unset it to compare)" if forced else ""
    return ("; ".join(found) or "not recognized") + warning


if __name__ == "__main__":
    main()
