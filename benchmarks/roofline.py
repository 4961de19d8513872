"""The roofline picture: how close each kernel comes to what memory or arithmetic allow.

Left of the ridge a kernel is limited by bandwidth, right of it by the matrix units. The roofs are
measured on the machine, not taken from a data sheet.

Reference: Williams, Waterman and Patterson, "Roofline" (2009).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness import Row


def draw(rows: Sequence[Row], path: Path, gigabytes: float, teraflops: float, title: str) -> None:
    """Write a PNG of the rows that have a rate; needs matplotlib.

    gigabytes: measured bandwidth in GB/s; teraflops: measured matrix product in TFLOP/s
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6))
    intensities = [2.0**-4, 1e3 * teraflops / gigabytes, 2.0**12]  # in the middle the ridge
    roof = [min(gigabytes * x / 1e3, teraflops) for x in intensities]
    axes.loglog(intensities, roof, color="black", linewidth=1)
    label = f"roof: {gigabytes:.0f} GB/s, {teraflops:.0f} TFLOP/s"
    axes.plot([], [], color="black", linewidth=1, label=label)
    ops = sorted({r["op"] for r in rows})
    for index, op in enumerate(ops):
        points = [r for r in rows if r["op"] == op and "rate" in r and r.get("intensity")]
        x = [r["intensity"] for r in points]
        y = [r["tflops"] for r in points]
        if points:
            axes.scatter(
                x, y, s=30, color=f"C{index % 10}", marker="os^Dv"[index // 10 % 5], label=op
            )
    axes.set_xlabel("arithmetic intensity (FLOP per byte that must move)")
    axes.set_ylabel("TFLOP/s")
    axes.set_title(title)
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
