"""The benchmarks that compare bfloat16: what they take for a result, and what they say of it."""

import json

import numpy as np
import pytest

from tinygrad_llm.backend import matrix_units

ONEDNN = "onednn_verbose,v1,primitive,exec,cpu,matmul,brg_matmul:{},undef,src:{}::blocked:ab::f0"
MKL = "MKL_VERBOSE oneMKL 2024.0 Product build for Intel(R) 64 architecture {}, Lnx 2.60GHz lp64"


@pytest.fixture
def units(monkeypatch):
    """Products are computed from bfloat16, slow or not."""
    pytest.importorskip("numkong")
    monkeypatch.setenv(matrix_units.VARIABLE, "on")


def series(ms, peak, **more):
    import train_contenders

    return train_contenders.Series([ms / 1000], [peak], [4.0], **more)


def test_the_output_of_pytorchs_libraries_says_what_ran(benchmarks):
    from train_instructions import of_torch

    lines = [
        ONEDNN.format("avx10_1_512_amx", "bf16"),
        ONEDNN.format("avx10_1_512_amx", "bf16"),
        MKL.format("Intel(R) AVX-512, and Intel(R) AMX with INT8 and BF16"),
        "MKL_VERBOSE SGEMM(T,N,64,32,32,0x7f) 7us CNR:OFF",
        "MKL_VERBOSE SAXPY(64) 7us CNR:OFF",
    ]
    assert of_torch(lines, "ATen AVX512") == (
        "oneDNN brg_matmul:avx10_1_512_amx; "
        "MKL SGEMM for Intel AVX-512, and Intel AMX with INT8 and BF16; ATen AVX512"
    )
    assert of_torch(['{"times": []}'], "openblas SkylakeX") == "openblas SkylakeX"


def test_ratios_are_those_of_the_targets(benchmarks, capsys):
    from train_table import print_ratios, print_table

    found = {
        "tinygrad_llm": series(100, 50, instructions="openblas Zen"),
        "tinygrad_llm bf16": series(50, 40),
        "torch eager": series(120, 200),
        "torch bf16": series(80, 160),
        "torch medium": series(1, 1, problem="it fell over"),
    }
    rows = {row["contender"]: row for row in print_table("a", found)}
    assert set(rows) == set(found) - {"torch medium"}
    assert rows["torch eager"]["time_ratio"] == pytest.approx(1.2)
    assert rows["torch eager"]["time_ratio_bf16"] == pytest.approx(2.4)
    assert rows["tinygrad_llm"]["instructions"] == "openblas Zen"
    assert "it fell over" in capsys.readouterr().out
    print_ratios({"a": found})
    printed = [line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()[2:]]
    assert [float(last) for _, last in printed] == [1.2, 2.4, 1.6, 0.25, 0.2, 0.25]


def test_flags_choose_the_contenders(benchmarks):
    from train_contenders import CONTENDERS, chosen

    assert chosen(torch=True, compiled=True, tuned=True, bf16=True) == list(CONTENDERS)
    assert chosen(torch=False, compiled=True, tuned=True, bf16=False) == ["tinygrad_llm"]
    found = chosen(torch=True, compiled=True, tuned=False, bf16=False)
    assert found == ["tinygrad_llm", "torch eager", "torch.compile"]


def test_a_processor_without_units_is_said_instead_of_measured(benchmarks, monkeypatch):
    import train_contenders

    measured = []
    monkeypatch.setattr(train_contenders, "run_once", lambda name, *rest: measured.append(name))
    monkeypatch.setenv(matrix_units.VARIABLE, "off")
    found = train_contenders.measure("a", train_contenders.CONTENDERS, 1, 1, {})
    assert "float32" in found["tinygrad_llm bf16"].problem
    assert "tinygrad_llm bf16" not in measured
    assert "torch bf16" in measured


