"""The only import of matplotlib: figures without a window, saved to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tinygrad_llm.errors import DataError, MissingDependencyError
from tinygrad_llm.hints import install

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; its size is in inches.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError(
            f"pictures need matplotlib, which is not installed. Install it with: {install('plot')}"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, target: Path, dpi: int = 110) -> Path:
    """Write a picture; the ending of the name says of which kind. Returns the path.

    Raises:
        DataError: it cannot be written, or matplotlib knows no such kind.
    """
    try:
        figure.savefig(target, dpi=dpi)
    except (OSError, ValueError) as error:
        raise DataError(f"{target}: the picture cannot be written ({error}).") from error
    return target
