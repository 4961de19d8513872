"""Starts real processes with mpiexec; everything here needs mpi4py and an MPI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TRAIN = Path(__file__).parents[2] / "examples" / "train_gpt.py"
FLAGS = {
    "tokenizer": "char",
    "n-layer": 2,
    "n-head": 2,
    "n-embd": 32,
    "context-length": 32,
    "batch-size": 8,
    "accumulate": 2,
    "steps": 50,
    "warmup": 10,
    "eval-every": 25,
    "eval-tokens": 512,
    "checkpoint-every": 25,
    "log-every": 5,
    "sample-every": 0,
    "sample-tokens": 1,
    "dtype": "float64",
    "dropout": 0.0,
}


def mpiexec() -> str:
    """The starter that belongs to this environment; skips the test where there is none."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install .[distributed]")
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        pytest.skip("no mpiexec: pip install .[distributed]")
    return found


class Launch:
    """Starts programs on several ranks."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[str]] = []
        self.environment = {
            **os.environ,
            "OPENBLAS_NUM_THREADS": "1",
            "TINYGRAD_LLM_NUM_THREADS": "1",
        }

    def command(self, n: int, *arguments: object) -> list[str]:
        program = [sys.executable, *map(str, arguments)]
        return program if n == 1 else [mpiexec(), "-n", str(n), *program]

    def start(self, n: int, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(n, *arguments),
            env={**self.environment, **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.started.append(process)
        return process

    def end(self, process: subprocess.Popen[str], seconds: float = 120) -> str:
        """What it printed; a run that does not end is an error, and is ended."""
        try:
            return process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            self.kill(process)
            pytest.fail(f"still running after {seconds} s: {process.communicate()[0]}")

    def kill(self, process: subprocess.Popen[str]) -> None:
        """End mpiexec, which ends its ranks."""
        if process.stdout is not None and not process.stdout.closed:
            process.kill()
            process.communicate()

    def __call__(self, n: int, *arguments: object, **environment: str) -> tuple[int, str]:
        process = self.start(n, *arguments, **environment)
        output = self.end(process)
        return process.returncode, output

    def flags(self, text: Path, out: Path, **changes: object) -> list[str]:
        table = {**FLAGS, **{name.replace("_", "-"): v for name, v in changes.items()}}
        switches = [f"--{name}" for name, value in table.items() if value is True]
        values = [
            part
            for name, value in table.items()
            if value is not True
            for part in (f"--{name}", str(value))
        ]
        return [
            str(TRAIN),
            "--data",
            str(text),
            "--out",
            str(out),
            "--no-plot",
            "--no-progress",
            *values,
            *switches,
        ]

    def train(self, n: int, text: Path, out: Path, **changes: object) -> str:
        """Train on n ranks; the run must end well."""
        code, output = self(n, *self.flags(text, out, **changes))
        assert code == 0, output
        return output


@pytest.fixture
def launch() -> Iterator[Launch]:
    mpiexec()
    launch = Launch()
    yield launch
    for process in launch.started:
        launch.kill(process)


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 12,000 characters of real English in a file."""
    from pydoc_data.topics import topics

    path = tmp_path_factory.mktemp("text") / "calls.txt"
    path.write_text((topics["calls"] + topics["class"])[:12000], encoding="utf-8")
    return path
