"""Generation against transformers: prompt and new tokens per second, memory, time to load.

    python benchmarks/bench_generate.py                              # needs torch and transformers
    python benchmarks/bench_generate.py --peer-python ENV/bin/python they stand in another one
    python benchmarks/bench_generate.py --device cuda

A model of GPT-2's smallest size (124M parameters) with random weights is written once and loaded
by two processes, which take turns. Rows are refused if the logits of the two differ. The peer
runs its model with its cache in a plain loop, without the costs of its generate() method.

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
from pathlib import Path
from typing import TypedDict

import numpy as np
from harness import Facts, Report, relative_error, row

import tinygrad_llm as tg
from tinygrad_llm.pretrained import SIZES, gpt2_config

TOLERANCE = 1e-4
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


class Worker:
    """A process with one of the contenders."""

    def __init__(self, python: str, who: str, folder: str, device: str, one_thread: bool) -> None:
        script = str(Path(__file__).with_name("generate_worker.py"))
        clock = "process_time" if one_thread else "perf_counter"
        threads = dict.fromkeys(THREAD_VARIABLES, "1") if one_thread else {}
        self.process = subprocess.Popen(
            [python, script, who, folder, device, clock],
            env={**os.environ, **threads},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.who = who
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


def measure(workers: list[Worker], rounds: int, request: dict[str, int]) -> dict[str, list[Answer]]:
    """The answers of each worker; they take turns, after one round to warm up."""
    answers: dict[str, list[Answer]] = {worker.who: [] for worker in workers}
    for _ in range(rounds + 1):
        for worker in workers:
            answers[worker.who].append(worker.ask(**request))
    return {who: found[1:] for who, found in answers.items()}


def add_rows(
    report: Report,
    answers: dict[str, list[Answer]],
    error: float,
    request: dict[str, int],
    shape: str,
    facts: Facts,
) -> None:
    """A row for the prompt and one for the new tokens, for each contender."""
    for phase, tokens in (
        ("prefill", request["batch"] * request["prompt"]),
        ("decode", request["batch"]),
    ):
        medians = {
            who: float(np.median([a["seconds"][phase] for a in found]))
            for who, found in answers.items()
        }
        for who, found in answers.items():
            told: Facts = {
                **facts,
                "shape": shape,
                "dtype": "float32",
                "tokens_per_s": round(tokens / medians[who], 1),
                "peak_mb": round(max(a["peak_mb"] for a in found)),
            }
            if who == "ours" and len(medians) > 1:
                told["times_peer"] = round(medians["transformers"] / medians["ours"], 3)
            times = [1e3 * a["seconds"][phase] for a in found]
            report.add(row(f"generate {phase}", error, TOLERANCE, times, ran=who, **told))


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="gpt2", choices=list(SIZES), help="size (default: gpt2)")
    parser.add_argument("--device", default="cpu", help='"cpu" or "cuda" (default: cpu)')
    parser.add_argument("--prompt", type=int, default=128, help="prompt tokens (default: 128)")
    parser.add_argument("--new", type=int, default=48, help="new tokens per round (default: 48)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per row (default: 5)")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="rows per batch")
    parser.add_argument("--peer-python", default=sys.executable, help="Python with transformers")
    parser.add_argument("--no-peer", action="store_true", help="measure this project alone")
    parser.add_argument("--one-thread", action="store_true", help="processor time of one thread")
    parser.add_argument("--out", metavar="FILE", help="append JSON lines to this file")
    options = parser.parse_args()
    report = Report(options.out)
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(model_folder(options.model, Path(temporary)))
        contenders = [(sys.executable, "ours")]
        if not options.no_peer:
            contenders.append((options.peer_python, "transformers"))
        workers = [
            Worker(python, who, folder, options.device, options.one_thread)
            for python, who in contenders
        ]
        error = relative_error(*(np.array(w.ready["logits"]) for w in (workers[0], workers[-1])))
        for worker in workers:
            print(f"{worker.who}: loaded in {worker.ready['load_s']:.2f} s (imports included)")
        for batch in options.batches:
            request = {"batch": batch, "prompt": options.prompt, "new": options.new}
            shape = f"{options.model} B{batch} T{options.prompt}+{options.new}"
            clock = "processor time, one thread" if options.one_thread else "wall clock"
            facts: Facts = {"clock": clock, "device": options.device}
            answers = measure(workers, options.rounds, request)
            add_rows(report, answers, error, request, shape, facts)
        for worker in workers:
            worker.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
