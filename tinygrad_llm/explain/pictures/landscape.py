"""The loss along two random directions through the parameters.

Source: Li, Xu, Taylor, Studer & Goldstein, "Visualizing the loss landscape of neural nets", 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_llm.autograd import no_grad
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.versions import note_write
from tinygrad_llm.backend import Array, array_module
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.figure import new_figure
from tinygrad_llm.nn import GPT

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Landscape:
    """The loss on a grid around the parameters.

    Attributes:
        steps: coordinates along both directions (n,); the parameters themselves are at 0.
        losses: (n, n), the first index along the first direction.
    """

    steps: np.ndarray
    losses: np.ndarray


def measure_landscape(
    model: GPT,
    ids: TensorLike,
    targets: TensorLike,
    size: int = 21,
    radius: float = 1.0,
    seed: int = 0,
) -> Landscape:
    """Evaluate the loss on a grid; the parameters are put back afterwards, bit for bit.

    The directions are random, and scaled row by row to the length of the row (filter
    normalization), so that a step of 1 changes every row by its own length whatever its scale.
    Vectors (biases and norms) stay as they are.

    Args:
        model: a GPT.
        ids, targets: integers (B, T).
        size: odd number of points along each direction; the loss is computed size^2 times.
        radius: largest step.
        seed: of the directions.

    Raises:
        ConfigError: size is even or less than 3.
    """
    if size < 3 or size % 2 == 0:
        raise ConfigError(f"loss_landscape: size must be odd and at least 3, got {size}.")
    parameters = [p for p in model.parameters() if p.ndim >= 2]
    home = [p.data.copy() for p in parameters]
    rng = np.random.default_rng(seed)
    first = [_direction(p.data, rng) for p in parameters]
    second = [_direction(p.data, rng) for p in parameters]
    steps = np.linspace(-radius, radius, size)
    losses = np.empty((size, size))
    try:
        with model.evaluating(), no_grad():
            for i, a in enumerate(steps):
                for j, b in enumerate(steps):
                    for p, x, d, e in zip(parameters, home, first, second, strict=True):
                        p.data[...] = x + float(a) * d + float(b) * e
                    losses[i, j] = model.loss(ids, targets).item()
    finally:
        for p, x in zip(parameters, home, strict=True):
            p.data[...] = x
            note_write(p.data)
    return Landscape(steps, losses)


def _direction(x: Array, rng: np.random.Generator) -> Array:
    """A random array whose rows have the lengths of the rows of x."""
    xp = array_module(x)
    d = xp.asarray(rng.normal(size=x.shape), dtype=x.dtype)
    axes = tuple(range(1, x.ndim))
    lengths = xp.sqrt((x * x).sum(axis=axes, keepdims=True))
    return d * (lengths / xp.sqrt((d * d).sum(axis=axes, keepdims=True)))


def loss_landscape(
    model: GPT,
    ids: TensorLike,
    targets: TensorLike,
    size: int = 21,
    radius: float = 1.0,
    seed: int = 0,
) -> Figure:
    """The landscape as contour lines and as a surface; arguments as `measure_landscape`.

    Returns:
        a matplotlib figure.

    Raises:
        ConfigError: as `measure_landscape`.
        MissingDependencyError: matplotlib is not installed.
    """
    figure = new_figure(10, 4.4)
    found = measure_landscape(model, ids, targets, size, radius, seed)
    x, y = np.meshgrid(found.steps, found.steps, indexing="ij")
    flat = figure.add_subplot(1, 2, 1)
    lines = flat.contour(x, y, found.losses, levels=18, cmap="viridis")
    flat.clabel(lines, fontsize=7)
    flat.plot([0], [0], "r+", ms=12)
    flat.set_xlabel("direction 1")
    flat.set_ylabel("direction 2")
    middle = found.losses[size // 2, size // 2]
    flat.set_title(f"loss; the model stands at + with {middle:.3f}", fontsize=10)
    solid = figure.add_subplot(1, 2, 2, projection="3d")
    solid.plot_surface(x, y, found.losses, cmap="viridis", linewidth=0)
    solid.set_zlabel("loss")
    solid.set_box_aspect(None, zoom=0.85)
    return figure
