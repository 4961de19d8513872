from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_llm.kernels import KernelError, tuning

SLOW, FAST, BROKEN = {"BLOCK": 16}, {"BLOCK": 64}, {"BLOCK": 4096}
MILLISECONDS = {16: 3.0, 64: 1.0}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A machine with a name, choices in a temporary folder, and nothing remembered."""
    monkeypatch.setenv("TINYGRAD_LLM_KERNEL_CACHE", str(tmp_path))
    monkeypatch.setattr(tuning, "_machine", lambda: "a-gpu")
    monkeypatch.setattr(tuning, "_in_memory", {})
    tuning._cache_file.cache_clear()
    yield tmp_path / "a-gpu.json"
    tuning._cache_file.cache_clear()


def _choose(ran=None):
    ran = [] if ran is None else ran

    def run(config):
        ran.append(config["BLOCK"])
        if config is BROKEN:
            raise KernelError("the tile is too large for this chip")

    def bench(call):
        call()
        return [MILLISECONDS[ran[-1]]]

    return tuning.choose("a_kernel", (64, "bfloat16"), [SLOW, BROKEN, FAST], SLOW, run, bench)


def test_without_permission_nothing_is_timed(cache, monkeypatch):
    monkeypatch.delenv("TINYGRAD_LLM_AUTOTUNE", raising=False)
    ran = []
    assert _choose(ran) == SLOW
    assert ran == []
    assert not cache.exists()


def test_the_fastest_that_runs_is_chosen_once_and_kept_on_disk(cache, monkeypatch):
    monkeypatch.setenv("TINYGRAD_LLM_AUTOTUNE", "1")
    ran = []
    assert _choose(ran) == FAST
    assert ran == [16, 4096, 64]
    assert _choose(ran) == FAST
    assert len(ran) == 3
    assert list(json.loads(cache.read_text(encoding="utf-8")).values()) == [FAST]

    monkeypatch.setattr(tuning, "_in_memory", {})  # as in the next process
    monkeypatch.delenv("TINYGRAD_LLM_AUTOTUNE")
    assert _choose(ran) == FAST
    assert len(ran) == 3


def test_a_choice_that_cannot_be_kept_is_made_all_the_same(cache, monkeypatch):
    monkeypatch.setenv("TINYGRAD_LLM_AUTOTUNE", "1")
    cache.mkdir()  # a folder in the place of the file
    with pytest.warns(UserWarning, match="a_kernel: the chosen configuration is not kept"):
        assert _choose() == FAST
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


def test_a_damaged_file_is_timed_again(cache, monkeypatch):
    monkeypatch.setenv("TINYGRAD_LLM_AUTOTUNE", "1")
    cache.write_text("{ half a file", encoding="utf-8")
    assert _choose() == FAST


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_quantile_lies_between_the_extremes(times, q):
    times.sort()
    assert times[0] <= tuning.quantile(times, q) <= times[-1]
    assert tuning.quantile(times, 0.0) == times[0]
    assert tuning.quantile(times, 1.0) == times[-1]


def test_quantile_interpolates():
    assert tuning.quantile([1.0, 2.0, 4.0], 0.75) == 3.0
    with pytest.raises(KernelError, match=r"q must be in \[0, 1\]"):
        tuning.quantile([1.0], 1.5)


class _Clock:
    """As much of CuPy as timing needs: events that read a counter which launches advance."""

    def __init__(self):
        self.now, self.streams, self.entered = 0.0, [], []
        clock = self

        class Event:
            def record(self):
                self.time = clock.now

            def synchronize(self):
                pass

        self.Event = Event

    def get_elapsed_time(self, start, end):
        return end.time - start.time


class _Stream:
    def __init__(self, log):
        self.log = log

    def __enter__(self):
        self.log.append("in")

    def __exit__(self, *exc_info):
        self.log.append("out")


@pytest.fixture
def clock(monkeypatch):
    clock = _Clock()
    module = types.SimpleNamespace(cuda=clock, empty=lambda size, dtype: np.empty(1, dtype))
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr("tinygrad_llm.kernels._runtime.why_no_gpu", lambda: None)
    return clock


def test_a_graph_is_timed_and_not_pythons_own_time(clock, monkeypatch):
    """Python takes 5, what it launches 2: the replay, on the stream of the graph, is timed."""
    log = []

    def launch():
        clock.now += 2.0

    def fn():
        clock.now += 5.0
        launch()

    graph = types.SimpleNamespace(replay=launch, stream=_Stream(log))
    monkeypatch.setattr("tinygrad_llm.kernels.graph.capture", lambda fn: graph)
    assert tuning.do_bench(fn, warmup_ms=1, measure_ms=20) == [2.0, 2.0, 2.0]
    assert log[:2] == ["in", "out"]
    assert tuning.prepare(fn).how == "graph"


def test_what_cannot_be_recorded_is_timed_from_python(clock, monkeypatch):
    def refuse(fn):
        raise KernelError("capture: it reads a result\nand more")

    def fn():
        clock.now += 7.0

    monkeypatch.setattr("tinygrad_llm.kernels.graph.capture", refuse)
    assert tuning.do_bench(fn, warmup_ms=1, measure_ms=20)[0] == 7.0
    assert tuning.prepare(fn).how == "Python: capture: it reads a result"


def test_an_error_of_the_kernel_itself_is_not_taken_for_one_of_recording(clock):
    def fn():
        raise KernelError("the tile is too large for this chip")

    with pytest.raises(KernelError, match="too large"):
        tuning.prepare(fn)


@pytest.mark.parametrize(
    ("current", "expected"), [(1, ["launch"]), (2, ["1 waits for 2", "launch", "2 waits for 1"])]
)
def test_a_replay_is_in_order_with_other_streams_and_waits_for_none_on_its_own(
    monkeypatch, current, expected
):
    from tinygrad_llm.kernels.graph import CapturedGraph

    log = []

    class Stream:
        def __init__(self, ptr):
            self.ptr = ptr

        def record(self):
            return self.ptr

        def wait_event(self, event):
            log.append(f"{self.ptr} waits for {event}")

    cuda = types.SimpleNamespace(get_current_stream=lambda: Stream(current))
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(cuda=cuda))
    recorded = types.SimpleNamespace(launch=lambda stream: log.append("launch"))
    graph = CapturedGraph(recorded, Stream(1), None, "result")
    assert graph.replay() == "result"
    assert log == expected
