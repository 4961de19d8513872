"""The benchmark's rows: ours and its peers in turns, a wrong peer, one that refuses."""

from __future__ import annotations

import contextlib
import sys
import types

import numpy as np
import pytest


class _LikeTorch:
    """As much of a tensor as the benchmark reads of a peer's result."""

    def __init__(self, array):
        self.array = array
        self.shape = array.shape

    detach = float = cpu = lambda self: self

    def __getitem__(self, index):
        return _LikeTorch(self.array[index])

    def numpy(self):
        return self.array


@pytest.fixture
def timed_by_the_host(bench, monkeypatch):
    """Without a GPU: nothing is recorded, and the host's clock counts."""
    from tinygrad_llm.kernels import tuning

    monkeypatch.setattr(tuning, "prepare", lambda fn: tuning.Prepared(fn, None, "Python: no GPU"))
    monkeypatch.setattr(bench.kernel_rows, "registers_of", lambda case: 54)
    monkeypatch.setattr(
        bench.torch_peers, "prepare", lambda peer: tuning.Prepared(peer, None, "graph")
    )


def test_ours_and_its_peers(bench, timed_by_the_host, monkeypatch, tmp_path, capsys):
    """A right peer is timed in turns with ours; a wrong one, and one that refuses, are not."""
    import harness

    case = bench.bench_sizes.build("softmax 9x48 softmax", np, "float32")
    right = case.run()

    def refuse():
        raise RuntimeError("this backend takes no such shape\nat all")

    monkeypatch.setattr(
        bench.torch_peers,
        "peers",
        lambda case: {
            "torch eager": lambda: _LikeTorch(right),
            "torch flash": refuse,
            "torch compiled": lambda: _LikeTorch(right * np.float32(1.5)),
        },
    )
    report = harness.Report(tmp_path / "rows.jsonl")
    for measure in (bench.kernel_rows.measure, bench.kernel_rows.measure_peers):
        measure(case, harness.host_timer, {"GB/s": 10.0}, report, 1.0)
    rows = {row["ran"]: row for row in report.rows}
    assert rows["ours"]["registers"] == 54
    assert rows["ours"]["timed"] == "Python: no GPU"
    assert rows["torch eager"]["times_ours"] > 0
    assert rows["torch eager"]["timed"] == "graph"
    assert "refused" in rows["torch compiled"]
    assert len(rows) == 3
    assert "torch flash: this backend takes no such shape\n" in capsys.readouterr().out


def test_a_wrong_peer_is_found_though_ours_writes_over_its_result(bench):
    case = bench.bench_sizes.build("head 9x16x99x112 head_logits", np, "float32")
    logits = case.inputs["logits"]
    case.run()
    assert bench.kernel_rows._distance(case, _LikeTorch(logits)) == 0
    logits *= np.float32(1.5)
    assert bench.kernel_rows._distance(case, _LikeTorch(logits)) > 0.3


def test_registers_of_the_largest_kernel(bench, monkeypatch):
    """Attention's gradients are three kernels, of which the first two only prepare and convert."""
    from tinygrad_llm.kernels import catalog

    monkeypatch.setitem(
        sys.modules,
        "cupy",
        types.SimpleNamespace(
            cuda=types.SimpleNamespace(
                Device=lambda: types.SimpleNamespace(compute_capability="90")
            )
        ),
    )
    rows = [("forward", 234), ("backward_rows", 30), ("backward_one_pass", 255)]
    monkeypatch.setattr(
        catalog,
        "measure",
        lambda calls, chips: [
            ("", types.SimpleNamespace(name=f"attention_{name}_kernel", registers=registers))
            for name, registers in rows
        ],
    )
    found = {
        op: bench.kernel_rows.registers_of(types.SimpleNamespace(op=op, shape="4x16x4096x64"))
        for op in ("attention", "attention_backward", "no such kernel")
    }
    assert found == {"attention": 234, "attention_backward": 255, "no such kernel": None}


class _Cuda:
    """torch.cuda with a recording that fails: the stream stays as it is, as in PyTorch 2.11."""

    def __init__(self):
        self.current, self.CUDAGraph = "default", object
        self.current_stream = lambda: self
        self.synchronize = self.wait_stream = lambda *_: None

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        yield
        self.current = before

    def set_stream(self, stream):
        self.current = "default" if stream is self else stream

    def Stream(self):
        self.wait_stream = lambda *_: None
        return self

    @contextlib.contextmanager
    def graph(self, graph, stream):
        self.current = "aside"
        yield
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


def test_a_peer_that_cannot_be_recorded_is_timed_on_the_stream_of_the_events(bench, monkeypatch):
    cuda = _Cuda()
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    timed = bench.torch_peers.prepare(lambda: cuda.current)
    assert timed.how == "Python: operation not permitted when stream is capturing"
    assert timed() == "default"


def test_a_backend_that_refuses_costs_no_other_its_time(bench, monkeypatch, capsys):
    def refuse(backend, inputs, backward):
        if backend == 1:
            raise RuntimeError("No available kernel\nAborting")
        return backward

    monkeypatch.setattr(bench.torch_peers, "_backends", lambda: {"flash": 1, "cudnn": 2})
    monkeypatch.setattr(bench.torch_peers, "_sdpa", refuse)
    for op, backward in (("attention", False), ("attention_backward", True)):
        assert bench.torch_peers._BUILDERS[op]({}) == {"cudnn": backward}
    assert capsys.readouterr().out == "  flash: No available kernel\n" * 2
