"""Step time against tokens, width and vocabulary, as a picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from train_ours import make_step
from train_sizes import Size, Step

BASE = Size(4, 4, 256, 128, 4, 1024, 5)
SWEEPS: dict[str, list[tuple[int, Size]]] = {
    "tokens in a step": [(4 * t, Size(4, 4, 256, t, 4, 1024, 5)) for t in (32, 64, 128, 256, 512)],
    "width": [(c, Size(4, 4, c, 128, 4, 1024, 5)) for c in (64, 128, 256, 384, 512)],
    "vocabulary": [(v, Size(4, 4, 256, 128, 4, v, 5)) for v in (65, 1024, 8192, 25000, 50257)],
}


def best_ms(make: Callable[[Size], Step], size: Size) -> float:
    """The fastest of a few steps in milliseconds."""
    step, batches = make(size), size.batches(2)
    step(*batches[0])
    best = float("inf")
    for i in range(size.steps):
        start = time.perf_counter()
        step(*batches[i % 2])
        best = min(best, time.perf_counter() - start)
    return 1000 * best


def draw_curve(path: Path, with_torch: bool) -> None:
    """Measure the three sweeps and draw them side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullFormatter

    makers: dict[str, Callable[[Size], Step]] = {"tinygrad_llm": make_step}
    if with_torch:
        import train_torch

        makers["torch eager"] = lambda size: train_torch.make_step(size, compiled=False)
    figure, axes = plt.subplots(1, len(SWEEPS), figsize=(13, 4), sharey=True)
    for ax, (label, sizes) in zip(axes, SWEEPS.items(), strict=True):
        times = {name: [best_ms(make, size) for _, size in sizes] for name, make in makers.items()}
        for name, ms in times.items():
            ax.plot([x for x, _ in sizes], ms, marker="o", label=name)
            points = zip((x for x, _ in sizes), ms, strict=True)
            print(f"{label}: {name}: " + ", ".join(f"{x}: {m:.1f} ms" for x, m in points))
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks([x for x, _ in sizes], [f"{x:,}" for x, _ in sizes])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.tick_params(axis="x", labelrotation=30)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set_xlabel(label)
        ax.grid(True, which="both", alpha=0.3)
    axes[0].set_ylabel("best ms a step")
    axes[0].legend()
    figure.suptitle(f"Training step on the CPU around: {BASE.title}")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"saved {path}")
