"""A real training process is killed with SIGKILL, again and again, and loses nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRAIN = Path(__file__).parents[2] / "examples" / "train_gpt.py"
FLAGS = {
    "tokenizer": "char",
    "n-layer": 2,
    "n-head": 2,
    "n-embd": 32,
    "context-length": 32,
    "batch-size": 4,
    "warmup": 10,
    "dropout": 0.1,
    "eval-every": 40,
    "eval-tokens": 512,
    "checkpoint-every": 10,
    "log-every": 5,
    "sample-every": 0,
    "keep": 2,
}


def command(text, out, steps):
    flags = [part for name, value in FLAGS.items() for part in (f"--{name}", str(value))]
    return [
        sys.executable,
        str(TRAIN),
        "--data",
        str(text),
        "--out",
        str(out),
        "--steps",
        str(steps),
        "--no-plot",
        "--resume",
        *flags,
    ]


def run(arguments):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "TINYGRAD_LLM_NUM_THREADS": "1"}
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def result_of(out):
    """The bits that a run ends with: its weights, its optimizer, its log."""
    last = (out / "last").resolve()
    names = ("model.safetensors", "training_state.safetensors")
    return {
        "step": last.name,
        "best": (out / "best").resolve().name,
        "log": (out / "log.jsonl").read_bytes(),
        **{name: (last / name).read_bytes() for name in names},
    }


def wait_for_checkpoint_write(process, out):
    """Return in the middle of writing a checkpoint, or when the process is done."""
    folder = out / "checkpoints"
    while process.poll() is None:
        if folder.is_dir() and any(name.endswith(".tmp") for name in os.listdir(folder)):
            return
        time.sleep(0.0002)


def kill_repeatedly(text, out, steps, kills, rng, seconds):
    """Start, kill, start again; returns in what state the kills found the run.

    Every other kill comes at a random time, the others within the writing of a checkpoint.
    """
    found = {"in a write": 0, "elsewhere": 0, "too late": 0}
    for number in range(kills):
        process = run(command(text, out, steps))
        if number % 2:
            for _ in range(rng.randrange(1, 4)):
                wait_for_checkpoint_write(process, out)
                time.sleep(rng.random() * 0.003)
        else:
            time.sleep(rng.uniform(*seconds))
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0), output
        leftovers = list((out / "checkpoints").glob(".*.tmp")) if out.is_dir() else []
        late = process.returncode == 0
        found["too late" if late else "in a write" if leftovers else "elsewhere"] += 1
    process = run(command(text, out, steps))
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert f"{steps} of {steps} steps" in output
    return found


def compare(text, folder, steps, kills, seed, seconds):
    whole, killed = folder / "whole", folder / "killed"
    process = run(command(text, whole, steps))
    output, _ = process.communicate()
    assert process.returncode == 0, output
    found = kill_repeatedly(text, killed, steps, kills, random.Random(seed), seconds)
    ours, theirs = result_of(killed), result_of(whole)
    for name, value in theirs.items():
        assert ours[name] == value, f"{name} differs"
    steps_logged = [json.loads(line)["step"] for line in ours["log"].splitlines()]
    assert steps_logged == sorted(steps_logged)
    return found


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_five_times(page, tmp_path):
    found = compare(page, tmp_path, steps=400, kills=5, seed=1, seconds=(0.3, 1.2))
    assert found["too late"] <= 2


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_fifty_times(page, tmp_path):
    found = compare(page, tmp_path, steps=6000, kills=50, seed=2, seconds=(0.2, 1.6))
    print(f"50 kills: {found}")
    assert found["in a write"] >= 10
    assert found["too late"] <= 5
