"""Generation against transformers: prompt and new tokens per second, memory, time to load.

    python benchmarks/bench_generate.py                              # needs torch and transformers
    python benchmarks/bench_generate.py --dtypes float32             # bfloat16 left out
    python benchmarks/bench_generate.py --peer-python ENV/bin/python they stand in another one
    python benchmarks/bench_generate.py --device cuda

A model of GPT-2's smallest size (124M parameters) with random weights is written once and loaded
by a process of each contender; they take turns. In bfloat16 ours runs under
``tg.set_float32_matmul_precision("medium")`` on a CPU, and transformers with its weights in
bfloat16. A row is refused if its logits differ from those in float32. The peer runs its model
with its cache in a plain loop, without the costs of its generate() method.

On a machine that others use, too, wall-clock times of two threads say little. `--one-thread` takes
the processor time of one thread of each, which other processes hardly change.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from harness import Facts, Report, Row, relative_error, row

import tinygrad_llm as tg
from tinygrad_llm.backend import matrix_units
from tinygrad_llm.pretrained import SIZES, gpt2_config

# Of the logits; a bfloat16 has 8 bits, and twelve layers of them add up.
TOLERANCES = {"float32": 1e-4, "bfloat16": 3e-2}
BATCHES = (1, 8)
THREAD_VARIABLES = (
    "TINYGRAD_LLM_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
)


class Answer(TypedDict):
    """What a worker tells of one request."""

    seconds: dict[str, float]  # "prefill": of the prompt; "decode": of one token of each row
    tokens: list[list[int]]
    peak_mb: float


class Ready(TypedDict):
    """What a worker tells when its model is loaded."""

    load_s: float
    logits: list[list[list[float]]]  # some of those of random prompts
    instructions: str


class Worker:
    """A process with one of the contenders: ``who`` in ``dtype``."""

    def __init__(self, who: str, dtype: str, options: argparse.Namespace, folder: str) -> None:
        script = str(Path(__file__).with_name("generate_worker.py"))
        python = sys.executable if who == "ours" else options.peer_python
        clock = "process_time" if options.one_thread else "perf_counter"
        threads = dict.fromkeys(THREAD_VARIABLES, "1") if options.one_thread else {}
        self.process = subprocess.Popen(
            [python, script, who, folder, options.device, clock, dtype],
            env={**os.environ, **threads},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.who, self.dtype = who, dtype
        self.ready: Ready = json.loads(self.read())

    def read(self) -> str:
        """The next answer, a line of JSON."""
        for line in self.process.stdout or ():
            if line.startswith("{"):
                return line
        raise SystemExit(f"bench_generate: the process of {self.who!r} ended; see above.")

    def ask(self, **request: int) -> Answer:
        """Send a request and wait for its answer."""
        if self.process.stdin is not None:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        answer: Answer = json.loads(self.read())
        return answer

    def end(self) -> None:
        """Let the process finish."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def model_folder(name: str, folder: Path) -> Path:
    """A model of the given size with random weights."""
    tg.manual_seed(0)
    tg.nn.GPT(gpt2_config(name)).save_pretrained(folder)
    return folder


