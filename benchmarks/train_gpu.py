"""GPT-2 124M on one GPU: this project against PyTorch, eager and compiled. For bench_train.py.

    python benchmarks/bench_train.py --device cuda                  # B = 16, 32, 64; T = 1024; bf16
    python benchmarks/bench_train.py --device cuda --quick          # B = 32 alone, for ten minutes
    python benchmarks/bench_train.py --device cuda --breakdown      # our step op by op
    python benchmarks/train_gpu.py model 32                         # what it must cost (no GPU)
    python benchmarks/train_gpu.py kernels 32 90                    # its kernels, compiled (no GPU)

All contenders train on the same ids with bf16 matrix products, fused attention, clipping and fused
AdamW. Each measurement is a process; the contenders take turns. A step ends when its loss is on
the host.
"""

from __future__ import annotations

import faulthandler
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TypedDict

import numpy as np
from gpu_steps import gpt2, our_step, torch_step
from machine import Machine, machine
from train_sizes import Size, python_file

OURS, EAGER, COMPILED = "tinygrad_llm", "torch eager", "torch.compile"
CONTENDERS = (OURS, EAGER, COMPILED)
LEARNED = 0.2  # the part of what frequencies alone can give that a right run has gained at its end
REPORT = '{"times": '  # how a worker's report begins
STUCK = 90.0  # seconds after which a worker says where it is; torch.compile takes 35


class Report(TypedDict, total=False):
    """What a worker tells; `problem` alone where it failed."""

    times: list[float]  # seconds of each step
    losses: list[float]
    peak: int  # bytes on the GPU
    warm_s: float
    fallbacks: list[str]
    problem: str


class Row(Machine):
    """A contender at one batch size."""

    op: str
    contender: str
    batch: int
    dtype: str
    tokens_per_second: float
    ms: float
    mfu: float | None
    peak_gb: float
    warm_s: float
    fallbacks: list[str]
    ratio: float  # our speed over this one
    first_loss: float
    last_loss: float


def peak_device_bytes(contender: str) -> int:
    """What the process holds on the GPU, context included: neither allocator gives memory back."""
    if contender == OURS:
        import cupy

        free, total = cupy.cuda.runtime.memGetInfo()
    else:
        import torch

        free, total = torch.cuda.mem_get_info()
    return total - free


def fallbacks() -> list[str]:
    """What of our step did not run as it should, each with the reason."""
    import cupy
    from tinygrad_llm.kernels.products import epilogues

    from tinygrad_llm import kernels

    lines = kernels.explain_dispatch().splitlines()
    slow = [" ".join(line.split()) for line in lines if "array code" in line]
    reason = epilogues.fallbacks(cupy.cuda.runtime.getDevice())
    return slow + ([reason] if reason else [])


def worker(contender: str, batch: int, steps: int) -> None:
    """One process: warm up, time, print one JSON line."""
    faulthandler.dump_traceback_later(STUCK, repeat=True)
    begun = time.perf_counter()
    size = gpt2(batch)
    step = our_step(size) if contender == OURS else torch_step(size, contender == COMPILED)
    inputs, targets = size.batches(1)[0]
    losses = [step(inputs, targets) for _ in range(3)]
    warm = time.perf_counter() - begun
    print(f"  {contender}: {warm:.0f} s until it was warm", flush=True)
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        losses.append(step(inputs, targets))
        times.append(time.perf_counter() - start)
    report: Report = {
        "times": times,
        "losses": losses,
        "peak": peak_device_bytes(contender),
        "warm_s": warm,
        "fallbacks": fallbacks() if contender == OURS else [],
    }
    faulthandler.cancel_dump_traceback_later()
    sys.stdout.write(f"\n{json.dumps(report)}\n")  # one line of its own, whoever else writes


