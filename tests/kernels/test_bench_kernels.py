"""The benchmark's own arithmetic, and its cases in the interpreter."""

from __future__ import annotations

import json
import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tinygrad_llm import kernels

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench_kernels
    yield bench_kernels
    for name in [n for n, m in sys.modules.items()
                 if str(getattr(m, "__file__", "")).startswith(str(BENCHMARKS))]:
        del sys.modules[name]


def test_every_case_is_right_in_the_interpreter(bench, capsys):
    assert bench.main(["--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 28
    assert not any("WRONG" in line for line in lines)


def test_a_wrong_kernel_is_reported(bench, monkeypatch, capsys):
    right = kernels.softmax
    monkeypatch.setattr(kernels, "softmax", lambda x: right(x) * np.float32(1.01))
    assert bench.main(["--check"]) == 1
    assert "softmax" in next(x for x in capsys.readouterr().out.splitlines() if "WRONG" in x)


def test_without_a_gpu_it_says_so(bench, monkeypatch, capsys):
    monkeypatch.setattr(kernels, "why_not", lambda array=None: "CuPy is not installed")
    monkeypatch.setattr(kernels, "available", lambda array=None: False)
    monkeypatch.setattr(kernels, "resource_table", lambda chips=(): [])
    assert bench.main(["--quick"]) == 0
    printed = capsys.readouterr().out
    assert "No benchmark: CuPy is not installed." in printed
    assert "registers" in printed


def test_a_wrong_result_gets_no_time(bench, tmp_path):
    import harness
    report = harness.Report(tmp_path / "rows.jsonl")
    report.add(harness.row("op", 0.5, 1e-3, [1.0], ran="triton", work=1e9, unit="GB/s"))
    report.add(harness.row("op", 1e-4, 1e-3, [4.0, 1.0, 2.0], ran="triton", work=1e9, unit="GB/s",
                           ceiling=1000.0))
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    wrong, right = map(json.loads, lines)
    assert "ms" not in wrong
    assert "above" in wrong["refused"]
    assert right["ms"] == 2.0
    assert right["rate"] == pytest.approx(500.0)
    assert right["percent_of_ceiling"] == pytest.approx(50.0)
    assert {"processor", "versions", "time"} <= right.keys()


def test_relative_error(bench):
    import harness
    one = np.ones(4)
    assert harness.relative_error(one * 1.5, one) == pytest.approx(0.5)
    assert harness.relative_error(np.array([1, np.nan, 1, 1]), one) == math.inf
    assert harness.relative_error(np.ones(3), one) == math.inf


def test_contenders_take_turns(bench):
    import harness
    order = []
    times = harness.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")},
                                harness.host_timer, rounds=3, warmup=1)
    assert order == ["a", "b"] + ["a", "b"] * 3
    assert [len(t) for t in times.values()] == [3, 3]
    assert harness.rounds_for(lambda: None, harness.host_timer, 1.0, least=4, most=9) == 9


def test_roofline_picture(bench, tmp_path):
    pytest.importorskip("matplotlib")
    import roofline
    rows = [{"op": "attention", "rate": 300.0, "intensity": 400.0, "tflops": 300.0},
            {"op": "softmax", "rate": 3000.0, "intensity": 1.25, "tflops": 3.7}]
    roofline.draw(rows, tmp_path / "roof.png", 4000.0, 800.0, "a GPU")
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")


class _LikeTorch:
    """As much of a tensor as the benchmark reads of a peer's result."""

    def __init__(self, array):
        self.array = array

    detach = float = cpu = lambda self: self

    def numpy(self):
        return self.array


def test_the_whole_run_with_numpy_in_the_place_of_cupy(bench, monkeypatch, tmp_path, capsys):
    """Every case measured, a right peer timed beside it, a wrong peer refused, a picture drawn."""
    import harness
    numpy_as_cupy = types.ModuleType("cupy")
    numpy_as_cupy.__dict__.update(
        {name: getattr(np, name) for name in ("random", "empty_like", "empty")},
        get_default_memory_pool=lambda: types.SimpleNamespace(free_all_blocks=lambda: None))
    monkeypatch.setitem(sys.modules, "cupy", numpy_as_cupy)
    tiny = bench.builders("tiny")
    monkeypatch.setattr(bench, "builders", lambda size: tiny)
    monkeypatch.setattr(bench, "gpu_timer", lambda: harness.host_timer)
    monkeypatch.setattr(bench, "ceilings", lambda *args: {"GB/s": 10.0, "TFLOP/s": 1.0})
    monkeypatch.setattr(bench, "registers", lambda: {("softmax", "softmax_forward"): 54})
    monkeypatch.setattr(bench, "BUDGET_MS", {True: 1.0})
    monkeypatch.setattr(bench.torch_peers, "available", lambda: None)

    def peers(case):
        if case.op != "softmax":
            return {}
        right = case.run()
        return {"torch eager": lambda: _LikeTorch(right),
                "torch compiled": lambda: _LikeTorch(right * np.float32(1.5))}

    monkeypatch.setattr(bench.torch_peers, "peers", peers)
    out = tmp_path / "rows.jsonl"
    assert bench.with_gpu(True, out, "float32") == 1
    rows = [json.loads(text) for text in out.read_text(encoding="utf-8").splitlines()]
    softmax = {r["ran"]: r for r in rows if r["op"] == "softmax"}
    assert softmax["triton"]["registers"] == 54
    assert softmax["torch eager"]["times_ours"] > 0
    assert "refused" in softmax["torch compiled"]
    assert {"attention", "attention_backward", "adamw"} <= {r["op"] for r in rows}
    assert out.with_suffix(".png").exists()
    assert "REFUSED" in capsys.readouterr().out
