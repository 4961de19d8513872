"""Data-parallel training on one machine: speed, bytes and overlap by number of processes.

    python benchmarks/bench_scaling.py                       # 1 and 2 processes, one thread each
    python benchmarks/bench_scaling.py --ranks 1 2 4 --out benchmarks/results/scaling.jsonl
    python benchmarks/bench_scaling.py --wire               # over TCP, comparing the bytes that the
                                                             # system counts with the formula

Every process computes the same batch, so the ideal is N times the tokens per second. "silent" are
N processes that do not communicate: what the machine itself loses when all its cores are busy.
The contenders take turns, process by process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

import numpy as np
from machine import machine
from scaling_worker import CONTEXT, Figures

from tinygrad_llm.distributed.buckets import BUCKET_BYTES

WORKER = Path(__file__).with_name("scaling_worker.py")
Spans = list[tuple[str, float, float]]  # name, start, stop in seconds
TCP = {"UCX_TLS": "tcp,self", "MPIR_CVAR_NOLOCAL": "1"}  # MPICH over UCX: no shared memory


class Contender(TypedDict):
    """What is started: on how many ranks, whether they sum, whether the state is in parts."""

    ranks: int
    silent: bool
    shard: bool


class Row(TypedDict):
    """Medians over all steps of all starts of a contender; bytes are those of one step."""

    name: str
    ranks: int
    ms: float
    ms_20: float
    ms_80: float
    steps: int
    tokens_per_second: float
    efficiency: float  # 1 where N ranks take as long as one
    parameters: int
    sent_per_rank: float
    formula_per_rank: float
    on_interface: float
    state_bytes: int
    overlap: float | None


def measure(ranks: int, wire: bool, **chosen: object) -> Figures:
    """The figures of one start of the worker on some ranks.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, str(WORKER), json.dumps(chosen)]
    if ranks > 1:
        command = [str(Path(sys.executable).with_name("mpiexec")), "-n", str(ranks), *command]
    threads = {"TINYGRAD_LLM_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment = {**os.environ, **threads, **(TCP if wire else {})}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench_scaling: {' '.join(command)} failed:\n{done.stderr}")
    figures: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def overlap(spans: Spans) -> float:
    """The part of the time of all sums during which the backward pass ran."""
    backward = next((a, b) for name, a, b in spans if name == "backward")
    sums = [(a, b) for name, a, b in spans if name.startswith("bucket")]
    hidden = sum(max(0.0, min(b, backward[1]) - max(a, backward[0])) for a, b in sums)
    return hidden / max(sum(b - a for a, b in sums), 1e-12)


