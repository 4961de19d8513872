"""A row of bench_kernels.py: a case verified and timed, alone or taking turns with its peers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch_peers
from cases import CHECKED_ROWS, Case
from harness import TINY, Facts, Report, Timer, interleaved, relative_error, rounds_for, row
from tinygrad_llm.kernels import tuning

from tinygrad_llm import kernels

NOT_COMPARED = {"dropout", "adamw", "head_dw"}  # random, in place, added up


def ceilings(timer: Timer, rounds: int) -> dict[str, float]:
    """What this GPU reaches: GB/s of a copy, TFLOP/s of a matrix product."""
    import cupy
    import ml_dtypes

    n, n_bytes = (64, 1 << 16) if TINY else (8192, 1 << 30)
    source, target = (cupy.zeros(n_bytes, "int8") for _ in range(2))
    a, b = (
        cupy.random.standard_normal((n, n), dtype="float32").astype(ml_dtypes.bfloat16)
        for _ in range(2)
    )
    out = cupy.empty_like(a)
    # The driver's own copy: cupy.copyto, a kernel, reached 2.8 of its 4.2 TB/s on an H200.
    copy = functools.partial(target.data.copy_from_device_async, source.data, n_bytes)
    contenders = {
        "copy": tuning.prepare(copy),
        "matmul": tuning.prepare(lambda: kernels.matmul(a, b, out)),
    }
    times = interleaved(contenders, timer, rounds)
    moved, product = (float(np.median(times[name])) for name in ("copy", "matmul"))
    return {"GB/s": 2 * n_bytes / moved / 1e6, "TFLOP/s": 2 * n**3 / product / 1e9}


def doubt(roofs: dict[str, float], card: str | None) -> str:
    """Why these ceilings are not those of the card, or ""."""
    from tinygrad_llm.training.report import utilization as chips

    known = dict(zip(("GB/s", "TFLOP/s"), chips.MEASURED.get(card or "", ()), strict=False))
    low = [
        f"{roofs[unit]:.0f} of {rate:.0f} {unit}"
        for unit, rate in known.items()
        if roofs[unit] < 0.85 * rate
    ]
    if not low:
        return ""
    return (
        f"{' and '.join(low)} of another {card}: something else may be running on it, or it is "
        "slowed down by power or heat; nvidia-smi says"
    )


def registers_of(case: Case) -> int | None:
    """Registers per thread of the case's kernel on this GPU, None if unknown.

    Of the default configuration; of the most hungry kernel where there are several.
    """
    import cupy
    from tinygrad_llm.kernels import catalog

    launch = {
        "attention": "attention D={d}",
        "attention_decode": "attention_decode D={d}",
        "attention_backward": "attention D={d}",
        "bias_gelu": "bias_gelu tanh",
        "bias_gelu_backward": "bias_gelu_backward tanh",
        "cross_entropy": "cross_entropy_with_gradient",
    }.get(case.op, case.op)
    head_size = case.shape.split()[0].rpartition("x")[2]
    call = catalog.launches("bfloat16").get(launch.format(d=head_size))
    if call is None:
        return None
    found = catalog.measure({launch: call}, (int(cupy.cuda.Device().compute_capability),))
    part = {"attention": "forward", "attention_backward": "backward"}.get(case.op, "")
    return max((r.registers for _, r in found if part in r.name), default=None)


def measure(
    case: Case,
    timer: Timer,
    roofs: dict[str, float],
    report: Report,
    budget_ms: float,
    with_registers: bool = True,
) -> None:
    """Verify, time, and report our row."""
    facts: Facts = {"shape": case.shape, "dtype": case.dtype}
    error = case.error()
    if not error <= case.tolerance:
        report.add(row(case.op, error, case.tolerance, [], ran="ours", **facts))
        return
    timed = tuning.prepare(case.run)
    facts["timed"] = timed.how
    times = interleaved({"ours": timed}, timer, rounds_for(timed, timer, budget_ms))["ours"]
    result = row(
        case.op,
        error,
        case.tolerance,
        times,
        work=case.work,
        unit=case.unit,
        ceiling=roofs.get(case.unit, 0.0),
        ran="ours",
        **facts,
    )
    if with_registers:
        result["registers"] = registers_of(case)
    result["intensity"] = round(case.operations / case.bytes, 2)
    result["tflops"] = case.operations / result["ms"] / 1e9
    report.add(result)


def measure_peers(
    case: Case, timer: Timer, roofs: dict[str, float], report: Report, budget_ms: float
) -> None:
    """The peers of a case, which take turns with it; a row for each peer."""
    facts: Facts = {"shape": case.shape, "dtype": case.dtype}
    contenders: dict[str, tuning.Prepared] = {}
    errors = {}
    for name, peer in torch_peers.peers(case).items():
        try:
            errors[name] = _distance(case, peer())
            contenders[name] = torch_peers.prepare(peer)
        except RuntimeError as problem:  # a backend that does not take this shape
            print(f"  {name}: {str(problem).splitlines()[0]}")
    if not contenders:
        return
    ours = tuning.prepare(case.run)
    turns: dict[str, Callable[[], object]] = {"ours": ours, **contenders}
    times = interleaved(turns, timer, rounds_for(ours, timer, budget_ms))
    for name, timed in contenders.items():
        facts["timed"] = timed.how
        result = row(
            case.op,
            errors[name],
            2 * case.tolerance,
            times[name],
            work=case.work,
            unit=case.unit,
            ceiling=roofs.get(case.unit, 0.0),
            ran=name,
            **facts,
        )
        if "ms" in result:
            result["times_ours"] = float(f"{result['ms'] / np.median(times['ours']):.3g}")
        report.add(result)


def _distance(case: Case, theirs: Any) -> float:
    """How far a peer's result lies from ours; 0 where the two cannot agree bit by bit."""
    if case.op in NOT_COMPARED:
        return 0.0
    # copied before ours runs, which may write to the same memory
    expected = _compared(case.op, theirs).detach().float().cpu().numpy().copy()
    ours = _compared(case.op, case.run()).astype("float32")
    return relative_error(ours[..., : expected.shape[-1]], expected)  # no columns without a class


def _compared(op: str, result: Any) -> Any:
    """The first output, of cross-entropy the gradients: the rows that references look at, too."""
    if isinstance(result, tuple):
        result = result[-1 if op == "cross_entropy" else 0]
    return result.reshape(-1)[:1] if op == "clip_factor" else result[:CHECKED_ROWS]