def run_once(contender: str, batch: int, steps: int) -> Report:
    """A worker's report, or {"problem": ...}. All else that it says is printed as it comes."""
    command = [sys.executable, python_file("train_gpu.py"), "worker", contender]
    said = ["failed without a word"]
    with subprocess.Popen(
        [*command, str(batch), str(steps)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            said += [line.strip()] if line.strip() else []
            if not line.startswith(REPORT):
                print(line, end="", flush=True)
    reports = [line for line in said if line.startswith(REPORT)]
    if process.returncode or not reports:
        return {"problem": said[-1]}
    report: Report = json.loads(reports[-1])
    return report


def compare(
    batch: int, rounds: int, results: Path, contenders: tuple[str, ...] = CONTENDERS
) -> bool:
    """Contenders on one batch size, in turns; prints and records each when it is done.

    Returns whether our own step did what it should.
    """
    size = gpt2(batch)
    found: dict[str, list[Report]] = {name: [] for name in contenders}
    print(f"\n{size.title}, bf16, one GPU", flush=True)
    for last in [False] * (rounds - 1) + [True]:
        for name, reports in found.items():
            if not any("problem" in r for r in reports):
                reports.append(run_once(name, batch, size.steps))
            if last:
                _record(name, reports, size, _tokens_per_second(found[OURS], size), results)
    return not _problem(found[OURS], size)


def _problem(reports: list[Report], size: Size) -> str:
    return next((r["problem"] for r in reports if "problem" in r), "") or _wrong(reports, size)


def _record(
    name: str, reports: list[Report], size: Size, ours: float | None, results: Path
) -> None:
    """Print a contender's row and write it."""
    problem = _problem(reports, size)
    speed = _tokens_per_second(reports, size)
    if problem or speed is None:
        print(f"  {name:16}{problem}", flush=True)
        return
    row = _row(name, reports, size, speed, ours)
    print(
        f"  {name:16}{row['tokens_per_second']:>10,.0f} tokens/s  {row['ms']:>8.1f} ms  "
        f"MFU {row['mfu'] or 0:.1%}  {row['peak_gb']:>6.1f} GB  ours / this {row['ratio']:.2f}",
        *row["fallbacks"],
        sep="\n    ",
        flush=True,
    )
    with open(results, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _wrong(reports: list[Report], size: Size) -> str:
    """Why these are not the losses of a GPT that learns one batch by heart, or ""."""
    floor, start = size.unigram_entropy(), float(np.log(size.vocabulary))
    for losses in (r["losses"] for r in reports):
        if not np.isfinite(losses).all() or abs(losses[0] - start) > 0.05 * start:
            return f"refused: the first loss is {losses[0]:.3f}, not near {start:.3f}"
        if losses[-1] > losses[0] - LEARNED * (losses[0] - floor):
            return f"refused: the loss only fell from {losses[0]:.3f} to {losses[-1]:.3f}"
    return ""


def _tokens_per_second(reports: list[Report], size: Size) -> float | None:
    times = [t for r in reports for t in r.get("times", [])]
    return size.batch * size.context / median(times) if times else None


def _row(name: str, reports: list[Report], size: Size, speed: float, ours: float | None) -> Row:
    import tinygrad_llm as tg
    from tinygrad_llm.training.report import utilization as chips

    config = tg.nn.GPTConfig(size.vocabulary, size.context, size.n_layer, size.n_head, size.n_embd)
    return {
        "op": "train_step gpt2-124m",
        "contender": name,
        "batch": size.batch,
        "dtype": "bfloat16",
        "tokens_per_second": speed,
        "ms": 1e3 * size.batch * size.context / speed,
        "mfu": chips.utilization(speed, config, chips.peak_flops(chips.gpu_name())),
        "peak_gb": max(r["peak"] for r in reports) / 1e9,
        "warm_s": reports[0]["warm_s"],
        "fallbacks": reports[0]["fallbacks"],
        "ratio": (ours or 0.0) / speed,
        "first_loss": reports[0]["losses"][0],
        "last_loss": reports[0]["losses"][-1],
        **machine(),
    }


def main(quick: bool, with_breakdown: bool, results: Path) -> None:
    """The table for one or three batch sizes; or the breakdown."""
    if with_breakdown:
        command("breakdown", "32")
        return
    results.parent.mkdir(parents=True, exist_ok=True)
    for batch in (32,) if quick else (16, 32, 64):
        compare(batch, 1 if quick else 2, results)


def command(what: str, *arguments: str) -> None:
    """What gpu_session.py runs: worker, first, compare, breakdown, model."""
    if what == "worker":
        worker(arguments[0], *map(int, arguments[1:]))
    elif what in ("first", "compare"):
        results = Path(arguments[0]) / "train_cuda.jsonl"
        contenders = (OURS,) if what == "first" else CONTENDERS
        if not all([compare(int(batch), 1, results, contenders) for batch in arguments[1:]]):
            raise SystemExit("our own step failed")
    elif what == "breakdown":
        from gpu_breakdown import breakdown

        breakdown(int(arguments[0]), *map(Path, arguments[1:]))
    elif what == "kernels":
        from step_trace import print_table

        print_table(*map(int, arguments))
    elif what == "model":
        from gpu_model import print_model

        n_rows = int(arguments[0]) if arguments else 32
        print_model(gpt2(n_rows), n_rows)
    elif what in ("-h", "--help"):
        print(__doc__)
    else:
        raise SystemExit(f"train_gpu.py: there is no {what!r}.\n\n{__doc__}")


if __name__ == "__main__":
    command(*(sys.argv[1:] or ["--help"]))
