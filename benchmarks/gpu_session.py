"""Everything that needs a GPU, in one command of under ten minutes.

    python benchmarks/gpu_session.py [--out FOLDER] [--minutes N] [--only STAGE ...] [--resume]

What matters most comes first: quick checks, so that a fault is seen in seconds; the first training
speed; the kernels that have targets; where the time goes. With four minutes these are done. Then
tuned kernels, the comparison with PyTorch, all kernels with their peers, the GPU tests, other batch
sizes. Each stage is a process of its own; one that fails or hangs costs no other its time or rows.

--out holds two files: session.tgz, with all logs and rows, written anew after every stage and every
20 seconds, and table.txt. The logs and rows themselves are in --work, rows also in
benchmarks/results/. With --resume a second call goes on with the stages that have not passed.
Exit status 0 when all passed, 2 when nothing could begin.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from session_files import RESULTS, ROOT, Files, report

MARGIN = 10.0  # seconds kept for the last archive and the table
EVERY = 20.0  # seconds between two archives
SHOWN = 450  # characters of a stage's output; twelve stages and the table stay below 12,000


@dataclass(frozen=True)
class Stage:
    """A command, and how long it may take.

    Attributes:
        name, seconds: what it is called, and its limit.
        share: seconds that the stages before leave to it.
        command: arguments of python; WORK stands for the folder of logs and rows.
        environment: variables to set.
    """

    name: str
    seconds: int
    share: int
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


TRAIN, KERNELS = "benchmarks/train_gpu.py", "benchmarks/bench_kernels.py"
BENCH = (KERNELS, "--quick", "--out", "WORK/kernels.jsonl")
# Many processes, since most of the time goes into compiling; each with one thread of the CPU. A
# worker whose device is broken ends (tests/conftest.py), and another takes its place.
TESTS = (
    "-m",
    "pytest",
    "-m",
    "gpu",
    "-q",
    "-n",
    "12",
    "--max-worker-restart",
    "50",
    "-W",
    "default",
    "--durations",
    "5",
    "--continue-on-collection-errors",
    "-p",
    "no:cacheprovider",
    "tests",
)
ONE_THREAD = {"TINYGRAD_LLM_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
TINY_TESTS = (*TESTS[:6], "2", *TESTS[7:-1], "tests/kernels/test_gelu_kernel.py")
TARGETS = ("attention", "cross_entropy", "head", "layer_norm")
TUNING = {"TINYGRAD_LLM_AUTOTUNE": "1"}

STAGES = (
    Stage("smoke", 75, 50, ("benchmarks/gpu_smoke.py",)),
    Stage("first", 60, 35, (TRAIN, "first", "WORK", "32")),
    Stage("targets", 90, 60, (*BENCH, "--no-peers", "--only", *TARGETS)),
    Stage("breakdown", 50, 35, (TRAIN, "breakdown", "32", "WORK")),
    # What these two choose, attention's tiles for 1024 and 4096 tokens and what only the step has,
    # lies in WORK/tuned for the stages after them.
    Stage("tune", 70, 40, (*BENCH, "--no-peers", "--only", "attention"), TUNING),
    Stage("tuned", 60, 35, (TRAIN, "first", "WORK", "32"), TUNING),
    Stage("compare", 150, 90, (TRAIN, "compare", "WORK", "32")),
    Stage("kernels", 170, 60, BENCH),
    Stage("tests", 180, 60, TESTS, ONE_THREAD),
    Stage("losses", 60, 30, ("benchmarks/gpu_losses.py", "WORK")),
    Stage("gradients", 90, 40, ("-m", "tinygrad_llm", "gradcheck", "--device", "cuda")),
    Stage("more", 120, 40, (TRAIN, "compare", "WORK", "16", "64")),
)


@dataclass
class Outcome:
    """What became of a stage."""

    name: str
    verdict: str
    seconds: float


def limit(stages: list[Stage], left: float) -> float:
    """Seconds that the first of these stages may take of those left.

    Shares of the later stages are kept as far as they fit behind its own; what is over goes to
    whoever needs it first.
    """
    kept = 0.0
    for stage in stages[1:]:
        if stages[0].share + kept + stage.share > left:
            break
        kept += stage.share
    return min(stages[0].seconds, left - kept)


def run(stage: Stage, files: Files, seconds: float) -> Outcome:
    """Run one stage for at most `seconds`; its output goes to a file, its end to the terminal."""
    start = time.perf_counter()
    command = [part.replace("WORK", str(files.work)) for part in stage.command]
    print(f"\n== {stage.name}: python {' '.join(command)}", flush=True)
    environment = {
        "TINYGRAD_LLM_KERNEL_CACHE": str(files.work / "tuned"),
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "GPU_SESSION_STAGE": stage.name,
        **stage.environment,
    }
    with open(files.log(stage.name), "wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            verdict = _wait(process, files, start + seconds)
        finally:
            _end(process)
    print(files.end_of_log(stage.name, SHOWN))
    taken = time.perf_counter() - start
    print(f"== {stage.name}: {verdict}, {taken:.0f} s", flush=True)
    return Outcome(stage.name, verdict, taken)


def _wait(process: subprocess.Popen[bytes], files: Files, deadline: float) -> str:
    """How the process ended; the archive is kept fresh meanwhile."""
    start = time.perf_counter()
    while (left := deadline - time.perf_counter()) > 0:
        try:
            status = process.wait(timeout=min(EVERY, left))
            return f"status {status}" if status else "passed"
        except subprocess.TimeoutExpired:
            files.pack()
    return f"stopped after {deadline - start:.0f} s"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a stage with all its children: a worker left behind would hold the GPU's memory."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
    except ProcessLookupError:  # it is gone, and so are they
        process.wait()
    except subprocess.TimeoutExpired:  # it is stuck in the driver: the next stage may do better
        print(f"process {process.pid} cannot be ended", flush=True)


def run_all(stages: list[Stage], files: Files, seconds: float) -> list[Outcome]:
    """Run the stages one after the other while there is time."""
    deadline = time.perf_counter() + seconds - MARGIN
    outcomes = []
    for i, stage in enumerate(stages):
        may_take = limit(stages[i:], deadline - time.perf_counter())
        if may_take < 10:
            outcomes.append(Outcome(stage.name, "no time left", 0.0))
            continue
        outcomes.append(run(stage, files, may_take))
        files.note(json.dumps(vars(outcomes[-1])))
        files.publish()
        files.pack()
    return outcomes


CHECK = (
    "import sys; from tinygrad_llm import kernels; import tinygrad_llm.training; "
    "reason = kernels.why_not(); sys.exit(reason)"
)
INSTALL = (
    "-m",
    "pip",
    "install",
    "-q",
    "--no-deps",
    "--no-build-isolation",
    "--no-index",
    "--disable-pip-version-check",
    "-e",
    ".",
)
IMPORT = "import tinygrad_llm.kernels"


def what_is_missing() -> str:
    """Why no stage can run here, in a sentence, or ""; installs this package if need be."""
    if _python("-c", IMPORT):
        problem = _python(*INSTALL) or _python("-c", IMPORT)
        if problem:
            return f"tinygrad_llm cannot be imported, nor installed: {problem}"
    return _python("-c", CHECK)


def _python(*arguments: str) -> str:
    """The last line that this Python says where it fails, or ""."""
    environment = {**os.environ, "PIP_BREAK_SYSTEM_PACKAGES": "1"}  # of a rented machine
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if not done.returncode:
        return ""
    return (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen stages; 0 when all passed."""
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu", help="session.tgz")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "runs" / "gpu_session", help="logs and rows"
    )
    parser.add_argument("--only", nargs="+", choices=names, metavar="STAGE", help=", ".join(names))
    parser.add_argument("--resume", action="store_true", help="skip the stages that have passed")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all stages together")
    parser.add_argument("--tiny", action="store_true", help="sizes for a stand-in of the GPU")
    options = parser.parse_args(arguments)
    if options.tiny:
        os.environ["GPU_SESSION_TINY"] = "1"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what ends us at a time limit
    begun = time.perf_counter()
    if problem := what_is_missing():
        print(problem)
        return 2
    results = options.work / "results" if options.tiny else RESULTS
    files = Files(options.out.resolve(), options.work.resolve(), results)
    stages = [
        replace(s, command=TINY_TESTS) if options.tiny and s.name == "tests" else s for s in STAGES
    ]
    passed = files.passed() if options.resume else ()
    left = [s for s in stages if s.name in (options.only or names) and s.name not in passed]
    outcomes: list[Outcome] = []
    try:
        outcomes = run_all(left, files, 60 * options.minutes - (time.perf_counter() - begun))
    finally:
        files.publish()
        report(files)
        files.pack()
    return 0 if all(outcome.verdict == "passed" for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
