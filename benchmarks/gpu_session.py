"""Everything that needs a GPU, in one command of under ten minutes.

    python benchmarks/gpu_session.py [--out FOLDER]

Runs the GPU tests, the kernels' benchmark and the training benchmark against PyTorch (where it is
installed), each within its share of the time, and keeps what they print. What came out well goes
to benchmarks/results/. Exit status 0 when the tests passed and both benchmarks ran.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# name, seconds it may take, arguments of python
STAGES = (
    # Eight processes, since most of the time goes into compiling; CuPy's warnings are no failures.
    ("tests", 200, ["-m", "pytest", "-m", "gpu", "-q", "-n", "8", "-W", "default",
                    "--maxfail=25", "tests"]),
    ("train", 150, ["benchmarks/bench_train.py", "--device", "cuda", "--quick"]),
    ("breakdown", 40, ["benchmarks/bench_train.py", "--device", "cuda", "--breakdown"]),
    ("kernels", 190, ["benchmarks/bench_kernels.py", "--quick"]),
)


def run(name: str, seconds: int, arguments: list[str], out: Path) -> bool:
    """Run one stage; its output goes to the terminal and to a file. Returns whether it passed."""
    start = time.perf_counter()
    log = out / f"gpu_{name}.log"
    print(f"\n== {name}: python {' '.join(arguments)}", flush=True)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=file, stderr=file
        )
        try:
            status = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            status = -1
    print("\n".join(log.read_text(encoding="utf-8").splitlines()[-40:]))
    verdict = {0: "passed", -1: f"stopped after {seconds} s"}.get(status, f"status {status}")
    print(f"== {name}: {verdict}, {time.perf_counter() - start:.0f} s, log in {log}", flush=True)
    return status == 0


def main() -> int:
    """Run all stages; 0 when all passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the logs")
    parser.add_argument("--only", nargs="+", choices=[s[0] for s in STAGES], help="these stages")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = [s for s in STAGES if not options.only or s[0] in options.only]
    passed = [run(*stage, options.out) for stage in chosen]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
