"""``tinygrad-llm env``: versions, hardware, and which features are missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_llm import __version__, hints
from tinygrad_llm.backend import cores, matrix_units
from tinygrad_llm.backend.files import cache_folder
from tinygrad_llm.backend.threads import num_threads
from tinygrad_llm.commands.program import command_parser, parse
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.terminal import say
from tinygrad_llm.training.report.memory import readable

# feature -> (modules, the extras that install them: any one of several)
FEATURES = {
    "loss curves, plot": (("matplotlib",), ("plot",)),
    "TensorBoard": (("tensorboard",), ("tensorboard",)),
    "CUDA": (("cupy",), ("cuda", "cuda12")),
    "Triton kernels": (("triton",), ("kernels",)),
    "bfloat16": (("ml_dtypes",), ("bfloat16",)),
    "bfloat16 at speed on a CPU": (("numkong", "ml_dtypes"), ("fast",)),
    "several processes": (("mpi4py",), ("distributed",)),
    "YAML settings": (("yaml",), ("yaml",)),
}
FEATURES_OF_A_CLONE = {
    "tests": (("pytest", "hypothesis"), ("dev",)),
    "comparison with PyTorch": (("torch",), ("bench",)),
    "site": (("mkdocs",), ("docs",)),
}
NOTES = {"cuda": "CUDA 13", "cuda12": "CUDA 12"}
BFLOAT16_FLAGS = ("amx_bf16", "smeb16f32", "avx512_bf16", "svebf16", "bf16")  # Linux's names
VARIABLES = (
    "TINYGRAD_LLM_NUM_THREADS",
    "TINYGRAD_LLM_MATRIX_UNITS",
    "TINYGRAD_LLM_CACHE",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OPENBLAS_CORETYPE",
    "CUDA_PATH",
    "CUDA_VISIBLE_DEVICES",
    "TRITON_INTERPRET",
    "TRITON_CACHE_DIR",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report."""
    parser = command_parser(
        "env", "Versions, hardware, and which features are missing: for a bug report."
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    arguments = parse(parser, argv)
    found = report()
    say(json.dumps(found, indent=2) if arguments.json else as_text(found))
    return 0


def report() -> dict[str, dict[str, str]]:
    """The report: sections of names and values."""
    return {
        "versions": _versions(),
        "machine": _machine(),
        "linear algebra": {**_blas(), **_bfloat16()},
        "GPU": _gpu(),
        "caches": _caches(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "features": _features(),
    }


def as_text(found: dict[str, dict[str, str]]) -> str:
    """The report for people."""
    lines = []
    for section, values in found.items():
        lines.append(section)
        width = max(map(len, values), default=0)
        lines += [f"  {name:<{width}}  {value}" for name, value in values.items()] or ["  (none)"]
        lines.append("")
    return "\n".join(lines)


def _versions() -> dict[str, str]:
    names = ("tiktoken", "regex", "google-crc32c", "safetensors", "tqdm", "threadpoolctl")
    where = "in the clone" if hints.is_clone() else "installed in"
    return {
        "tinygrad_llm": f"{__version__}, {where} {hints.ROOT}",
        "command": str(hints.script() or f"not installed; write {hints.command()}"),
        "python": f"{platform.python_version()} ({sys.executable})",
        "numpy": np.__version__,
        **{name: _version(name) or f"MISSING: {hints.install_package(name)}" for name in names},
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine() -> dict[str, str]:
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": _cores(),
        "memory": _memory(),
        "threads": f"{num_threads()} (set by TINYGRAD_LLM_NUM_THREADS or tg.set_num_threads)",
    }


def _cores() -> str:
    quota = cores.cpu_quota()
    limit = "" if quota is None else f"; a quota of {quota:g} cores' time (container)"
    return f"{cores.allowed_cores()} usable of {os.cpu_count()}{limit}"


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or "unknown"


def _cpuinfo(*names: str) -> str:
    """What Linux says of the first core under one of these names; "" elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    found = [line.partition(":")[2].strip() for line in lines if line.startswith(names)]
    return found[0] if found else ""


def _memory() -> str:
    try:
        return readable(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return "unknown"


def _blas() -> dict[str, str]:
    from threadpoolctl import threadpool_info

    found = {}
    for pool in threadpool_info():
        kind = f"{pool.get('internal_api')} {pool.get('version') or ''}".strip()
        found[kind] = f"{pool['num_threads']} threads, {pool.get('architecture', '')} kernels"
    if "OPENBLAS_CORETYPE" in os.environ:
        found["hint"] = (
            "OPENBLAS_CORETYPE chooses these kernels; training may be much faster without it"
        )
    return found or {"BLAS": "not recognized (as Accelerate on macOS): its threads are its own"}


def _bfloat16() -> dict[str, str]:
    """Which instructions multiply bfloat16 on this processor, and what it has."""
    try:
        instructions, why_not, _ = matrix_units.found()
    except ConfigError as error:
        instructions, why_not = None, str(error)
    used = f"{instructions}, by numkong {_version('numkong')}"
    has = matrix_units.capabilities()
    if has is None:  # without numkong
        has = [flag for flag in BFLOAT16_FLAGS if flag in _cpuinfo("flags", "Features").split()]
    return {
        "products of bfloat16": used if instructions else f"none. {why_not}",
        "bfloat16 instructions": ", ".join(has) or "none known of this processor",
    }


def _gpu() -> dict[str, str]:
    found = {}
    try:
        import cupy
    except ImportError:
        found["CuPy"] = "not installed"
    else:
        found["CuPy"] = cupy.__version__
        found["devices"] = _devices(cupy)
    found["Triton"] = _version("triton") or "not installed"
    return found


def _devices(cupy: Any) -> str:
    if not cupy.cuda.is_available():
        return "none usable (see nvidia-smi: is there a driver, and is it new enough?)"
    runtime = cupy.cuda.runtime
    names = []
    for index in range(runtime.getDeviceCount()):
        properties = runtime.getDeviceProperties(index)
        memory = readable(properties["totalGlobalMem"])
        chip = f"sm_{properties['major']}{properties['minor']}"
        names.append(f"{properties['name'].decode()} ({chip}, {memory})")
    versions = f"driver {runtime.driverGetVersion()}, runtime {runtime.runtimeGetVersion()}"
    return f"{'; '.join(names)}; {versions}"


def _caches() -> dict[str, str]:
    triton = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    folders = {"downloads": cache_folder(), "compiled Triton kernels": triton}
    return {name: f"{folder} ({_size(folder)})" for name, folder in folders.items()}


def _size(folder: Path) -> str:
    if not folder.is_dir():
        return "does not exist yet"
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return readable(total)


def _features() -> dict[str, str]:
    fitting = {**FEATURES, **(FEATURES_OF_A_CLONE if hints.is_clone() else {})}
    found = {}
    for feature, (modules, extras) in fitting.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        ways = [hints.install(extra) + _note(extra) for extra in extras]
        found[feature] = (
            f"missing {', '.join(missing)}: {' or '.join(ways)}" if missing else "ready"
        )
    return found


def _note(extra: str) -> str:
    return f" ({NOTES[extra]})" if extra in NOTES else ""
