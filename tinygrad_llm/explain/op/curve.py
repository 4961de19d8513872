"""A function of one variable and its derivative, drawn in the terminal and as SVG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.registry import Op

X_RANGE, POINTS = (-4.0, 4.0), 321
COLUMNS, ROWS = 34, 10  # characters of a terminal plot; each has 2 x 4 dots
# Bits of the eight dots of a Braille character (U+2800 + bits), by [row][column].
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


@dataclass
class Curve:
    """Values of a function at the points x; NaN where it is not defined."""

    label: str
    x: np.ndarray
    y: np.ndarray


def curves(op: Op) -> list[Curve]:
    """f and f' of a one-variable op, the derivative as its own ``backward`` gives it."""
    x = np.linspace(*X_RANGE, POINTS)
    with np.errstate(all="ignore"):
        point = Tensor(x, requires_grad=True)
        f = op.function.apply(point)
        f.backward(np.ones(x.shape))
    y = np.where(np.isfinite(f.data), f.data, np.nan)
    grad = np.asarray(point.grad)
    slope = np.where(np.isfinite(grad) & np.isfinite(y), grad, np.nan)
    return [Curve(f"f(x) = {op.name}(x)", x, y), Curve("f'(x)", x, slope)]


def _limits(y: np.ndarray) -> tuple[float, float]:
    """Range of the vertical axis: all of a tame function, the middle of one with a pole."""
    defined = y[np.isfinite(y)]
    low, high = float(defined.min()), float(defined.max())
    if high - low > 20:
        low, high = (float(v) for v in np.quantile(defined, (0.02, 0.95)))
    low, high = min(low, 0.0), max(high, 0.0)
    return (low - 0.5, high + 0.5) if high - low < 1e-9 else (low, high)


# ---- terminal -------------------------------------------------------------------------------


def text_plot(all_curves: list[Curve]) -> str:
    """The curves side by side in Braille dots."""
    blocks = [_braille(curve) for curve in all_curves]
    return "\n".join("   ".join(lines).rstrip() for lines in zip(*blocks, strict=True))


def _braille(curve: Curve) -> list[str]:
    low, high = _limits(curve.y)
    bits = np.zeros((ROWS, COLUMNS), int)
    columns = np.linspace(0, 2 * COLUMNS - 1, len(curve.x)).round().astype(int)
    scale = (4 * ROWS - 1) / (high - low)
    zero = round((high - 0.0) * scale)
    for column in range(0, 2 * COLUMNS, 3):
        _dot(bits, zero, column)  # the axis y = 0, dotted
    for column, y in zip(columns, curve.y, strict=True):
        if np.isfinite(y) and low <= y <= high:
            _dot(bits, round((high - float(y)) * scale), int(column))
    margin = [""] * ROWS
    margin[0], margin[-1] = f"{high:.3g}", f"{low:.3g}"
    rows = [
        f"{label:>7} " + "".join(chr(0x2800 + b) for b in row)
        for label, row in zip(margin, bits, strict=True)
    ]
    left, right = f"{curve.x[0]:g}", f"{curve.x[-1]:g}"
    axis = " " * 8 + left + right.rjust(COLUMNS - len(left))
    return [f"{' ' * 8}{curve.label:<{COLUMNS}}", *rows, axis]


def _dot(bits: np.ndarray, row: int, column: int) -> None:
    bits[row // 4, column // 2] |= _DOTS[row % 4][column % 2]


# ---- SVG ------------------------------------------------------------------------------------

_WIDTH, _HEIGHT, _PAD = 420, 240, 34
_COLORS = ("#1f77b4", "#d62728")  # of the function, of its derivative
_AXIS, _GRID = "#888", "#8883"  # of the lines at 0 and the labels; of all other lines
_LABEL_DROP, _LABEL_INDENT, _HALF_LETTER = 16, 4, 4  # pixels between a label and its line
_LEGEND_INDENT, _LEGEND_LINE = 6, 14


def svg_plot(all_curves: list[Curve]) -> str:
    """All curves in one coordinate system, with a legend."""
    limits = [_limits(curve.y) for curve in all_curves]
    low, high = min(a for a, _ in limits), max(b for _, b in limits)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" role="img" aria-label="{_escape(all_curves[0].label)}" '
        'font-family="sans-serif" font-size="11">'
    ]
    parts += _axes(low, high)
    for i, curve in enumerate(all_curves):
        parts.append(_polylines(curve, low, high, _COLORS[i]))
        parts.append(
            f'<text x="{_PAD + _LEGEND_INDENT}" y="{_LEGEND_LINE * (i + 1)}" fill="{_COLORS[i]}">'
            f"{_escape(curve.label)}</text>"
        )
    return "".join([*parts, "</svg>"])


def _place(x: float, y: float, low: float, high: float) -> tuple[float, float]:
    across = (x - X_RANGE[0]) / (X_RANGE[1] - X_RANGE[0])
    up = (y - low) / (high - low)
    return _PAD + across * (_WIDTH - 2 * _PAD), _HEIGHT - _PAD - up * (_HEIGHT - 2 * _PAD)


def _axes(low: float, high: float) -> list[str]:
    """Lines and labels: upright at every second x, level at 0 and where the picture ends."""
    parts = []
    for x in range(int(X_RANGE[0]), int(X_RANGE[1]) + 1, 2):
        px, py = _place(x, low, low, high)
        parts.append(_label(px, py + _LABEL_DROP, "middle", f"{x}"))
        parts.append(_line(px, py, px, _PAD, _GRID))
    crowded = (high - low) / 12
    for y in [0.0, *(y for y in (low, high) if abs(y) > crowded)]:
        px, py = _place(X_RANGE[0], y, low, high)
        parts.append(_label(px - _LABEL_INDENT, py + _HALF_LETTER, "end", f"{y:.3g}"))
        parts.append(_line(px, py, _WIDTH - _PAD, py, _AXIS if y == 0 else _GRID))
    return parts


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{_AXIS}" text-anchor="{anchor}">{text}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"/>'


def _polylines(curve: Curve, low: float, high: float, color: str) -> str:
    """The curve, cut where it is undefined or leaves the picture."""
    runs: list[list[str]] = [[]]
    for x, y in zip(curve.x, curve.y, strict=True):
        if np.isfinite(y) and low <= y <= high:
            px, py = _place(float(x), float(y), low, high)
            runs[-1].append(f"{px:.1f},{py:.1f}")
        elif runs[-1]:
            runs.append([])
    return "".join(
        f'<polyline points="{" ".join(run)}" fill="none" stroke="{color}" stroke-width="2"/>'
        for run in runs
        if len(run) > 1
    )


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
