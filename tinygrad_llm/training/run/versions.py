"""What the bits of a result depend on besides the settings."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import numpy as np

from tinygrad_llm.backend.threads import num_threads


def versions() -> dict[str, str]:
    """Versions, machine and threads of this process."""
    from tinygrad_llm import __version__

    return {
        "tinygrad_llm": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "threads": str(num_threads()),
    }


def changed_versions(saved: Mapping[str, str]) -> list[str]:
    """Sentences about what differs from when the checkpoint was written."""
    now = versions()
    return [
        f"{name}: {saved.get(name)} -> {value} (rounding may differ in the last bits)"
        for name, value in now.items()
        if saved.get(name) != value
    ]
