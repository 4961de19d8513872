"""Who takes part in bench_train.py, and how their processes take turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from train_instructions import of_torch
from train_sizes import python_file

from tinygrad_llm.backend import matrix_units

OURS, OURS_BF16 = "tinygrad_llm", "tinygrad_llm bf16"
EAGER, MEDIUM, AUTOCAST = "torch eager", "torch medium", "torch bf16"
TUNED, AUTOCAST_TUNED = "torch, malloc tuned", "torch bf16, tuned"
COMPILED, COMPILED_BF16 = "torch.compile", "torch.compile bf16"
IN_BF16 = (OURS_BF16, MEDIUM, AUTOCAST, AUTOCAST_TUNED, COMPILED_BF16)

# glibc then keeps large blocks instead of giving them back and having them cleared again.
TUNED_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "8589934592", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
# One thread each, which has nobody to wait for: its processor time hardly depends on other load.
ONE_THREAD = {
    "BENCH_PROCESSOR_TIME": "1",
    "TINYGRAD_LLM_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Contender:
    """A script beside this one, its options, and variables of its environment."""

    script: str
    options: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


CONTENDERS = {
    OURS: Contender("train_ours.py"),
    OURS_BF16: Contender("train_ours.py", ("--bf16",)),
    EAGER: Contender("train_torch.py"),
    MEDIUM: Contender("train_torch.py", ("--medium",)),
    AUTOCAST: Contender("train_torch.py", ("--bf16",)),
    TUNED: Contender("train_torch.py", settings=TUNED_MALLOC),
    AUTOCAST_TUNED: Contender("train_torch.py", ("--bf16",), TUNED_MALLOC),
    COMPILED: Contender("train_torch.py", ("--compile",)),
    COMPILED_BF16: Contender("train_torch.py", ("--compile", "--bf16")),
}


@dataclass
class Series:
    """What the processes of one contender measured.

    Attributes:
        times: seconds of each timed step.
        peaks: peak resident memory of each process in MB.
        losses: of the first process.
        instructions: which libraries and instructions computed its products.
        problem: why it did not run, or "".
    """

    times: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    instructions: str = ""
    problem: str = ""

    @property
    def median_ms(self) -> float:
        return 1000 * median(self.times)

    @property
    def best_ms(self) -> float:
        return 1000 * min(self.times)

    @property
    def peak_mb(self) -> float:
        return max(self.peaks)

    def __bool__(self) -> bool:
        """Whether there are times."""
        return bool(self.times) and not self.problem


def chosen(torch: bool, compiled: bool, tuned: bool, bf16: bool) -> list[str]:
    """The names of those who take part, ours first."""
    left_out = {TUNED, AUTOCAST_TUNED} if not tuned else set()
    left_out |= {COMPILED, COMPILED_BF16} if not compiled else set()
    left_out |= set(IN_BF16) if not bf16 else set()
    names = [name for name in CONTENDERS if name not in left_out]
    return names if torch else [name for name in names if name in (OURS, OURS_BF16)]


def measure(
    size: str, names: Sequence[str], rounds: int, steps: int, settings: dict[str, str]
) -> dict[str, Series]:
    """All contenders, taking turns. Ours in bfloat16 needs a processor that multiplies it."""
    found = {name: Series() for name in names}
    if OURS_BF16 in found:
        found[OURS_BF16].problem = matrix_units.found().why_not
    for _ in range(rounds):
        for name, series in found.items():
            if not series.problem:
                run_once(name, size, steps, series, settings)
    return found


def run_once(name: str, size: str, steps: int, series: Series, settings: dict[str, str]) -> None:
    """One process: append what it measured to ``series``."""
    contender = CONTENDERS[name]
    command = [sys.executable, python_file(contender.script), size, str(steps), *contender.options]
    environment = {**os.environ, **settings, **contender.settings}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)
    if done.returncode:
        series.problem = (done.stderr.strip().splitlines() or ["failed"])[-1]
        return
    lines = done.stdout.splitlines()
    report = json.loads(next(line for line in lines if line.startswith('{"times"')))
    series.times += report["times"]
    series.peaks.append(report["peak_mb"])
    series.losses = series.losses or report["losses"]
    series.instructions = series.instructions or of_torch(lines, report["instructions"])


def check_losses(found: dict[str, Series]) -> None:
    """Refuse a contender whose first loss is not ours."""
    ours = found[OURS].losses
    for series in found.values():
        if series.losses and abs(series.losses[0] - ours[0]) > 0.05 * ours[0]:
            series.problem = f"first loss {series.losses[0]:.3f}, ours {ours[0]:.3f}: not compared"
