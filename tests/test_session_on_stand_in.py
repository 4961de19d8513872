"""gpu_session.py as it stands, run to its end on a stand-in for CuPy, also with planted faults."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.test_gpu_session import BENCHMARKS, ROOT, packed

STAND_IN = ROOT / "tests" / "stand_in"


def run_session(tmp_path, *options, path=STAND_IN, fault=None):
    """The whole script, on the stand-in for CuPy unless another path is given."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(path),
        "TINYGRAD_LLM_KERNEL_CACHE": str(tmp_path / "cache"),
    }
    if fault:
        environment["STAND_IN_FAULT"] = f"{fault},{tmp_path / 'planted'}"
    command = [
        sys.executable,
        str(BENCHMARKS / "gpu_session.py"),
        "--tiny",
        "--out",
        str(tmp_path / "out"),
        "--work",
        str(tmp_path / "work"),
        *options,
    ]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")


def read(tmp_path):
    """(verdicts by stage, rows of kernels by op without those that failed, files) of an archive."""
    found = packed(tmp_path / "out" / "session.tgz")
    verdicts = {
        row["name"]: row["verdict"] for row in map(json.loads, found["session.jsonl"].splitlines())
    }
    rows = [json.loads(line) for line in found.get("kernels.jsonl", "").splitlines()]
    return verdicts, rows, found


@pytest.mark.parametrize("lacking", ["cupy", "triton"])
def test_a_machine_without_a_gpu_gets_one_sentence_within_seconds(tmp_path, lacking):
    (tmp_path / f"{lacking}.py").write_text("raise ImportError", encoding="utf-8")
    started = time.monotonic()
    done = run_session(tmp_path, path=tmp_path)
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 1
    assert {"cupy": "CuPy", "triton": "Triton"}[lacking] + " is not installed" in done.stdout
    assert time.monotonic() - started < 20  # 5 on a machine that is not busy
    assert not (tmp_path / "out").exists()


TARGET_ROWS = 13  # of the kinds of `targets`, at tiny sizes


def test_a_broken_device_costs_one_row_on_the_stand_in(tmp_path):
    """An illegal address in one case: that case has no row, all others have theirs."""
    done = run_session(tmp_path, "--only", "targets", fault="sticky,targets,30")
    assert (tmp_path / "planted").exists(), done.stdout
    verdicts, rows, _ = read(tmp_path)
    assert done.returncode == 1
    assert verdicts == {"targets": "status 1"}
    failed = [row for row in rows if "failed" in row]
    assert len(failed) == 1
    assert "illegal memory access" in failed[0]["failed"]
    assert sum("ms" in row for row in rows) == TARGET_ROWS - 1
    assert {row["timed"] for row in rows if "ms" in row} == {"graph"}
    assert {row["stage"] for row in rows} == {"targets"}
    assert {row["card"] for row in rows} == {"H200"}
    assert "of another H200" in next(row["doubt"] for row in rows if row["op"] == "ceilings")


# What is planted in each stage, at which launch of one of its processes.
KINDS = ("error", "crash", "sticky", "full", "hang")
LAUNCH = {
    "smoke": 40,
    "first": 60,
    "targets": 40,
    "breakdown": 30,
    "tune": 8,
    "tuned": 60,
    "compare": 60,
    "kernels": 70,
    "tests": 6,
    "losses": 60,
    "more": 60,
}
# "gradients" computes in float64, by array code: it launches no kernel at which to plant a fault.
ALL = (*list(LAUNCH)[:-1], "gradients", "more")
# A candidate that cannot be launched is not chosen, no more; who writes no file misses no disk.
HARMLESS = {
    ("error", "tune"),
    ("error", "tuned"),
    *(("full", name) for name in ("smoke", "first", "tuned", "compare", "tests", "more")),
}


@pytest.mark.slow
def test_the_whole_session_on_the_stand_in(tmp_path):
    done = run_session(tmp_path, "--minutes", "30")
    verdicts, rows, found = read(tmp_path)
    assert verdicts == dict.fromkeys(ALL, "passed"), done.stdout
    assert done.returncode == 0
    assert len(done.stdout) < 12_000
    assert not any("failed" in row or "refused" in row for row in rows)
    assert {r["stage"] for r in rows} == {"targets", "tune", "kernels"}
    trained = [json.loads(line) for line in found["train_cuda.jsonl"].splitlines()]
    assert [(r["stage"], r["batch"]) for r in trained] == [
        ("first", 2),
        ("tuned", 2),
        ("compare", 2),
        ("more", 1),
        ("more", 4),
    ]
    assert "14 of 14" in found["smoke.log"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", LAUNCH)
def test_a_fault_in_one_stage_costs_no_other_its_rows(tmp_path, stage, kind):
    """The stage with the fault between two others, which pass; what it had done before is kept."""
    beside = ["breakdown", "first"] if stage != "first" else ["smoke", "breakdown"]
    ordered = [name for name in ALL if name in (*beside, stage)]
    limits = ["--minutes", "2.5"] if kind == "hang" else ["--minutes", "10"]
    run_session(tmp_path, "--only", *ordered, *limits, fault=f"{kind},{stage},{LAUNCH[stage]}")
    verdicts, rows, found = read(tmp_path)
    assert (tmp_path / "planted").exists()
    assert all(verdicts[name] == "passed" for name in beside if name in verdicts and name != stage)
    assert set(verdicts) == set(ordered)
    # an error while a graph is recorded leads to a time without a graph, and the row says why
    noted = any("planted" in row.get("timed", "") for row in rows)
    assert (verdicts[stage] == "passed") == ((kind, stage) in HARMLESS or noted)
    if stage in ("targets", "tune", "kernels"):
        assert sum("failed" in row for row in rows) <= 1
        assert sum("ms" in row for row in rows) >= (1 if stage == "tune" else TARGET_ROWS - 1)
    if stage == "smoke":
        assert found["smoke.log"].count("ok  ") == 13 + (verdicts[stage] == "passed")
