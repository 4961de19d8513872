"""What one training step of GPT-2 124M asks of the GPU, call by call, found out without a GPU.

    found = trace(batch=32)
    found.launches       Triton kernels with their arguments
    found.products       of cuBLAS and cuBLASLt
    found.calls          functions of kernels/ with their arguments, and sizes(32): the same by name
    print(table(trace(32, chip=90)))     registers, loops and widths of accesses of each kernel

The step itself runs, as train_gpu.py runs it, in a process of its own whose CuPy has arrays without
numbers (step_recorder.py). So whatever the step does, its shapes, strides, types and alignments
are those of the trace: tests compile them and benchmarks measure them, and neither keeps a list.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from shape_cupy import CHIPS
from step_calls import Array, Call, Launch, Product, Trace
from tinygrad_llm.kernels._loops import Loop
from tinygrad_llm.kernels.machine_code import VECTOR, Access, MachineCode

RECORDER = Path(__file__).with_name("step_recorder.py")


@functools.cache
def trace(batch: int = 32, step: str = "captured", chip: int | None = None) -> Trace:
    """Run a step on arrays without numbers and gather its calls; a second or so.

    Args:
        batch: sequences of 1024 tokens.
        step: "captured", "plain" (without a CUDA graph) or "evaluation" (the loss alone).
        chip: 90 compiles each launch for sm_90 as well: half a minute the first time.

    Raises:
        ValueError: an unknown chip, or no sequence at all.
        RuntimeError: the step fails; with what it said.
    """
    if batch < 1 or chip not in (None, *CHIPS):
        raise ValueError(
            f"trace: batch must be at least 1 and chip one of {', '.join(map(str, CHIPS))} (90 "
            f"stands for sm_90), got {batch} and {chip}"
        )
    command = [sys.executable, str(RECORDER), str(batch), step, *([str(chip)] if chip else [])]
    untimed = {**os.environ, "TINYGRAD_LLM_AUTOTUNE": "0"}  # nothing runs that could be timed
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=untimed)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    records: list[dict[str, Any]] = [_read(r) for r in json.loads(done.stdout.splitlines()[-1])]
    kinds: dict[str, list[Any]] = {"call": [], "launch": [], "product": []}
    for record in records:
        kind = record.pop("kind")
        kinds[kind].append({"call": Call, "launch": Launch, "product": Product}[kind](**record))
    title = f"the {step} step of GPT-2 124M, {batch} x 1024 tokens, bfloat16"
    return Trace(title, *(tuple(kinds[kind]) for kind in ("call", "launch", "product")))


def _read(value: Any) -> Any:
    """Arrays, lists and machine code out of what JSON holds."""
    if isinstance(value, list):
        return tuple(_read(v) for v in value)
    if not isinstance(value, dict):
        return value
    found = {name: _read(v) for name, v in value.items()}
    if "alignment" in found and "shape" in found:
        return Array(**found)
    if "registers" in found:
        loops, accesses = (
            tuple(kind(*part.values()) for part in value[name])
            for name, kind in (("loops", Loop), ("accesses", Access))
        )
        return MachineCode(**{**found, "loops": loops, "accesses": accesses})
    return found


def sizes(batch: int = 32) -> dict[str, list[Call]]:
    """The calls of the captured training step by the name of the function, most frequent first."""
    found: dict[str, list[Call]] = {}
    for call in sorted(trace(batch).calls, key=lambda call: -call.count):
        found.setdefault(call.op, []).append(call)
    return found


def kernels_of(found: Trace) -> list[Launch]:
    """A launch of each machine code, counted over all its launches; the trace needs a chip."""
    first: dict[str, Launch] = {}
    for launch in found.launches:
        key = str((launch.code, launch.options))
        before = first[key].count if key in first else 0
        first[key] = replace(first.get(key, launch), count=before + launch.count)
    return sorted(first.values(), key=lambda launch: launch.kernel)


FEW_BYTES = 64 << 10  # a launch that moves no more waits for memory, not for its width
SMALL = 16  # an array with fewer bytes than 1 / SMALL of the largest is one number per row


def too_narrow(launch: Launch) -> list[Access]:
    """Accesses to memory that are narrower than shape, strides and address allow.

    A thread should move 16 bytes at a time. It need not

    * where rows of the array do not begin at multiples of 16 bytes;
    * in small arrays: scalars, keys, ids, one number per row. Vectors that every program reads,
      as long as a row of the largest array, are not among them (weight and bias of layer_norm);
    * to pick one element out of a row that is read in full by wide accesses;
    * in an array of a type that is narrower than another of as many elements: the threads have as
      many elements of it as fit into 16 bytes of the wider one.
    """
    code, arrays = launch.code, launch.arrays
    if code is None or sum(a.nbytes for a in arrays.values()) <= FEW_BYTES:
        return []
    largest = max(arrays.values(), key=lambda a: a.nbytes)
    found = []
    for access in code.accesses:
        array = arrays.get(access.parameter)
        if array is None or access.kind == "tensor" or not array.aligned:
            continue
        of_rows = access.kind in {"load", "copy"} and array.shape == (largest.columns,)
        widest = max(a.itemsize for a in arrays.values() if a.size == array.size)
        small = array.nbytes * SMALL < largest.nbytes and not of_rows
        if not small and access.bytes < VECTOR * array.itemsize // widest:
            found.append(access)
    return [a for a in found if not _picks_one(a, code)]


def _picks_one(access: Access, code: MachineCode) -> bool:
    """Whether one narrow instruction stands beside wide ones of the same array."""
    return access.count == 1 and any(
        a.parameter == access.parameter and a.kind == access.kind and a.bytes == VECTOR
        for a in code.accesses
    )


# ---------------------------------------------------------------- the table
def table(found: Trace) -> str:
    """A line for each kernel that the step launches; needs a trace with a chip."""
    import triton

    rows = kernels_of(found)
    chip = next((launch.code.chip for launch in rows if launch.code), 0)
    lines = [
        f"Triton {triton.__version__}, sm_{chip}: {found.title}",
        "",
        f"{'launches':>8} {'kernel':29}{'regis-':>7}{'spilled':>8}{'shared':>8}{'CTAs':>6}  "
        f"{'instructions per round of each':38}  bytes per access: arrays",
        f"{'a step':>8} {'':29}{'ters':>7}{'bytes':>8}{'bytes':>8}{'/ SM':>6}  "
        f"{'loop (matrix products, MUFU)':38}",
    ]
    for launch in rows:
        code = launch.code
        if code is None:
            continue
        loops = ", ".join(map(_loop, code.loops))
        mark = "  <- narrow" if too_narrow(launch) else ""
        lines.append(
            f"{launch.count:8} {launch.kernel.removesuffix('_kernel'):29}{code.registers:7}"
            f"{code.spilled:8}{code.shared:8}{code.programs:6}  {loops or '-':38}  "
            f"{_widths(code)}{mark}"
        )
    return "\n".join(lines)


def _loop(loop: Loop) -> str:
    """Instructions of the shortest and the longest round, then what is in the longest."""
    longer = f"-{loop.longest}" if loop.longest > loop.instructions else ""
    return f"{loop.instructions}{longer} ({loop.products}, {loop.exponentials})"


def _widths(code: MachineCode) -> str:
    """Arrays by the width of the accesses to them, the widest first."""
    arrays: dict[str, dict[str, int]] = {}
    for access in code.accesses:
        width = "TMA" if access.kind == "tensor" else str(access.bytes)
        names = arrays.setdefault(width, {})
        names[access.parameter] = names.get(access.parameter, 0) + access.count
    ordered = sorted(arrays.items(), key=lambda item: -int(item[0].replace("TMA", "99")))
    return "; ".join(
        f"{width}: "
        + " ".join(
            f"{name} x{n}".strip() if width != "TMA" else f"x{n}" for name, n in names.items()
        )
        for width, names in ordered
    )


def print_table(batch: int = 32, chip: int = 90) -> None:
    """What ``train_gpu.py kernels`` prints."""
    print(table(trace(batch, chip=chip)))
