"""The benchmark's own arithmetic, and its cases in the interpreter."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tinygrad_llm import kernels


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


@pytest.mark.parametrize("op", ["linear_gelu", "linear_gelu_backward", "linear_backward_weight"])
@pytest.mark.parametrize("which", [0, 1])
def test_both_results_of_a_fused_product_are_checked(bench, monkeypatch, op, which):
    right = getattr(kernels, op)

    def wrong(*args, **options):
        found = list(right(*args, **options))
        found[which] = found[which] * np.float32(1.1)
        return tuple(found)

    monkeypatch.setattr(kernels, op, wrong)
    case = bench.bench_sizes.build(f"linear 9x16x48 {op}", np, "float32")
    assert case.error() > 0.05


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
    report.add(
        harness.row(
            "op", 1e-4, 1e-3, [4.0, 1.0, 2.0], ran="triton", work=1e9, unit="GB/s", ceiling=1000.0
        )
    )
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
    times = harness.interleaved(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")},
        harness.host_timer,
        rounds=3,
        warmup=1,
    )
    assert order == ["a", "b"] + ["a", "b"] * 3
    assert [len(t) for t in times.values()] == [3, 3]
    assert harness.rounds_for(lambda: None, harness.host_timer, 1.0, least=4, most=9) == 9


def test_roofline_picture(bench, tmp_path):
    pytest.importorskip("matplotlib")
    import roofline

    rows = [
        {"op": "attention", "rate": 300.0, "intensity": 400.0, "tflops": 300.0},
        {"op": "softmax", "rate": 3000.0, "intensity": 1.25, "tflops": 3.7},
    ]
    roofline.draw(rows, tmp_path / "roof.png", 4000.0, 800.0, "a GPU")
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")


def test_sizes_are_those_of_the_real_step(bench):
    pieces = bench.bench_sizes.pieces("quick")
    for piece in (
        "attention 32x12x1024x64 attention_backward",
        "layer_norm 32768x768 layer_norm",
        "cross_entropy 8192x50257x50304 cross_entropy",
        "head 8192x768x50257x50304 head_dx",
        "head 8192x768x50304x50304 head_dw",
    ):
        assert piece in pieces
    assert len(set(pieces)) == len(pieces)
    assert bench.bench_sizes.of_the_step() == bench.bench_sizes.KNOWN
    only = bench.bench_sizes.pieces("full", ["decode"])
    assert {p.split()[0] for p in only} == {"decode"}


def test_a_card_that_is_too_slow_is_doubted(bench):
    assert bench.kernel_rows.doubt({"GB/s": 2900.0, "TFLOP/s": 780.0}, "H100") == ""
    assert bench.kernel_rows.doubt({"GB/s": 1500.0, "TFLOP/s": 100.0}, None) == ""
    said = bench.kernel_rows.doubt({"GB/s": 2900.0, "TFLOP/s": 780.0}, "H200")
    assert said.startswith("2900 of 4300 GB/s of another H200")
    assert "TFLOP" not in said


WORKER = """
import os, sys, time
from isolated import give_up, pieces
for name in pieces(sys.argv[1:], 2):
    print("at", name, flush=True)
    if name == "crash": os.abort()
    if name == "hang": time.sleep(60)
    if name == "error": give_up()
    if name == "exit": raise SystemExit(3)
"""


def test_a_piece_that_breaks_its_worker_costs_only_itself(bench, tmp_path, capfd):
    import isolated

    script, folder = tmp_path / "worker.py", str(Path(bench.__file__).parent)
    script.write_text(f"import sys; sys.path.insert(0, {folder!r})\n{WORKER}", encoding="utf-8")
    names = ["one", "crash", "two", "hang", "error", "three four", "exit", "five"]
    lost = isolated.in_workers([str(script)], names)
    assert lost == {
        "crash": "ended by signal 6",
        "hang": "ended with status 1",
        "error": isolated.GAVE_UP,
        "exit": "ended with status 3",
    }
    said = capfd.readouterr().out
    assert [line for line in said.splitlines() if line.startswith("at")] == [
        f"at {name}" for name in names
    ]


def test_workers_that_cannot_begin_are_not_tried_again_and_again(bench, tmp_path):
    import isolated

    script = tmp_path / "worker.py"
    begun = tmp_path / "begun"
    script.write_text(
        f"with open({str(begun)!r}, 'a') as file: file.write('x')\nraise ImportError",
        encoding="utf-8",
    )
    lost = isolated.in_workers([str(script)], ["one", "two"])
    assert lost == dict.fromkeys(["one", "two"], "not begun: ended with status 1")
    assert begun.read_text(encoding="utf-8") == "x"
