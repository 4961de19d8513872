"""Long runs and large data: memory stays where it was. Slow; run with -m slow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygrad_llm.data.shards import write_shard
from tinygrad_llm.tokenizers import CharTokenizer
from tinygrad_llm.training.report.log import read_log

TRAIN = Path(__file__).parents[2] / "examples" / "train_gpt.py"
STEPS = 20_000
SHARD_BYTES, N_SHARDS = 256 << 20, 6
LIMIT_KIB = 400 << 10

SMALL = [
    "--n-layer",
    "2",
    "--n-head",
    "2",
    "--n-embd",
    "32",
    "--context-length",
    "32",
    "--batch-size",
    "4",
    "--sample-every",
    "0",
    "--no-plot",
]


def environment():
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", "TINYGRAD_LLM_NUM_THREADS": "1"}


@pytest.mark.slow
def test_twenty_thousand_steps_in_constant_memory(page, tmp_path):
    out = tmp_path / "run"
    flags = [
        "--data",
        str(page),
        "--tokenizer",
        "char",
        "--steps",
        str(STEPS),
        "--log-every",
        "500",
        "--eval-every",
        "2000",
        "--checkpoint-every",
        "5000",
    ]
    command = [sys.executable, str(TRAIN), *SMALL, *flags, "--out", str(out)]
    subprocess.run(command, check=True, env=environment(), stdout=subprocess.DEVNULL)
    lines = read_log(out / "timing.jsonl")
    assert lines[-1]["step"] == STEPS
    for line in lines[3::4]:
        print(
            f"step {line['step']:>6}: {line['memory_bytes'] / 1e6:7.1f} MB resident, "
            f"{line['tokens_per_second']:>9,.0f} tokens/s"
        )
    memory = {line["step"]: line["memory_bytes"] for line in lines}
    settled = memory[4000]  # after the first validations and the warm-up of pools
    assert max(memory[step] for step in memory if step > 4000) < settled + 3e6


@pytest.fixture(scope="module")
def large_shards(tmp_path_factory):
    """1.5 GB of token shards: random words over a small alphabet."""
    folder = tmp_path_factory.mktemp("shards")
    CharTokenizer.train("abcdefghijklmnopqrstuvwxyz \n").save(folder)
    rng = np.random.default_rng(0)
    for number in range(N_SHARDS):
        ids = rng.integers(0, 28, SHARD_BYTES // 2, dtype=np.uint16)
        write_shard(folder / f"shard_{number:06d}.tokens", ids)
    yield folder
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ulimit -d limits memory maps on Linux")
def test_shards_larger_than_the_memory_limit(large_shards, tmp_path):
    """1.5 GB of tokens under a limit of 400 MB; reading them into an array must fail there."""
    limited = f"ulimit -d {LIMIT_KIB}; exec "
    whole = "import numpy, sys; a = [numpy.fromfile(p, 'u2') for p in sys.argv[1:]]"
    paths = " ".join(map(str, sorted(large_shards.glob("*.tokens"))))
    control = subprocess.run(
        ["bash", "-c", f'{limited} {sys.executable} -c "{whole}" {paths}'],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert control.returncode != 0
    assert "MemoryError" in control.stderr

    out = tmp_path / "run"
    flags = [
        "--data",
        str(large_shards),
        "--steps",
        "300",
        "--eval-every",
        "100",
        "--validation-fraction",
        "0.01",
        "--out",
        str(out),
    ]
    command = " ".join([sys.executable, str(TRAIN), *SMALL, *flags])
    done = subprocess.run(
        ["bash", "-c", limited + command], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 shards, 805,306,368 tokens" in done.stdout
    print(done.stdout[-900:])
