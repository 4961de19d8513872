"""Show a picture where its reader is: below a notebook's cell, otherwise as a file."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tinygrad_llm.errors import DataError, MissingDependencyError
from tinygrad_llm.figure import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "TINYGRAD_LLM_FIGURES"  # environment variable: where scripts write their pictures
DPI = 120


def show(draw: Callable[[Figure], object], alt: str, size: tuple[float, float] = (7, 3)) -> None:
    """Draw a picture and show it; without matplotlib say so and go on.

    In a notebook it appears below the cell. A script writes it into the folder ``figures``, or the
    one that the environment variable TINYGRAD_LLM_FIGURES names, under the name of ``draw``.

    Args:
        draw: is given an empty matplotlib figure and fills it.
        alt: says in a sentence what can be seen, for readers who cannot see it.
        size: width and height in inches.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        figure = new_figure(*size)
    except MissingDependencyError as error:
        print(f"(No figure: {error})")
        return
    draw(figure)
    if _in_notebook():
        from IPython.display import Image, display

        picture = io.BytesIO()
        figure.savefig(picture, dpi=DPI, format="png")
        display(Image(picture.getvalue(), alt=alt))
        return
    folder = Path(os.environ.get(FOLDER, "figures"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: the folder for figures cannot be made ({error}).") from error
    print(f"Figure: {save_figure(figure, folder / f'{draw.__name__}.png', DPI)}")


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")  # IPython in a terminal has none
