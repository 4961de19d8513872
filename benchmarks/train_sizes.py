"""The training steps that are measured, and how a contender's process reports its times."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

Step = Callable[[np.ndarray, np.ndarray], float]  # inputs, targets (B, T) -> the loss
LR, BETAS, WEIGHT_DECAY, MAX_NORM = 1e-3, (0.9, 0.95), 0.1, 1.0


class Report(TypedDict):
    """What a process tells of its steps: seconds of each, its memory, losses, instructions."""

    times: list[float]
    peak_mb: float
    losses: list[float]
    instructions: str


@dataclass(frozen=True)
class Size:
    """One model and batch.

    Attributes:
        n_layer, n_head, n_embd, context, batch, vocabulary: the usual.
        steps: timed steps per process.
    """

    n_layer: int
    n_head: int
    n_embd: int
    context: int
    batch: int
    vocabulary: int
    steps: int

    @property
    def title(self) -> str:
        """The size in words."""
        return (
            f"{self.n_layer} layers, {self.n_embd} wide, context {self.context}, "
            f"batch {self.batch}, vocabulary {self.vocabulary}"
        )

    def batches(self, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Random inputs and targets (B, T), the same for every contender."""
        rng = np.random.default_rng(0)
        shape = (self.batch, self.context + 1)
        ids = [rng.integers(0, self.vocabulary, shape) for _ in range(n)]
        return [(x[:, :-1].copy(), x[:, 1:].copy()) for x in ids]

    def unigram_entropy(self) -> float:
        """The loss of a model that knows how often each id occurs in a batch, and no more, in nats.

        The ids are random, so this is what can be learned in a few steps: with a vocabulary of
        50257 it is 0.95 below the first loss with 32 Ki tokens, 0.57 with 64 Ki.
        """
        counts = np.unique(self.batches(1)[0][1], return_counts=True)[1]
        shares = counts / counts.sum()
        return float(-(shares * np.log(shares)).sum())

    def gemm_flops(self) -> int:
        """Operations in the matrix products of a step: forward once, backward twice."""
        rows, c = self.batch * self.context, self.n_embd
        layer = 12 * c * c + self.context * c  # weights; q k^T and P v, half of it hidden
        return 6 * rows * (self.n_layer * layer + c * self.vocabulary)


SIZES = {
    "a": Size(4, 4, 128, 64, 12, 65, 60),
    "b": Size(6, 6, 384, 256, 8, 65, 5),
    "c": Size(6, 6, 384, 256, 4, 50257, 4),
    "d": Size(12, 12, 768, 256, 2, 50257, 3),
}


def peak_megabytes() -> float:
    """The most memory this process ever had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1024)


def time_steps(size: Size, step: Step, steps: int, instructions: str = "") -> None:
    """Warm up, time each step, print one JSON line.

    Args:
        size, step, steps: what is timed, and how often.
        instructions: what computes its products, as far as the process knows.

    BENCH_PROCESSOR_TIME: see train_contenders.py.
    """
    clock = time.process_time if "BENCH_PROCESSOR_TIME" in os.environ else time.perf_counter
    batches = size.batches(4)
    losses = [step(*batches[i % 4]) for i in range(2)]
    times = []
    for i in range(steps):
        start = clock()
        losses.append(step(*batches[i % 4]))
        times.append(clock() - start)
    report: Report = {
        "times": times,
        "peak_mb": peak_megabytes(),
        "losses": losses,
        "instructions": instructions,
    }
    print(json.dumps(report), flush=True)


def python_file(name: str) -> str:
    """The path of a script beside this one."""
    return str(Path(__file__).parent / name)
