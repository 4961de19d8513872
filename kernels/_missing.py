"""What a machine lacks to run kernels, and what went wrong in a first launch, with a way out."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path

OLDEST_CAPABILITY = 80  # bfloat16 arithmetic and asynchronous copies begin with sm_80
INSTALL = {
    "Triton": "install it with: pip install 'triton>=3.6' 'ml_dtypes>=0.5' (Linux)",
    "CuPy": "install it with: pip install 'cupy-cuda13x>=14' (for CUDA 13), or with: "
            "pip install 'cupy-cuda12x>=14' (for CUDA 12)",
}


@functools.cache
def why_no_gpu() -> str | None:
    """The reason why kernels cannot run on a GPU here, or None where they can."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return install_hint("Triton")
    try:
        import cupy
    except ImportError:
        return install_hint("CuPy")
    if os.environ.get("TRITON_INTERPRET", "0") not in {"", "0"}:
        return "TRITON_INTERPRET is set, so nothing is compiled; unset it before the first import"
    try:
        capability = int(cupy.cuda.Device().compute_capability)
    except Exception as error:
        return f"no usable CUDA GPU: {error}; check nvidia-smi, the driver and CuPy's CUDA version"
    if capability < OLDEST_CAPABILITY:
        return (f"the GPU has compute capability {capability / 10}, the kernels need "
                f"{OLDEST_CAPABILITY / 10} (A100 or RTX 30 and newer); use the array code")
    return _missing_toolchain()


def why_no_interpreter() -> str | None:
    """The reason why kernels cannot be interpreted on NumPy arrays, or None where they can."""
    if importlib.util.find_spec("triton") is None:
        return install_hint("Triton")
    return None


def _missing_toolchain() -> str | None:
    """Triton builds a small C module at the first launch: what it needs and does not find."""
    compiler = os.environ.get("CC") or "gcc"
    if shutil.which(compiler) is None and shutil.which("clang") is None:
        return "no C compiler found, Triton needs gcc or clang; install one or set CC"
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.exists():
        return f"{header} is missing, Triton needs Python's headers; install python3-dev"
    return None


def explain(error: Exception) -> str:
    """The cause of a failed first launch in a sentence with a way out."""
    text = f"{type(error).__name__}: {error}"
    for mark, hint in (
        ("C compiler", "Triton needs gcc or clang once per kernel; install one or set CC"),
        ("Python.h", "Triton needs Python's headers; install python3-dev of this Python"),
        ("libcuda", "the CUDA driver library libcuda.so.1 was not found; install the NVIDIA "
                    "driver or set TRITON_LIBCUDA_PATH to its folder"),
        ("out of resource", "the tile is too large for this chip; pass a smaller configuration"),
        ("OutOfResources", "the tile is too large for this chip; pass a smaller configuration"),
    ):
        if mark.lower() in text.lower():
            return f"{hint} ({text.splitlines()[0]})"
    return text


def install_hint(package: str) -> str:
    """How to install "Triton" or "CuPy"."""
    return f"{package} is not installed; {INSTALL[package]}"
