"""Real ranks on this machine: the operations, and how a run ends when one rank fails."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("n", [2, 4])
def test_every_operation(launch, n):
    code, output = launch(n, HERE / "rank_checks.py")
    assert code == 0, output
    assert f"ok on {n}" in output


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("own error", "failing_ranks.py: rank 1: the file of rank 1 is damaged"),
        ("bug", "ZeroDivisionError: a mistake in the program"),
        ("killed", "EXIT CODE: 9"),
    ],
)
def test_one_failing_rank_ends_all(launch, how, told):
    process = launch.start(2, HERE / "failing_ranks.py", how)
    output = launch.end(process, seconds=60)
    assert process.returncode != 0
    assert told in output
    first = output.strip().splitlines()[0]
    assert how == "killed" or first.startswith("failing_ranks.py: rank 1:"), "its own error first"


def test_a_rank_that_hangs_is_named(launch):
    process = launch.start(2, HERE / "failing_ranks.py", "hangs", TINYGRAD_LLM_TIME_LIMIT="1")
    output = launch.end(process, seconds=60)
    assert process.returncode != 0
    assert re.search(r"all_reduce: rank 0 has waited for 1 s for rank 1\.", output), output


def test_different_settings_are_refused_at_the_start(launch, page, tmp_path):
    flags = launch.flags(page, tmp_path / "run")
    command = launch.command(2, *flags)
    own = command[command.index("2") + 1 :]
    code, output = launch(
        1,
        "-c",
        f"""
import subprocess, sys
own = {own!r}
sys.exit(subprocess.run(
    [{command[0]!r}, "-n", "1", *own, ":", "-n", "1", *own, "--learning-rate", "0.5"]
).returncode)""",
    )
    assert code != 0
    assert "learning_rate: rank 0 has None, rank 1 has 0.5" in output
    assert not (tmp_path / "run").exists(), "nothing was begun"


def test_a_mistake_is_told_once(launch, page, tmp_path):
    code, output = launch(2, *launch.flags(page, tmp_path / "run", batch_size=7))
    assert code != 0
    assert output.count("7 windows cannot be shared out evenly among 2 processes") == 1


@pytest.mark.slow
def test_a_signal_stops_all_at_one_step(launch, page, tmp_path):
    out = tmp_path / "run"
    process = launch.start(2, *launch.flags(page, out, steps=100000, eval_every=0))
    wait_for_log(process, out, 300)
    process.send_signal(signal.SIGINT)
    output = launch.end(process)
    step = int(re.search(r"Stopped by Ctrl-C after (\d+) of 100000 steps", output)[1])
    assert (out / "last").resolve().name == f"step-{step:08d}"


def wait_for_log(process, out, size):
    log, until = out / "log.jsonl", time.monotonic() + 60
    while not (log.is_file() and log.stat().st_size > size):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until, "no log"
        time.sleep(0.02)


def children_of(pid):
    """Process ids below a process, from /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            child = int(stat.parent.name)
            found += [child, *children_of(child)]
    return found


def ranks_of(process):
    """The ids of the training processes, by rank."""
    ranks = {}
    for pid in children_of(process.pid):
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        number = [v[len("PMI_RANK=") :] for v in variables if v.startswith(b"PMI_RANK=")]
        if number:
            ranks[int(number[0])] = pid
    return ranks


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the ranks in /proc")
@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_kill_9_of_one_rank_loses_nothing(launch, page, tmp_path, victim):
    """All end; the resumed run ends with the bits of an undisturbed one."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    changes = {"steps": 60, "checkpoint_every": 5, "dropout": 0.1, "dtype": "float32"}
    launch.train(2, page, whole, **changes)
    process = launch.start(2, *launch.flags(page, cut, **changes))
    wait_for_log(process, cut, 400)
    ranks = ranks_of(process)
    os.kill(ranks[victim], signal.SIGKILL)
    launch.end(process, seconds=30)
    assert process.returncode != 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks.values()), "all have ended"
    launch.train(2, page, cut, resume=True, **changes)
    for name in ("last/model.safetensors", "last/training_state.safetensors", "log.jsonl"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name


@pytest.mark.slow
def test_bytes_that_the_system_counts_are_those_of_the_formula(launch):
    """Over TCP, where the network interface has a counter; headers add less than 5 %."""
    if not Path("/proc/net/dev").exists():
        pytest.skip("no /proc/net/dev")
    worker = HERE.parents[1] / "benchmarks" / "scaling_worker.py"
    chosen = {"batch": 1, "shard": False, "silent": False, "bucket_bytes": 2**22, "steps": 3}
    tcp = {"UCX_TLS": "tcp,self", "MPIR_CVAR_NOLOCAL": "1"}
    code, output = launch(2, worker, json.dumps(chosen), **tcp)
    assert code == 0, output
    figures = json.loads(output.strip().splitlines()[-1])
    assert figures["sent_per_step"] == 4 * figures["parameters"]
    if figures["on_interface_per_step"] < 1000:
        pytest.skip("this MPI does not go over the interface")
    formula = 2 * figures["sent_per_step"]  # both ranks
    assert 1 <= figures["on_interface_per_step"] / formula < 1.05