def draw(spans: Spans, path: Path, title: str) -> None:
    """A timeline of one step of rank 0."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    start = min(a for _, a, _ in spans)
    colors = {"forward": "#8da0cb", "backward": "#fc8d62", "wait": "#d9d9d9", "update": "#66c2a5"}
    buckets = [name for name, _, _ in spans if name.startswith("bucket")]
    figure, ax = pyplot.subplots(figsize=(10, 1.2 + 0.32 * (1 + len(buckets))))
    for name, a, b in spans:
        line = 0 if name in colors else 1 + buckets.index(name)
        color = colors.get(name, "#e78ac3")
        ax.barh(line, 1e3 * (b - a), left=1e3 * (a - start), color=color, edgecolor="white")
        if name in colors and b - a > 0.004:
            ax.text(1e3 * ((a + b) / 2 - start), line, name, ha="center", va="center", fontsize=8)
    ax.set_yticks(range(1 + len(buckets)), ["computation", *[f"sum of {b}" for b in buckets]])
    ax.invert_yaxis()
    ax.set_xlabel("milliseconds")
    ax.set_title(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(f"Wrote {path}")


def contenders(ranks: list[int]) -> dict[str, Contender]:
    """Name -> what to start."""
    table: dict[str, Contender] = {}
    for n in ranks:
        if n > 1:
            table[f"{n} silent"] = {"ranks": n, "silent": True, "shard": False}
            table[f"{n} sharded"] = {"ranks": n, "silent": False, "shard": True}
        table[f"{n}"] = {"ranks": n, "silent": False, "shard": False}
    return table


def summary(name: str, n: int, batch: int, runs: list[Figures], alone: float) -> Row:
    """A row: medians over all steps of all starts."""
    seconds = np.array([s for run in runs for s in run["seconds"]])
    low, median, high = map(float, np.quantile(seconds, [0.2, 0.5, 0.8]))
    last = runs[-1]
    formula = 2 * (n - 1) / n * 4 * last["parameters"] if "silent" not in name else 0.0
    return {
        "name": name,
        "ranks": n,
        "ms": 1e3 * median,
        "ms_20": 1e3 * low,
        "ms_80": 1e3 * high,
        "steps": len(seconds),
        "tokens_per_second": n * batch * CONTEXT / median,
        "efficiency": (alone or median) / median,
        "parameters": last["parameters"],
        "sent_per_rank": last["sent_per_step"],
        "formula_per_rank": formula,
        "on_interface": last["on_interface_per_step"],
        "state_bytes": last["state_bytes"],
        "overlap": overlap(last["spans"]) if formula else None,
    }


def show(row: Row, wire: bool) -> None:
    """A row for people."""
    text = (
        f"{row['name']:>10} {row['ms']:8.1f} ms [{row['ms_20']:.1f}, {row['ms_80']:.1f}] "
        f"{row['tokens_per_second']:9,.0f} tokens/s  efficiency {100 * row['efficiency']:5.1f} %  "
        f"state {row['state_bytes'] / 1e6:6.1f} MB  sent {row['sent_per_rank'] / 1e6:6.2f} MB "
        f"(formula {row['formula_per_rank'] / 1e6:.2f})"
    )
    if row["overlap"] is not None:
        text += f"  {100 * row['overlap']:.0f} % of the sums' time beside the backward pass"
    if wire and row["formula_per_rank"]:
        ratio = row["on_interface"] / (row["ranks"] * row["formula_per_rank"])
        text += f"  interface / formula {ratio:.4f}"
    print(text, flush=True)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=4, help="windows per process and step")
    parser.add_argument("--steps", type=int, default=10, help="timed steps per start")
    parser.add_argument("--rounds", type=int, default=3, help="starts of each contender")
    parser.add_argument("--bucket-mb", type=float, default=BUCKET_BYTES / 2**20)
    parser.add_argument("--wire", action="store_true", help="TCP instead of shared memory")
    parser.add_argument("--out", type=Path, help="append rows of JSON here")
    parser.add_argument("--timeline", type=Path, help="draw a step of the last contender here")
    chosen = parser.parse_args()
    table = contenders(chosen.ranks)
    runs: dict[str, list[Figures]] = {name: [] for name in table}
    for _ in range(chosen.rounds):
        for name, settings in table.items():
            runs[name].append(
                measure(
                    **settings,
                    wire=chosen.wire,
                    batch=chosen.batch,
                    steps=chosen.steps,
                    bucket_bytes=int(chosen.bucket_mb * 2**20),
                )
            )
    alone = 0.0
    for name in sorted(table, key=lambda name: table[name]["ranks"]):
        row = summary(name, table[name]["ranks"], chosen.batch, runs[name], alone)
        alone = alone or row["ms"] / 1e3
        show(row, chosen.wire)
        if chosen.out:
            chosen.out.parent.mkdir(parents=True, exist_ok=True)
            with chosen.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**row, "wire": chosen.wire, **machine()}) + "\n")
    if chosen.timeline:
        n = chosen.ranks[-1]
        draw(runs[str(n)][-1]["spans"], chosen.timeline, f"One training step, rank 0 of {n}")


if __name__ == "__main__":
    main()
