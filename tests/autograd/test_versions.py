"""Writes are remembered as long as the memory exists, whoever writes how often in which thread."""

import gc
import mmap
import os
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm.autograd import versions
from tinygrad_llm.autograd.versions import WriteLog, clock, memory_range
from tinygrad_llm.errors import GraphError


def small_log(monkeypatch, at_least=8):
    log = WriteLog()
    log._full = log._at_least = at_least
    monkeypatch.setattr(versions, "_log", log)
    return log


@pytest.mark.parametrize("kept", [True, False], ids=["into tensors that live", "that die"])
def test_an_overwritten_array_is_noticed_after_any_number_of_other_writes(kept):
    x = tg.tensor([0.0, 1.0], requires_grad=True)
    y = x.exp()
    with tg.no_grad():
        y[0] = 100.0
    others = []
    for _ in range(10_000):
        other = tg.tensor([0.0])
        other[0] = 1.0
        if kept:
            others.append(other)
    with pytest.raises(GraphError, match="overwritten"):
        y.sum().backward()


def test_weights_of_16_bits_that_were_loaded_are_taken_over_after_any_number_of_other_writes():
    layer = tg.nn.Linear(2, 2, bias=False).to("bfloat16")
    optimizer = tg.optim.SGD(layer, lr=0.0)
    layer.load_state_dict({"weight": np.full((2, 2), 3.0)})
    others = [tg.tensor([0.0]) for _ in range(5000)]
    for other in others:
        other[0] = 1.0
    layer.weight.grad = np.ones((2, 2), layer.weight.dtype)
    optimizer.step()
    assert (layer.weight.data.astype(float) == 3).all()


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["write", "new", "drop", "look"]),
            st.integers(0, 5),
            st.integers(0, 7),
            st.integers(1, 4),
        ),
        max_size=60,
    )
)
def test_the_log_knows_what_a_complete_list_of_all_writes_knows(steps):
    log = WriteLog()
    log._full = log._at_least = 4
    arrays = {i: np.zeros(8) for i in range(6)}
    complete, born = [], dict.fromkeys(range(6), clock.next())
    for action, i, start, n in steps:
        part = arrays[i][start : start + n]
        if action == "write":
            log.add(part)
            complete.append((clock.last_write, i, set(range(start, min(8, start + n)))))
        elif action == "new":  # the old one is gone; a graph that uses the new one is younger
            arrays[i], born[i] = np.zeros(8), clock.next()
            complete = [w for w in complete if w[1] != i]
        elif action == "drop":
            log._forget()
        else:
            since = max(born[i], clock.last_write - n)
            wanted = any(
                time > since and j == i and places & set(range(start, min(8, start + n)))
                for time, j, places in complete
            )
            assert log.has(*memory_range(part), since) == wanted


def test_what_is_gone_is_forgotten(monkeypatch):
    log = small_log(monkeypatch)
    for _ in range(1000):
        t = tg.tensor(np.zeros(8))
        t[0] = 1.0
    assert len(log._writes) <= 8
    kept = [tg.tensor(np.zeros(8)) for _ in range(100)]
    for _ in range(50):
        for t in kept:
            t[0] = 1.0
    assert len(log._writes) <= 200
    del kept, t
    gc.collect()
    for _ in range(200):
        tg.tensor([0.0])[0] = 1.0
    assert len(log._writes) <= 8


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.zeros(16)[2:10],
        lambda: np.zeros((4, 4)).T[1:],
        lambda: np.frombuffer(bytearray(64), np.float64),
        lambda: np.frombuffer(mmap.mmap(-1, 64), np.float64),
        lambda: np.frombuffer(memoryview(np.zeros(8)[2:]), np.float64),
        lambda: np.from_dlpack(np.zeros(8)),
    ],
    ids=["view", "view of a view", "bytearray", "file", "memoryview", "dlpack"],
)
def test_memory_lives_as_long_as_any_view_of_it(make, monkeypatch):
    log = small_log(monkeypatch)
    array = make()
    since = clock.next()
    log.add(array.view())  # the view itself dies
    log._forget()
    assert log.has(*memory_range(array), since)


def test_threads_may_write_while_others_look(monkeypatch):
    small_log(monkeypatch, at_least=64)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    stop, failures = threading.Event(), []

    def load():
        kept = []
        while not stop.is_set():
            t = tg.tensor(np.zeros(8))
            t[0] = 1.0
            kept = [*kept[-100:], t]

    def learn(seed):
        try:
            for i in range(300):
                x = tg.tensor(np.ones(4), requires_grad=True)
                y = x.exp()
                z = tg.tensor(np.zeros(2))
                z[0] = seed
                if i % 3:
                    y.sum().backward()
                else:
                    with tg.no_grad():
                        y[0] = 7.0
                    with pytest.raises(GraphError):
                        y.sum().backward()
        except BaseException as error:
            failures.append(error)

    loaders = [threading.Thread(target=load) for _ in range(2)]
    learners = [threading.Thread(target=learn, args=(seed,)) for seed in range(3)]
    try:
        for thread in (*loaders, *learners):
            thread.start()
        for thread in learners:
            thread.join()
    finally:
        stop.set()
        for thread in loaders:
            thread.join()
        sys.setswitchinterval(interval)
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_may_write_though_its_parent_was_writing():
    with versions._log._lock:
        in_time = threading.Event()

        def fork():  # from another thread than the one that holds the lock
            child = os.fork()
            if not child:
                tg.tensor([0.0])[0] = 1.0
                os._exit(0)
            for _ in range(100):
                if os.waitpid(child, os.WNOHANG)[0]:
                    in_time.set()
                    return
                in_time.wait(0.05)
            os.kill(child, 9)
            os.waitpid(child, 0)

        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
    assert in_time.is_set()


@pytest.mark.parametrize(
    "op",
    [
        lambda x, c: x * c,
        lambda x, c: c * x,
        lambda x, c: x / c,
        lambda x, c: x @ c,
        lambda x, c: c @ x,
        tg.functional.linear,
        lambda x, c: tg.functional.linear(c, x),
        lambda x, c: tg.einsum("ij,jk", x, c),
    ],
    ids=["x * c", "c * x", "x / c", "x @ c", "c @ x", "x c^T", "c x^T", "einsum"],
)
def test_an_operand_that_no_gradient_needs_may_be_written(op):
    x, c = tg.rand(3, 3), tg.rand(3, 3) + 1
    x.requires_grad = True
    op(x, c).sum().backward()
    expected, x.grad = x.grad, None
    y = op(x, c)
    assert sum(isinstance(a, np.ndarray) for a in y._node.saved) == 1
    with tg.no_grad():
        x *= 2
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, expected)
