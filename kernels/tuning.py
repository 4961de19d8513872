"""Timing a kernel on a GPU, and choosing a configuration by timing with the choice kept on disk.

TINYGRAD_LLM_AUTOTUNE=1 allows timing; without it a kernel takes the choice that lies on disk for
its GPU, or its default. TINYGRAD_LLM_KERNEL_CACHE names the folder, ~/.cache/tinygrad_llm/kernels
if unset.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ._types import Array
from .errors import KernelError

if TYPE_CHECKING:
    import cupy

FLUSH_BYTES = 256 << 20  # written before every run, so that no input waits in the L2 cache
Config = dict[str, int]


class Prepared:
    """A function as it is timed: its launches replayed, so that Python's own time stays out.

    run: one call; stream: where it runs, None for CuPy's current one
    how: "graph", or "Python" and the reason why nothing could be recorded
    """

    def __init__(self, run: Callable[[], object], stream: cupy.cuda.Stream | None,
                 how: str) -> None:
        self.run, self.stream, self.how = run, stream, how

    def __call__(self) -> object:
        return self.run()


def prepare(fn: Callable[[], object]) -> Prepared:
    """`fn` recorded as a CUDA graph, or as it is where it copies to the host or reads a result.

    Raises KernelError where `fn` itself does, for instance because a tile does not fit the chip.
    """
    from .graph import capture
    fn()  # compiles
    try:
        graph = capture(fn)
    except RuntimeError as error:  # CUDA's own errors are RuntimeErrors, and so is KernelError
        return Prepared(fn, None, f"Python: {str(error).splitlines()[0]}")
    return Prepared(graph.replay, graph.stream, "graph")


def do_bench(fn: Callable[[], object], *, warmup_ms: float = 25.0, measure_ms: float = 100.0,
             quantiles: Sequence[float] = (0.5, 0.2, 0.8)) -> list[float]:
    """Milliseconds that the launches of `fn` take, at each of `quantiles`.

    They are recorded once and replayed. Every replay is timed by two events of its own, after the
    L2 cache was overwritten. Raises KernelError without a GPU.
    """
    from ._runtime import why_no_gpu
    if (reason := why_no_gpu()) is not None:
        raise KernelError(f"do_bench: {reason}")
    import cupy
    flush = cupy.empty(FLUSH_BYTES, dtype="int8")
    timed = prepare(fn)
    estimate = statistics.median(time_once(timed, flush) for _ in range(5))
    for _ in range(max(1, math.ceil(warmup_ms / max(estimate, 1e-3)))):
        timed()
    repeats = max(5, math.ceil(measure_ms / max(estimate, 1e-2)))
    times = sorted(time_once(timed, flush) for _ in range(repeats))
    return [quantile(times, q) for q in quantiles]


def time_once(fn: Callable[[], object], flush: Array) -> float:
    """Milliseconds of one call between two events, after writing `flush` has emptied the cache."""
    import cupy
    with getattr(fn, "stream", None) or contextlib.nullcontext():
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        flush.fill(0)
        start.record()
        fn()
        end.record()
    end.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, end))


def quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile of ascending numbers, interpolated between neighbours."""
    if not 0.0 <= q <= 1.0:
        raise KernelError(f"quantile: q must be in [0, 1], got {q}")
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def choose(kernel: str, key: tuple[object, ...], candidates: Sequence[Config], default: Config,
           run: Callable[[Config], object], bench: Callable[..., list[float]] = do_bench) -> Config:
    """The configuration for `kernel` at `key`: from memory, from disk, by timing, or `default`.

    key: what the best choice depends on: head size, dtype, a size rounded to a power of two
    run: launches the kernel with a configuration; it must not read what it writes
    A candidate that does not compile or needs more than the chip has is passed over. Where the
    choice cannot be kept on disk, a warning says so.
    """
    stored = _load(_cache_file(os.environ.get("TINYGRAD_LLM_KERNEL_CACHE")))
    name = f"{kernel} {key}"
    if name in stored:
        return stored[name]
    if os.environ.get("TINYGRAD_LLM_AUTOTUNE", "0") in {"", "0"}:
        return default
    timed: list[tuple[float, int]] = []
    for index, config in enumerate(candidates):
        try:
            timed.append((bench(functools.partial(run, config))[0], index))
        except KernelError:
            continue
    best = dict(candidates[min(timed)[1]]) if timed else default
    stored[name] = best
    try:
        _save(_cache_file(os.environ.get("TINYGRAD_LLM_KERNEL_CACHE")), stored)
    except OSError as error:
        warnings.warn(f"{kernel}: the chosen configuration is not kept: {error}")
    return best


@functools.cache
def _machine() -> str:
    """GPU and Triton version: a choice made for one is none for another."""
    import cupy
    import triton
    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    return "".join(c if c.isalnum() else "-" for c in f"{name} triton {triton.__version__}")


@functools.cache
def _cache_file(folder: str | None) -> Path:
    home = Path(folder) if folder else Path.home() / ".cache" / "tinygrad_llm" / "kernels"
    return home / f"{_machine()}.json"


_in_memory: dict[Path, dict[str, Config]] = {}


def _load(path: Path) -> dict[str, Config]:
    if path not in _in_memory:
        try:
            _in_memory[path] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # no file yet, or a damaged one: timing writes a new one
            _in_memory[path] = {}
    return _in_memory[path]


def _save(path: Path, choices: dict[str, Config]) -> None:
    """Write to a temporary name and rename, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8")
    try:
        with file:
            json.dump(choices, file, indent=1, sort_keys=True)
        os.replace(file.name, path)
    finally:
        Path(file.name).unlink(missing_ok=True)  # where one of the two failed
