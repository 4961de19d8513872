"""What every benchmark here does: verify, then time, then write a row.

    report = Report(path)                                  # JSON lines, one row appended at a time
    error = relative_error(actual, expected)
    times = interleaved({"ours": fn, "peer": peer}, host_timer, rounds=20)
    report.add(row("layer_norm", error, tolerance, times["ours"], shape="64x768", dtype="float32"))

A row whose result is wrong gets no time. A ratio between contenders comes from the same run, with
the contenders taking turns, since the speed of a machine drifts. A time is a median with the 20th
and the 80th percentile beside it. The row carries what is needed to read it later: the machine,
the versions, and which code ran.
"""

from __future__ import annotations

import functools
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from machine import machine

from tinygrad_llm.backend import Array

if TYPE_CHECKING:
    from typing import Unpack

Timer = Callable[[Callable[[], object]], float]  # runs a function once; milliseconds

TINY = os.environ.get("GPU_SESSION_TINY") == "1"  # sizes at which an interpreter takes seconds


class Facts(TypedDict, total=False):
    """What was measured, and how: what a benchmark may tell of a row besides its times."""

    shape: str
    dtype: str
    timed: str  # "graph", or why not
    clock: str
    device: str
    tokens_per_s: float
    peak_mb: float
    times_peer: float  # the peer's time over ours
    times_float32_peer: float  # the peer's time in float32 over ours
    instructions: str  # which libraries computed the products, and by what


class Row(Facts, total=False):
    """One measurement; see `row`."""

    op: str
    ran: str
    error: float
    tolerance: float
    refused: str
    failed: str
    ms: float
    ms_20: float
    ms_80: float
    runs: int
    rate: float
    unit: str
    percent_of_ceiling: float
    registers: int | None
    intensity: float  # operations for each byte
    tflops: float
    times_ours: float  # this time over ours


def relative_error(actual: Array, expected: Array) -> float:
    """||actual - expected|| / ||expected|| in float64; NaN anywhere gives infinity."""
    actual = _on_host(actual).astype(np.float64)
    expected = _on_host(expected).astype(np.float64)
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return math.inf
    return float(np.linalg.norm(actual - expected)) / max(float(np.linalg.norm(expected)), 1e-300)


def _on_host(array: Array) -> np.ndarray:
    return array.get() if hasattr(array, "get") else np.asarray(array)


def host_timer(fn: Callable[[], object]) -> float:
    """Milliseconds of one call by the host's clock; for code that runs on the CPU."""
    start = time.perf_counter()
    fn()
    return (time.perf_counter() - start) * 1e3


def gpu_timer() -> Timer:
    """A timer by GPU events; every call starts with a cache that holds none of its inputs."""
    import cupy
    from tinygrad_llm.kernels import tuning

    flush = cupy.empty(1 << 20 if TINY else tuning.FLUSH_BYTES, dtype="int8")
    return functools.partial(tuning.time_once, flush=flush)


def interleaved(
    contenders: dict[str, Callable[[], object]],
    timer: Timer,
    rounds: int = 20,
    warmup: int = 1 if TINY else 3,
) -> dict[str, list[float]]:
    """Milliseconds of each contender, which take turns `rounds` times after a warm-up."""
    for fn in contenders.values():
        for _ in range(warmup):
            fn()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, fn in contenders.items():
            times[name].append(timer(fn))
    return times


def rounds_for(
    fn: Callable[[], object],
    timer: Timer,
    budget_ms: float,
    least: int = 1 if TINY else 5,
    most: int = 200,
) -> int:
    """How many rounds of `fn` fit in a time budget."""
    fn()
    once = min(timer(fn) for _ in range(1 if TINY else 3))
    return max(least, min(most, int(budget_ms / max(once, 1e-3))))


def row(
    op: str,
    error: float,
    tolerance: float,
    times: Sequence[float],
    *,
    work: float = 0.0,
    unit: str = "",
    ceiling: float = 0.0,
    ran: str = "",
    **facts: Unpack[Facts],
) -> Row:
    """One measurement as a dictionary; refused, with no time, where the error is too large.

    work: bytes or floating point operations of one call; unit: "GB/s" or "TFLOP/s"
    ceiling: what the machine reaches in `unit`; ran: which code ran, and why
    """
    result: Row = {"op": op, **facts, "ran": ran, "error": error, "tolerance": tolerance}
    if not error <= tolerance:
        return {**result, "refused": f"error {error:.2e} is above {tolerance:.0e}"}
    low, median, high = np.quantile(times, [0.2, 0.5, 0.8])
    result |= {"ms": float(median), "ms_20": float(low), "ms_80": float(high), "runs": len(times)}
    if work:
        scale = {"GB/s": 1e9, "TFLOP/s": 1e12}[unit]
        rate = work / (float(median) * 1e-3) / scale
        result |= {"rate": rate, "unit": unit}
        if ceiling:
            result["percent_of_ceiling"] = 100 * rate / ceiling
    return result


class Report:
    """Prints rows for people and appends them to a file of JSON lines, each with the machine."""

    def __init__(self, path: str | Path | None) -> None:
        self.path = None if path is None else Path(path)
        self.rows: list[Row] = []
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, result: Row) -> Row:
        """Keep, print and write one row."""
        self.rows.append(result)
        print(line(result), flush=True)
        self.write(result)
        return result

    def write(self, result: Mapping[str, object]) -> None:
        """Append one row to the file, with the machine."""
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**result, **machine()}) + "\n")


def line(result: Row) -> str:
    """A row as one line of text."""
    known = {
        "op",
        "shape",
        "dtype",
        "ran",
        "error",
        "tolerance",
        "ms",
        "ms_20",
        "ms_80",
        "runs",
        "rate",
        "unit",
        "percent_of_ceiling",
        "refused",
        "failed",
        "instructions",
    }
    name = f"{result['op']:26s} {result.get('shape', ''):24s} {result.get('dtype', ''):9s}"
    for problem in ("refused", "failed"):
        if problem in result:
            return f"{name} {result.get('ran', ''):14s} {problem.upper()}: {result[problem]}"
    text = f"{name} {result['ran']:14s} {result['error']:8.1e} {result['ms']:10.4f} ms"
    text += f" [{result['ms_20']:.4f}, {result['ms_80']:.4f}]"
    if "rate" in result:
        text += f" {result['rate']:9.1f} {result['unit']}"
    if "percent_of_ceiling" in result:
        text += f" {result['percent_of_ceiling']:5.1f} %"
    rest = {key: value for key, value in result.items() if key not in known}
    return text + "".join(f"  {key}={value}" for key, value in rest.items())
