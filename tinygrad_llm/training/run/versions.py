"""What the bits of a result depend on besides the settings."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import numpy as np

from tinygrad_llm.backend.threads import num_threads

_ROUNDING = "rounding may differ in the last bits"
_MASKS = "sums are rounded in another order, and each process draws dropout masks of its own"


def versions(processes: int = 1) -> dict[str, str]:
    """Versions, machine and threads of this process, and how many processes train together."""
    from tinygrad_llm import __version__

    return {
        "tinygrad_llm": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "threads": str(num_threads()),
        "processes": str(processes),
    }


def changed_versions(saved: Mapping[str, str], processes: int = 1) -> list[str]:
    """Sentences about what differs from when the checkpoint was written."""
    before = {"processes": "1", **saved}
    return [
        f"{name}: {before.get(name)} -> {value} ({_MASKS if name == 'processes' else _ROUNDING})"
        for name, value in versions(processes).items()
        if before.get(name) != value
    ]
