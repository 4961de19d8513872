"""Everything that needs a GPU, in one command of under ten minutes.

    python benchmarks/gpu_session.py [--out FOLDER] [--only STAGE ...] [--minutes N]

Quick checks first, so that a fault is seen in seconds; then a first training speed, the GPU tests,
the comparison with PyTorch, where the time goes, the kernels one by one. Each stage is a process
of its own with a limit of its own; one that fails or hangs does not keep the others from running.
Logs and rows go to --out as they come, rows also to benchmarks/results/; a table stands at the
end. Exit status 0 when all stages passed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MARGIN = 10  # seconds kept for writing the table


@dataclass(frozen=True)
class Stage:
    """A command, and how long it may take.

    Attributes:
        name, seconds: what it is called, and its limit.
        command: arguments of python; OUT stands for the folder of results.
        environment: variables to set.
        last: how many lines of its output are shown.
    """

    name: str
    seconds: int
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    last: int = 15


TRAIN = "benchmarks/train_gpu.py"
TESTS = ("-m", "pytest", "-m", "gpu", "-q", "-n", "12", "-W", "default", "--maxfail=25",
         "--durations=5", "-p", "no:cacheprovider", "tests")  # fmt: skip

STAGES = (
    Stage("smoke", 90, ("benchmarks/gpu_smoke.py",), last=40),
    # Before anything else can use up the time: the one number that matters most.
    Stage("first", 60, (TRAIN, "worker", "tinygrad_llm", "32", "10")),
    # Many processes, since most of the time goes into compiling; each with little of the CPU.
    Stage("tests", 170, TESTS, {"TINYGRAD_LLM_NUM_THREADS": "1"}, last=40),
    Stage("tune", 60, (TRAIN, "worker", "tinygrad_llm", "32", "5"), {"TINYGRAD_LLM_AUTOTUNE": "1"}),
    Stage("train", 180, (TRAIN, "compare", "OUT", "32")),
    Stage("breakdown", 45, (TRAIN, "breakdown", "32"), last=40),
    Stage("kernels", 150, ("benchmarks/bench_kernels.py", "--quick", "--out", "OUT/kernels.jsonl"),
          last=40),
    Stage("more", 120, (TRAIN, "compare", "OUT", "16", "64")),
)  # fmt: skip


@dataclass
class Outcome:
    """What became of a stage."""

    name: str
    verdict: str
    seconds: float
    log: str


def run(stage: Stage, out: Path, limit: float) -> Outcome:
    """Run one stage for at most ``limit`` seconds; its output goes to the terminal and a file."""
    start = time.perf_counter()
    log = out / f"{stage.name}.log"
    command = [part.replace("OUT", str(out)) for part in stage.command]
    print(f"\n== {stage.name}: python {' '.join(command)}", flush=True)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **stage.environment}
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=file,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(timeout=limit)
            verdict = f"status {status}" if status else "passed"
        except subprocess.TimeoutExpired:
            verdict = f"stopped after {limit:.0f} s"
        finally:
            _end(process)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(lines[-stage.last :]))
    seconds = time.perf_counter() - start
    print(f"== {stage.name}: {verdict}, {seconds:.0f} s", flush=True)
    return Outcome(stage.name, verdict, seconds, str(log))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a stage with all its children: a worker left behind would hold the GPU's memory."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it is gone, and so are they
        pass
    process.wait()


def publish(out: Path, sizes: dict[str, int]) -> None:
    """Append the rows that are new in ``out`` to benchmarks/results/."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for path in sorted(out.glob("*.jsonl")):
        rows = path.read_bytes()
        new = rows[sizes.get(path.name, 0) :]
        sizes[path.name] = len(rows)
        if new and path.name != "session.jsonl":
            with open(RESULTS / path.name, "ab") as file:
                file.write(new)


def run_all(stages: list[Stage], out: Path, seconds: float) -> list[Outcome]:
    """Run the stages one after the other while there is time."""
    deadline = time.perf_counter() + seconds - MARGIN
    sizes = {path.name: path.stat().st_size for path in out.glob("*.jsonl")}
    outcomes = []
    for stage in stages:
        limit = min(stage.seconds, deadline - time.perf_counter())
        if limit < 10:
            outcomes.append(Outcome(stage.name, "no time left", 0.0, ""))
            continue
        outcomes.append(run(stage, out, limit))
        publish(out, sizes)
        with open(out / "session.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(vars(outcomes[-1])) + "\n")
    return outcomes


def print_table(outcomes: list[Outcome], out: Path) -> None:
    """Stages and training speeds, short enough to be the last thing seen."""
    print(f"\n{'stage':12}{'seconds':>8}  verdict")
    for outcome in outcomes:
        print(f"{outcome.name:12}{outcome.seconds:8.0f}  {outcome.verdict}")
    try:
        rows = (out / "train_cuda.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for row in map(json.loads, rows[-9:]):
        print(
            f"B={row['batch']:<4}{row['contender']:16}{row['tokens_per_second']:>10,.0f} tokens/s"
            f"{row['ms']:>8.1f} ms{row['peak_gb']:>7.1f} GB  ours / this {row['ratio']:.2f}"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen stages; 0 when all passed."""
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu", help="logs and rows")
    parser.add_argument("--only", nargs="+", choices=names, metavar="STAGE", help=", ".join(names))
    parser.add_argument("--minutes", type=float, default=9.5, help="for all stages together")
    options = parser.parse_args(arguments)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    chosen = [stage for stage in STAGES if not options.only or stage.name in options.only]
    outcomes = run_all(chosen, out, options.minutes * 60)
    print_table(outcomes, out)
    return 0 if all(outcome.verdict == "passed" for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