def contenders(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Who takes part, and in which type."""
    whos = ["ours"] if options.no_peer else ["ours", "transformers"]
    found = [(who, dtype) for dtype in options.dtypes for who in whos]
    units = matrix_units.found()
    if ("ours", "bfloat16") in found and options.device == "cpu" and units.few_rows is None:
        print(f"ours in bfloat16 is left out. {units.why_not}")
        found.remove(("ours", "bfloat16"))
    return found


def errors(workers: Sequence[Worker]) -> dict[Worker, float]:
    """How far the logits of each lie from those of another worker in float32, if there is one."""
    logits = {worker: np.array(worker.ready["logits"]) for worker in workers}
    in_float32 = [worker for worker in workers if worker.dtype == "float32"] or list(workers)
    found = {}
    for worker in workers:
        others = [other for other in in_float32 if other is not worker]
        found[worker] = relative_error(logits[worker], logits[(others or [worker])[-1]])
    return found


def measure(
    workers: Sequence[Worker], rounds: int, request: dict[str, int]
) -> dict[Worker, list[Answer]]:
    """The answers of each worker; they take turns, after one round to warm up."""
    answers: dict[Worker, list[Answer]] = {worker: [] for worker in workers}
    for _ in range(rounds + 1):
        for worker in workers:
            answers[worker].append(worker.ask(**request))
    return {worker: found[1:] for worker, found in answers.items()}


def add_rows(
    report: Report,
    answers: dict[Worker, list[Answer]],
    error: dict[Worker, float],
    request: dict[str, int],
    facts: Facts,
) -> None:
    """A row for the prompt and one for the new tokens, for each contender."""
    for phase, tokens in (
        ("prefill", request["batch"] * request["prompt"]),
        ("decode", request["batch"]),
    ):
        medians = {
            (worker.who, worker.dtype): float(np.median([a["seconds"][phase] for a in found]))
            for worker, found in answers.items()
        }
        for worker, found in answers.items():
            median = medians[worker.who, worker.dtype]
            told: Facts = {
                **facts,
                "dtype": worker.dtype,
                "tokens_per_s": round(tokens / median, 1),
                "peak_mb": round(max(a["peak_mb"] for a in found)),
                "instructions": worker.ready["instructions"],
            }
            if worker.who == "ours" and ("transformers", worker.dtype) in medians:
                told["times_peer"] = round(medians["transformers", worker.dtype] / median, 3)
            if worker.who == "ours" and ("transformers", "float32") in medians:
                told["times_float32_peer"] = round(medians["transformers", "float32"] / median, 3)
            times = [1e3 * a["seconds"][phase] for a in found]
            tolerance = TOLERANCES[worker.dtype]
            name = f"generate {phase}"
            report.add(row(name, error[worker], tolerance, times, ran=worker.who, **told))


def print_ratios(rows: Sequence[Row]) -> None:
    """transformers' time over ours, in the same type and against its float32."""
    ours = [one for one in rows if "times_float32_peer" in one]
    if not ours:
        return
    print(f"\n{'time: transformers / ours':45}{'same type':>10}{'its float32':>13}")
    for one in ours:
        name = f"{one['op']} {one.get('shape', '')} {one.get('dtype', '')}"
        same = f"{one['times_peer']:.2f}" if "times_peer" in one else ""
        print(f"  {name:43}{same:>10}{one['times_float32_peer']:13.2f}")


def parse() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="gpt2", choices=list(SIZES), help="size (default: gpt2)")
    parser.add_argument("--device", default="cpu", help='"cpu" or "cuda" (default: cpu)')
    parser.add_argument("--dtypes", nargs="+", choices=TOLERANCES, default=list(TOLERANCES))
    parser.add_argument("--prompt", type=int, default=128, help="prompt tokens (default: 128)")
    parser.add_argument("--new", type=int, default=48, help="new tokens per round (default: 48)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per row (default: 5)")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="rows per batch")
    parser.add_argument("--peer-python", default=sys.executable, help="Python with transformers")
    parser.add_argument("--no-peer", action="store_true", help="measure this project alone")
    parser.add_argument("--one-thread", action="store_true", help="processor time of one thread")
    parser.add_argument("--out", metavar="FILE", help="append JSON lines to this file")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; returns the exit status."""
    options = parse()
    report = Report(options.out)
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(model_folder(options.model, Path(temporary)))
        workers = [Worker(*each, options, folder) for each in contenders(options)]
        error = errors(workers)
        for worker in workers:
            loaded = f"loaded in {worker.ready['load_s']:.2f} s (imports included)"
            products = worker.ready["instructions"]
            print(f"{worker.who} {worker.dtype}: {loaded}; products: {products}")
        for batch in options.batches:
            request = {"batch": batch, "prompt": options.prompt, "new": options.new}
            facts: Facts = {
                "shape": f"{options.model} B{batch} T{options.prompt}+{options.new}",
                "clock": "processor time, one thread" if options.one_thread else "wall clock",
                "device": options.device,
            }
            answers = measure(workers, options.rounds, request)
            add_rows(report, answers, error, request, facts)
        for worker in workers:
            worker.end()
    print_ratios(report.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
