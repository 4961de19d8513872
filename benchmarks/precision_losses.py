"""Whole training runs in float32 and bfloat16: how far apart the validation losses end.

    python benchmarks/precision_losses.py                         # `make train`, three seeds
    python benchmarks/precision_losses.py --seeds 1 --steps 20    # to try it
    python benchmarks/precision_losses.py --folder FOLDER         # where the runs are kept

Six runs of 1,000 steps take half an hour on two cores. What was stopped goes on when it is started
again: a run that is done is read from its log, one that was interrupted is resumed.

Where bfloat16 does not pay, TINYGRAD_LLM_MATRIX_UNITS=on computes from it all the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

from harness import Report

from tinygrad_llm.backend import matrix_units

DTYPES = ("float32", "bfloat16")
BOUND = 0.005  # of the validation loss
# Settings that do not change what is computed: less on the disk, and no samples.
QUIET = ("--sample-every=0", "--keep=1", "--no-plot", "--no-progress")


class Run(NamedTuple):
    """How a run ended."""

    loss: float  # nats per token of the validation text, after the last step
    best: float
    tokens_per_s: float


def train(seed: int, dtype: str, steps: int, out: Path) -> Run:
    """Train with the settings of `make train`, or go on, or read how it ended.

    Raises:
        SystemExit: the training failed, or was stopped.
    """
    if (done := ended(out, steps)) is not None:
        return done
    settings = [f"--seed={seed}", f"--dtype={dtype}", f"--steps={steps}", f"--out={out}"]
    command = [sys.executable, "-m", "tinygrad_llm", "train", "--resume", *settings, *QUIET]
    output = _finish(command)
    done = ended(out, steps)
    if done is None:
        raise SystemExit(f"precision_losses: {' '.join(command)} did not end:\n{output}")
    return done


def _finish(command: Sequence[str]) -> str:
    """The output of a process. Ctrl-C reaches it too, and it is given the time to save."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    ) as process:
        try:
            return process.communicate()[0]
        except KeyboardInterrupt:
            process.communicate()
            raise SystemExit("stopped; the same command goes on from here") from None


def ended(out: Path, steps: int) -> Run | None:
    """What the logs of a run say of its end; None where it is not done."""
    log = _lines(out / "log.jsonl")
    losses = {
        int(line["step"]): line["validation_loss"] for line in log if "validation_loss" in line
    }
    if steps not in losses:
        return None
    speeds = [line["tokens_per_second"] for line in _lines(out / "timing.jsonl")]
    return Run(losses[steps], min(losses.values()), median(speeds))


def _lines(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def compare(seeds: Sequence[int], steps: int, folder: Path, report: Report) -> bool:
    """Print a line for each seed; whether the losses lie within the bound."""
    print(
        f"{'seed':>6}{'float32':>10}{'bfloat16':>10}{'difference':>12}   best of each    tokens/s"
    )
    differences = []
    for seed in seeds:
        wide, narrow = (
            train(seed, dtype, steps, folder / f"{steps}-steps-seed-{seed}-{dtype}")
            for dtype in DTYPES
        )
        differences.append(narrow.loss / wide.loss - 1)
        print(
            f"{seed:6}{wide.loss:10.4f}{narrow.loss:10.4f}{differences[-1]:+12.2%}"
            f"{wide.best:9.4f}{narrow.best:8.4f}{wide.tokens_per_s:8,.0f}{narrow.tokens_per_s:8,.0f}",
            flush=True,
        )
        about = {"op": "losses of whole runs", "steps": steps, "seed": seed}
        report.write({**about, "float32": wide._asdict(), "bfloat16": narrow._asdict()})
    within = max(map(abs, differences)) <= BOUND
    print(
        f"in the mean {mean(differences):+.2%}, at most {max(differences, key=abs):+.2%}: "
        f"{'within' if within else 'NOT WITHIN'} {BOUND:.1%}"
    )
    return within


def main(arguments: list[str] | None = None) -> int:
    """0 when the losses in bfloat16 lie within the bound."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 1, 2], help="of the runs")
    parser.add_argument("--steps", type=int, default=1000, help="of each run (default: 1000)")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/precision"), help="where the runs are kept"
    )
    parser.add_argument("--out", metavar="FILE", help="append JSON lines to this file")
    options = parser.parse_args(arguments)
    if why_not := matrix_units.found().why_not:
        raise SystemExit(f"precision_losses: both would be the same. {why_not}")
    print(f"bfloat16 by {matrix_units.found().instructions}, {options.steps} steps")
    within = compare(options.seeds, options.steps, options.folder, Report(options.out))
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
