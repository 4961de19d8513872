"""Compile kernels for a named chip on a machine without a GPU, and read what they cost.

    with compile_only(90) as compiled:        # sm_90: H100, H200
        layer_norm(x, weight, bias)           # NumPy arrays; every launch is compiled, none runs
    for kernel in compiled:
        print(resources(kernel))

Triton's compiler and NVIDIA's assembler come with the Triton wheel, so the machine code is the one
that a GPU would run. Registers per thread decide how many programs share a multiprocessor; stack
bytes are registers that did not fit and live in slow local memory (spills); shared memory has a
limit per chip that only a launch would otherwise notice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import subprocess
import tempfile
from collections.abc import Iterator

import numpy as np
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel

from . import _runtime
from ._descriptors import Argument, triton_arguments
from ._types import Grid
from .errors import KernelError


@dataclasses.dataclass(frozen=True)
class Resources:
    """What one compiled kernel takes: registers per thread, bytes of stack and shared memory."""

    name: str
    chip: int  # 90 for sm_90
    registers: int
    stack: int
    shared: int
    warps: int
    matrix_units: bool  # whether the machine code uses tensor cores

    @property
    def fits(self) -> bool:
        """No spills, and the shared memory of the chip suffices."""
        return self.stack == 0 and self.shared <= _runtime.SHARED_MEMORY[self.chip]


class _Driver:
    """As much of a Triton driver as compiling asks for."""

    def __init__(self, chip: int) -> None:
        self.target = GPUTarget("cuda", chip, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return self.target.arch  # Triton keeps one cache per device: here one per chip

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


class _Pointer(_runtime.HostPointer):
    """A host array whose address looks like device memory: aligned to 512 bytes."""

    __slots__ = ()

    def data_ptr(self) -> int:
        return 512


@contextlib.contextmanager
def compile_only(chip: int) -> Iterator[list[CompiledKernel]]:
    """Inside, launches on NumPy arrays are compiled for sm_`chip` and gathered in the list."""
    if type(_runtime_probe).__name__ != "JITFunction":
        raise KernelError("compile_only: TRITON_INTERPRET is set, so that Triton compiles nothing; "
                          "unset it before the first import")
    if chip not in _runtime.SHARED_MEMORY:
        raise KernelError(f"compile_only: unknown chip {chip}; known are "
                          f"{', '.join(map(str, _runtime.SHARED_MEMORY))} (90 stands for sm_90)")
    compiled: list[CompiledKernel] = []

    def compile_launch(kernel: triton.JITFunction, grid: Grid, args: tuple[Argument, ...],
                       options: dict[str, object]) -> None:
        wrapped = triton_arguments(args, np.ndarray, _Pointer)
        compiled.append(kernel.run(*wrapped, grid=grid, warmup=True, **options))

    config = triton.runtime.driver
    before = _runtime.compile_launch, _runtime.compile_chip, config._active
    config.set_active(_Driver(chip))
    _runtime.compile_launch, _runtime.compile_chip = compile_launch, chip
    try:
        yield compiled
    finally:
        _runtime.compile_launch, _runtime.compile_chip, config._active = before


@triton.jit
def _runtime_probe(X):
    pass


def resources(compiled: CompiledKernel) -> Resources:
    """Read registers and stack with the cuobjdump that Triton brings, the rest from metadata."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    if found is None:
        raise KernelError(f"cuobjdump told no registers of {compiled.metadata.name}: {text!r}")
    metadata = compiled.metadata
    return Resources(metadata.name, metadata.target.arch, int(found[1]), int(found[2]),
                     metadata.shared, metadata.num_warps, _uses_matrix_units(compiled.asm["ptx"]))


def _uses_matrix_units(ptx: str) -> bool:
    return re.search(r"\b(mma\.sync|wgmma\.mma_async|tcgen05\.mma)", ptx) is not None


def table(rows: list[tuple[str, Resources]]) -> str:
    """(launch, resources) as text, a line each, with a mark where one spills or is too big."""
    lines = [f"compiled by Triton {triton.__version__}",
             f"{'launch':28s} {'kernel':34s} {'chip':6s} {'registers':>9s} {'stack B':>8s} "
             f"{'shared B':>9s} {'warps':>5s}  tensor cores"]
    for launch, r in rows:
        mark = "" if r.fits else "  <- does not fit"
        lines.append(f"{launch:28s} {r.name:34s} sm_{r.chip:<3d} {r.registers:9d} {r.stack:8d} "
                     f"{r.shared:9d} {r.warps:5d}  {'yes' if r.matrix_units else '-'}{mark}")
    return "\n".join(lines)
