"""The door to matplotlib, and helpers shared by the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygrad_llm.errors import MissingDependencyError

MOST_LABELS = 48  # more of them on an axis cannot be read


def new_figure(width: float, height: float) -> Any:
    """An empty figure of a size in inches, bound to no window.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "pictures need matplotlib, which is not installed. Install it with: "
            "pip install 'tinygrad_llm[plot]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def printable(labels: Sequence[str]) -> list[str]:
    """Token texts for a plot: blanks made visible, no mathematics mode."""
    return [text.replace("\n", "⏎").replace(" ", "·").replace("$", r"\$") or "∅" for text in labels]
