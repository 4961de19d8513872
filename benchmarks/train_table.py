"""The tables of bench_train.py: all contenders at one size, and the ratios of all sizes."""

from __future__ import annotations

from collections.abc import Mapping

from train_contenders import AUTOCAST, EAGER, MEDIUM, OURS, OURS_BF16, Series
from train_sizes import SIZES

Found = dict[str, Series]
# What is divided by what, and which of their figures.
RATIOS = (
    ("time: PyTorch float32 / ours float32", EAGER, OURS, "median_ms"),
    ("time: PyTorch float32 / ours bf16", EAGER, OURS_BF16, "median_ms"),
    ("time: PyTorch medium / ours bf16", MEDIUM, OURS_BF16, "median_ms"),
    ("time: PyTorch bf16 / ours bf16", AUTOCAST, OURS_BF16, "median_ms"),
    ("memory: ours float32 / PyTorch float32", OURS, EAGER, "peak_mb"),
    ("memory: ours bf16 / PyTorch float32", OURS_BF16, EAGER, "peak_mb"),
    ("memory: ours bf16 / PyTorch bf16", OURS_BF16, AUTOCAST, "peak_mb"),
)


def print_table(size: str, found: Found) -> list[dict[str, object]]:
    """The rows for people; returns them for the JSON file."""
    print(f"\n({size}) {SIZES[size].title}")
    print(
        f"  {'':20}{'median ms':>10}{'best ms':>9}{'peak MB':>9}   time over ours, bf16  products"
    )
    rows = []
    for name, series in found.items():
        if not series:
            print(f"  {name:20}{series.problem}")
            continue
        row = _row(size, name, series, found)
        in_bf16 = row.get("time_ratio_bf16")
        print(
            f"  {name:20}{series.median_ms:10.1f}{series.best_ms:9.1f}{series.peak_mb:9.0f}"
            f"{row['time_ratio']:17.2f}{f'{in_bf16:6.2f}' if in_bf16 else '':6}"
            f"  {series.instructions}"
        )
        rows.append(row)
    return rows


def _row(size: str, name: str, series: Series, found: Found) -> dict[str, object]:
    ours, in_bf16 = found[OURS], found.get(OURS_BF16)
    row: dict[str, object] = {
        "size": size,
        "contender": name,
        "median_ms": series.median_ms,
        "best_ms": series.best_ms,
        "peak_mb": series.peak_mb,
        "time_ratio": series.median_ms / ours.median_ms,
        "best_ratio": series.best_ms / ours.best_ms,
        "memory_ratio": series.peak_mb / ours.peak_mb,
        "n": len(series.times),
        "instructions": series.instructions,
    }
    if in_bf16:
        row |= {
            "time_ratio_bf16": series.median_ms / in_bf16.median_ms,
            "best_ratio_bf16": series.best_ms / in_bf16.best_ms,
            "memory_ratio_bf16": series.peak_mb / in_bf16.peak_mb,
        }
    return row


def print_ratios(sizes: Mapping[str, Found]) -> None:
    """Ratios of medians and of memory, a column for each size."""
    print(f"\n{'':40}" + "".join(f"{f'({size})':>7}" for size in sizes))
    for text, above, below, figure in RATIOS:
        cells = [_ratio(found.get(above), found.get(below), figure) for found in sizes.values()]
        if any(cells):
            print(f"  {text:38}" + "".join(f"{cell:>7}" for cell in cells))


def _ratio(above: Series | None, below: Series | None, figure: str) -> str:
    return f"{getattr(above, figure) / getattr(below, figure):.2f}" if above and below else ""
