"""Processor, GPU, versions and commit: what a row of a benchmark needs to be read later."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import TypedDict

LIBRARIES = ("numpy", "cupy", "cupy-cuda13x", "cupy-cuda12x", "triton", "torch", "tinygrad_llm")


class Machine(TypedDict):
    """What a row needs to be read later."""

    processor: str
    cpus: int | None
    gpu: str | None
    card: str | None
    driver: str | None
    stage: str | None
    python: str
    versions: dict[str, str]
    commit: str | None
    time: str


@functools.cache
def machine() -> Machine:
    """Processor, GPU, versions, commit, time and stage: what a row needs to be read later."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    gpu, stage = _gpu(), os.environ.get("GPU_SESSION_STAGE")
    return {
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "gpu": gpu,
        "card": card(gpu),
        "driver": _driver(),
        "stage": stage,
        "python": platform.python_version(),
        "versions": versions,
        "commit": _commit(),
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def card(gpu: str | None) -> str | None:
    """The kind of card whose rates are known, "H100" or "H200"; None for others."""
    from tinygrad_llm.training.report import utilization as chips

    return chips.card(gpu or "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpu() -> str | None:
    try:
        import cupy

        device = cupy.cuda.Device()
        return str(cupy.cuda.runtime.getDeviceProperties(device.id)["name"].decode())
    except Exception:  # no CuPy, no driver, no GPU: all the same to a row
        return None


def _driver() -> str | None:
    """Version of NVIDIA's kernel module, such as "580.159.04"."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:  # no such driver
        return None
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    return found[0] if found else None


def _commit() -> str | None:
    try:
        command = ["git", "rev-parse", "--short", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    except OSError:  # git is not installed
        return None
    return done.stdout.strip() or None