def test_generation_in_bfloat16_is_left_out_where_nothing_computes_it(
    benchmarks, monkeypatch, capsys
):
    import argparse

    import bench_generate

    dtypes = list(bench_generate.TOLERANCES)
    options = argparse.Namespace(dtypes=dtypes, no_peer=False, device="cpu")
    monkeypatch.setenv(matrix_units.VARIABLE, "off")
    assert ("ours", "bfloat16") not in bench_generate.contenders(options)
    assert "left out" in capsys.readouterr().out
    options.device = "cuda"
    assert len(bench_generate.contenders(options)) == 4


def test_logits_are_compared_with_another_process_in_float32(benchmarks):
    import bench_generate

    class Ready:
        def __init__(self, dtype, logits):
            self.dtype, self.ready = dtype, {"logits": logits}

    ours, theirs, narrow = Ready("float32", [10.0]), Ready("float32", [8.0]), Ready("bf16", [9.0])
    found = bench_generate.errors([ours, theirs, narrow])
    assert list(found.values()) == pytest.approx([0.25, 0.2, 0.125])
    assert bench_generate.errors([narrow]) == {narrow: 0.0}


def test_gradients_are_compared_with_exact_ones(benchmarks, units, capsys):
    import precision_gradients
    from train_sizes import Size

    size = Size(2, 2, 64, 32, 4, precision_gradients.BYTES, 1)
    found = precision_gradients.everything(size, after=1)
    errors = precision_gradients.errors_of(found)
    assert max(errors["float32"].values()) < 1e-5
    assert 1e-4 < min(errors["bf16"].values()) < max(errors["bf16"].values()) < 5e-2
    precision_gradients.print_table(found, each=False)
    grouped = precision_gradients.grouped(errors["bf16"])
    qkv = [e for name, e in errors["bf16"].items() if name.endswith("qkv.weight")]
    assert len(qkv) == 2
    assert grouped["blocks.*.attention.qkv.weight"] == max(qkv)
    assert "blocks.*.feed_forward.expand.bias" in capsys.readouterr().out


def test_a_wrong_gradient_is_seen(benchmarks):
    import precision_gradients as compared

    exact = {"w": np.array([3.0, 4.0]), "b": np.array([1.0])}
    half = {"w": np.array([3.0, 4.5]), "b": np.array([1.0])}
    found = {"float64": compared.Gradients(1.0, exact), "bf16": compared.Gradients(1.0, half)}
    errors = compared.errors_of(found)["bf16"]
    assert errors == {"w": pytest.approx(0.1), "b": 0.0, "all": pytest.approx(0.5 / 26**0.5)}


def test_every_parameter_of_pytorchs_model_has_its_name_in_ours(benchmarks):
    import precision_gradients as compared
    from train_sizes import SIZES

    theirs = ["tokens.weight", "positions.weight", "norm.weight", "norm.bias"]
    for part in ("norm1", "norm2", "qkv", "projection", "expand", "project"):
        theirs += [f"blocks.{i}.{part}.{kind}" for i in range(4) for kind in ("weight", "bias")]
    ours = {name for name, _ in compared.new_model(SIZES["a"]).named_parameters()}
    assert {compared.our_name(name) for name in theirs} == ours


def test_a_run_that_is_done_is_read_and_not_repeated(benchmarks, tmp_path, monkeypatch):
    import precision_losses

    started = []

    def finish(command):
        started.append(command)
        write(5, 10)
        return ""

    def write(*steps):
        log = [{"step": step, "validation_loss": 4 - step / 10} for step in steps]
        timing = [{"step": step, "tokens_per_second": 7.0} for step in steps]
        for name, lines in (("log", [{"step": 1, "loss": 4.0}, *log]), ("timing", timing)):
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")

    monkeypatch.setattr(precision_losses, "_finish", finish)
    write(5)
    assert precision_losses.ended(tmp_path, 10) is None
    done = precision_losses.train(1, "bfloat16", 10, tmp_path)
    assert done == (3.0, 3.0, 7.0)
    assert "--resume" in started[0]
    assert precision_losses.train(1, "bfloat16", 10, tmp_path) == done
    assert len(started) == 1
