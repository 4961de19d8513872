"""How large gradients are in each layer: a picture shows whether they vanish or explode."""

from __future__ import annotations

import colorsys
import re
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_llm.backend import Array, to_numpy
from tinygrad_llm.errors import GraphError
from tinygrad_llm.figure import new_figure
from tinygrad_llm.nn import Module

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_IN_BLOCK = re.compile(r"^(.*?)\.(\d+)\.(.*)$")


def gradient_norms(model: Module) -> dict[str, tuple[float, float]]:
    """Parameter name -> (root mean square of its gradient, of its values).

    Raises:
        GraphError: no parameter has a gradient.
    """
    norms = {
        name: (_rms(p.grad), _rms(p.data))
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    if not norms:
        raise GraphError(
            "gradient_flow: no parameter has a gradient. Call loss.backward() first, and draw "
            "before optimizer.zero_grad()."
        )
    return norms


def _rms(x: Array) -> float:
    values = to_numpy(x).astype(np.float64)
    return float(np.sqrt((values * values).mean())) if values.size else 0.0


def gradient_flow(model: Module, relative: bool = False) -> Figure:
    """Size of the gradients by depth: one line per kind of parameter, from block to block.

    Parameters outside the blocks are dots, embeddings at the left and the rest at the right.

    Args:
        model: a Module after ``backward``.
        relative: divide by the size of the parameter itself, which tells how large a step is in
            proportion.

    Returns:
        a matplotlib figure.

    Raises:
        GraphError: no parameter has a gradient.
        MissingDependencyError: matplotlib is not installed.
    """
    sizes = {
        name: grad / value if relative and value else grad
        for name, (grad, value) in gradient_norms(model).items()
    }
    lines, others = _by_kind(sizes)
    depth = 1 + max((i for line in lines.values() for i in line), default=0)
    figure = new_figure(9, 5)
    axis = figure.subplots()
    for number, (kind, line) in enumerate(lines.items()):
        style = "o-" if kind.endswith("weight") else "s--"
        axis.plot(
            list(line), list(line.values()), style, label=kind, ms=4, lw=1.2, color=_color(number)
        )
    for name, size in others.items():
        place = -1 if "embedding" in name else depth
        axis.plot([place], [size], "k^", ms=5)
        side = "left" if place < 0 else "right"
        axis.annotate(
            name,
            (place, size),
            fontsize=7,
            ha=side,
            xytext=(5 if place < 0 else -5, 4),
            textcoords="offset points",
        )
    axis.set_yscale("log")
    axis.set_xticks(range(-1, depth + 1), ["embed", *map(str, range(depth)), "end"])
    axis.set_xlabel("block")
    axis.set_ylabel("RMS of gradient" + (" / RMS of parameter" if relative else ""))
    axis.grid(alpha=0.3)
    if lines:
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _color(number: int) -> tuple[float, float, float]:
    """Colors around the circle, dark and bright by turns."""
    return colorsys.hsv_to_rgb(number * 0.381966 % 1.0, 0.85, 0.55 if number % 2 else 0.85)


def _by_kind(sizes: dict[str, float]) -> tuple[dict[str, dict[int, float]], dict[str, float]]:
    """ "blocks.3.norm1.weight" -> lines["norm1.weight"][3]; names without a number -> others."""
    lines: dict[str, dict[int, float]] = {}
    others: dict[str, float] = {}
    for name, size in sizes.items():
        match = _IN_BLOCK.match(name)
        if match:
            lines.setdefault(match[3], {})[int(match[2])] = size
        else:
            others[name] = size
    return lines, others
