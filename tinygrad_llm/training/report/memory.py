"""How much memory the process holds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_STATM, _STATUS = Path("/proc/self/statm"), Path("/proc/self/status")


def resident_bytes() -> int:
    """Resident set of this process in bytes; where the system does not say, its peak so far."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_bytes()


def peak_bytes() -> int:
    """The largest resident set of this process so far, in bytes; 0 where unknown.

    Linux's own count begins with the process; that of getrusage, used elsewhere, may begin with
    the one that started it.
    """
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # not POSIX
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def device_bytes() -> int:
    """Bytes of GPU memory in use by CuPy's pool; 0 where CuPy was not imported."""
    cupy = sys.modules.get("cupy")
    return 0 if cupy is None else int(cupy.get_default_memory_pool().used_bytes())


def readable(n_bytes: float) -> str:
    """Such as ``"312 MB"`` or ``"1.4 GB"``; powers of 1000."""
    n_bytes = min(n_bytes, 10**24)  # a setting may ask for a number that no float can hold
    for unit in ("B", "kB", "MB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"
