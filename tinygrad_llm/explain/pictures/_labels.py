"""Helpers shared by the pictures."""

from __future__ import annotations

from collections.abc import Sequence

MOST_LABELS = 48  # more of them on an axis cannot be read


def printable(labels: Sequence[str]) -> list[str]:
    """Token texts for a plot: blanks made visible, no mathematics mode."""
    return [text.replace("\n", "⏎").replace(" ", "·").replace("$", r"\$") or "∅" for text in labels]
