"""The process in which step_trace.py runs a training step of GPT-2 124M on arrays without numbers.

    python benchmarks/step_recorder.py BATCH STEP [CHIP]        # prints JSON

STEP is captured (the step that a CUDA graph records), plain (without a graph) or evaluation (the
loss alone, without gradients). With CHIP every Triton kernel is compiled for it, with the very
arguments of its launches, and what the compiler made of it comes along.

Everything is recorded where it leaves this project, so that no change inside can hide a launch:
Triton kernels in Triton's JITFunction.run, products in the C functions of cuBLAS and cuBLASLt.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import functools
import inspect
import json
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import shape_cupy
from product_recorder import cublas_recorded
from shape_arrays import BLOCK, ShapeArray

Record = dict[str, object]
Function = Callable[..., object]


class Recorder:
    """What was called so far, and how often."""

    def __init__(self, chip: int | None) -> None:
        self.chip = chip
        self.counts: Counter[str] = Counter()  # calls as text of JSON

    def add(self, kind: str, **facts: object) -> None:
        """Count a call; calls of the same facts are one."""
        self.counts[json.dumps({"kind": kind, **facts})] += 1

    def calls(self) -> list[Record]:
        """What was called, each with its count."""
        return [{**json.loads(call), "count": n} for call, n in self.counts.items()]

    def clear(self) -> None:
        """Forget what only warmed up."""
        self.counts.clear()


def described(value: object) -> object:
    """A value in JSON's types; an array by its shape, dtype, strides and alignment."""
    base = _unwrapped(getattr(value, "base", None))
    if isinstance(base, ShapeArray) and hasattr(value, "block_shape"):  # a tensor descriptor
        return {**_described_array(base), "block": list(value.block_shape)}
    value = _unwrapped(value)
    if isinstance(value, ShapeArray):
        return _described_array(value)
    if isinstance(value, (tuple, list)):
        return [described(v) for v in value]
    if value is None or isinstance(value, (bool, str, int, float)):
        return value
    return value.item() if isinstance(value, np.generic) else str(value)


def _unwrapped(value: object) -> object:
    """The array that a launch has wrapped in a pointer."""
    return getattr(value, "array", value)


def _described_array(array: ShapeArray) -> Record:
    address = array.data.ptr
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "strides": [s // array.itemsize for s in array.strides],
        "alignment": min(address & -address, BLOCK),
    }


# ---------------------------------------------------------------- Triton
@contextlib.contextmanager
def triton_recorded(recorder: Recorder) -> Iterator[None]:
    """Launches are recorded and, with a chip, compiled; they run nothing."""
    import triton
    from tinygrad_llm.kernels import _driver, _runtime, compiling
    from tinygrad_llm.kernels.machine_code import read_machine_code

    JITFunction = triton.runtime.JITFunction
    run, code_of = JITFunction.run, functools.cache(read_machine_code)
    driver = compiling._Driver(recorder.chip or 90)

    def record(
        self: triton.JITFunction,
        *args: object,
        grid: tuple[int, ...],
        warmup: bool,
        **options: object,
    ) -> object:
        code = None
        if recorder.chip:
            compiled = run(self, *args, grid=grid, warmup=True, **options)
            code = dataclasses.asdict(code_of(compiled))
        arguments = described_all(dict(zip(self.arg_names, args, strict=False)))
        recorder.add(
            "launch",
            kernel=self.__name__,
            grid=list(grid),
            arguments=arguments,
            options=described_all(options),
            code=code,
        )
        return types.SimpleNamespace(  # scratch memory, so that each launch comes through here
            metadata=types.SimpleNamespace(global_scratch_size=1)
        )

    triton.runtime.driver.set_active(driver)
    JITFunction.run = record
    _driver.active_driver = lambda: contextlib.nullcontext(driver)
    _runtime.why_no_gpu = lambda: None
    yield
    JITFunction.run = run


def described_all(values: Record) -> Record:
    """Each value described."""
    return {name: described(value) for name, value in values.items()}


def public_kernels_recorded(recorder: Recorder) -> None:
    """Every function under ``@checked_by`` records its calls; before kernels are imported."""
    from tinygrad_llm.kernels import _checks

    attach_check = _checks.checked_by

    def checked_by(check: Function) -> Callable[[Function], Function]:
        def attach(function: Function) -> Function:
            parameters = inspect.signature(function)

            @functools.wraps(function)
            def call(*args: object, **options: object) -> object:
                given = parameters.bind(*args, **options).arguments
                recorder.add("call", op=function.__name__, arguments=described_all(given))
                return function(*args, **options)

            return attach_check(check)(call)

        return attach

    _checks.checked_by = checked_by


# ---------------------------------------------------------------- the steps
def captured(batch: int, recorder: Recorder) -> None:
    """What the graph of a training step holds."""
    from gpu_steps import gpt2, our_trainer

    shape_cupy.Stream.on_capture = recorder.clear
    our_trainer(gpt2(batch)).train_step()


def plain(batch: int, recorder: Recorder) -> None:
    """A training step launch by launch."""
    from gpu_steps import gpt2, our_trainer

    our_trainer(gpt2(batch), graph=False).train_step()


def evaluation(batch: int, recorder: Recorder) -> None:
    """The loss of a batch, without gradients."""
    from gpu_steps import gpt2, our_trainer

    import tinygrad_llm as tg

    trainer = our_trainer(gpt2(batch), graph=False)
    recorder.clear()
    with tg.no_grad():
        trainer.compute_loss(trainer.loader.next_batch())


STEPS = {"captured": captured, "plain": plain, "evaluation": evaluation}


def main(batch: str, step: str, chip: str | None = None) -> None:
    """Record a step; print a JSON list of all its calls."""
    faulthandler.enable()
    shape_cupy.install(int(chip or 90))
    recorder = Recorder(int(chip) if chip else None)
    public_kernels_recorded(recorder)
    cublas_recorded(recorder)
    from tinygrad_llm.nn.init import no_init

    with triton_recorded(recorder), no_init():
        STEPS[step](int(batch), recorder)
    print(json.dumps(recorder.calls()))


if __name__ == "__main__":
    main(*sys.argv[1:])
