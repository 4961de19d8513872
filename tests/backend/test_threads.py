"""The threads: results in order, errors, nesting, forks, and the same bits for any number."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.backend import threads
from tinygrad_llm.errors import ConfigError


@pytest.fixture(autouse=True)
def _restore():
    before = threads.num_threads()
    yield
    threads.set_num_threads(before)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_results_come_in_the_order_of_the_tasks(n):
    threads.set_num_threads(n)
    assert threads.parallel(lambda i: i * i, 50) == [i * i for i in range(50)]
    assert threads.parallel(lambda i: i, 0) == []


def test_two_threads_work_at_the_same_time():
    threads.set_num_threads(2)
    meeting = threading.Barrier(2, timeout=20)  # breaks unless both threads arrive
    threads.parallel(lambda i: meeting.wait(), 2)


def test_a_thread_that_wakes_too_late_is_not_waited_for(monkeypatch):
    threads.set_num_threads(2)
    threads.parallel(lambda i: i, 2)  # makes the threads
    monkeypatch.setattr(threads._workers, "_wake", lambda n: None)  # this one never wakes
    assert threads.parallel(lambda i: i * i, 20) == [i * i for i in range(20)]


def test_a_task_in_a_thread_is_waited_for():
    threads.set_num_threads(2)
    both_began, done = threading.Barrier(2, timeout=20), []

    def task(i):
        both_began.wait()
        if i == 1:
            time.sleep(0.05)
        done.append(i)

    for _ in range(5):
        done.clear()
        threads.parallel(task, 2)
        assert sorted(done) == [0, 1]


def test_an_error_in_any_thread_reaches_the_caller_and_the_threads_go_on():
    threads.set_num_threads(2)

    def fail(i):
        if i == 7:
            raise ValueError("task seven")

    for _ in range(3):
        with pytest.raises(ValueError, match="task seven"):
            threads.parallel(fail, 20)
    assert threads.parallel(lambda i: i, 3) == [0, 1, 2]


def test_work_inside_of_work_is_done_by_the_thread_itself():
    threads.set_num_threads(2)
    nested = threads.parallel(lambda i: threads.parallel(lambda j: 10 * i + j, 3), 4)
    assert nested == [[10 * i + j for j in range(3)] for i in range(4)]


def test_several_python_threads_may_call_at_once():
    threads.set_num_threads(2)
    sums = []
    callers = [
        threading.Thread(
            target=lambda: sums.append(
                sum(sum(threads.parallel(lambda i: i, 100)) for _ in range(50))
            )
        )
        for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sums == [50 * 4950] * 4


@pytest.mark.parametrize(("n", "limit"), [(0, 3), (3, 3), (4, 3), (7, 3), (100, 7), (101, 50)])
def test_even_parts_are_alike_and_an_even_number(n, limit):
    parts = threads.even_parts(n, limit)
    assert [i for part in parts for i in range(n)[part]] == list(range(n))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) <= limit
    assert len(parts) == 1 or len(parts) % 2 == 0 or min(sizes) < max(sizes)


@pytest.mark.parametrize("n_rows", [0, 1, 7, 1000])
def test_blocks_of_rows_cover_each_row_once(n_rows):
    seen = np.zeros(n_rows, int)

    def task(rows):
        seen[rows] += 1

    threads.parallel_rows(task, n_rows, 300)
    assert (seen == 1).all()


def test_sums_over_blocks_do_not_depend_on_the_number_of_threads():
    x = np.random.default_rng(0).normal(size=(5000, 64)).astype(np.float32)
    results = []
    for n in (1, 2, 3):
        threads.set_num_threads(n)
        parts = threads.parallel_rows(lambda rows: x[rows].sum(axis=0), *x.shape)
        results.append(sum(parts[1:], parts[0]))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_the_environment_chooses_and_is_checked():
    code = "from tinygrad_llm.backend import threads; print(threads.num_threads())"
    for text, expected in (("3", "3"), ("none", "expected a positive integer, got 'none'")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "TINYGRAD_LLM_NUM_THREADS": text},
        )
        assert expected in done.stdout + done.stderr


def test_the_number_is_set_and_read_by_pytorchs_names():
    tg.set_num_threads(np.int64(3))
    assert tg.get_num_threads() == threads.num_threads() == 3
    for wrong in (0, 2.0, True, "2"):
        with pytest.raises(ConfigError, match="set_num_threads: n must be a positive integer"):
            tg.set_num_threads(wrong)
    assert tg.get_num_threads() == 3


def test_idle_threads_use_no_processor_time():
    threads.set_num_threads(2)
    a = np.ones((400, 400), np.float32)
    threads.parallel_rows(lambda rows: np.add(a[rows], 1, out=a[rows]), *a.shape)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1  # OpenBLAS's own threads would spin here


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_makes_its_own_threads():
    threads.set_num_threads(2)
    threads.parallel(lambda i: i, 4)
    code = (
        "import os; from tinygrad_llm.backend import threads as t; t.set_num_threads(2);"
        "t.parallel(lambda i: i, 4); pid = os.fork();\n"
        "if not pid: os._exit(0 if t.parallel(lambda i: i, 4) == [0, 1, 2, 3] else 1)\n"
        "print(os.waitpid(pid, 0)[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=60
    )
    assert done.stdout.strip() == "0"


FORK_WHILE_HELD = """
import os, signal, sys, threading, time
import numpy as np
{setup}
held, over = threading.Event(), threading.Event()

def hold():
    with {lock}:
        held.set()
        over.wait(0.5)

threading.Thread(target=hold, daemon=True).start()
held.wait()
pid = os.fork()
if not pid:
    signal.alarm(10)  # ends a child that waits for a thread it does not have
    {use}
    os._exit(0)
over.set()
print(os.waitpid(pid, 0)[1])
{use}
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("setup", "lock", "use"),
    [
        (
            "from tinygrad_llm.backend import pool",
            "pool._pool._lock",
            "pool.empty((100, 100), np.float32); pool.trim()",
        ),
        (
            "from tinygrad_llm.backend import threads; threads.set_num_threads(2)",
            "threads._busy",
            "assert threads.parallel(lambda i: i, 3) == [0, 1, 2]; threads.set_num_threads(1)",
        ),
        (
            "from tinygrad_llm.autograd import versions; x = np.ones(3)",
            "versions._log._lock",
            "versions.note_write(x)",
        ),
        (
            "from tinygrad_llm.kernels import _interpreter",
            "_interpreter._lock",
            "_interpreter._lock.acquire()",
        ),
    ],
    ids=["pool", "threads", "log of writes", "interpreter"],
)
def test_a_fork_while_another_thread_holds_a_lock(setup, lock, use):
    if "kernels" in setup:
        pytest.importorskip("triton")
    code = FORK_WHILE_HELD.format(setup=setup, lock=lock, use=use)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.stdout.strip() == "0", done.stderr
