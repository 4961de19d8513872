"""The gradients of attention in one pass: right where it runs, and the pair wherever it cannot.

What both forms share is tested in test_attention_kernel.py, for which the choice is all one.
"""

from __future__ import annotations

import numpy as np
import pytest
from tinygrad_llm.kernels.attention_kernel import backward_one_pass, gradients

from tests.kernels import kernel_references as reference
from tests.kernels.conftest import DTYPES
from tinygrad_llm import kernels

KEY = (0x9E3779B9, 0x7F4A7C15)
ONE_PASS, PAIR = "attention_backward_one_pass_kernel", "attention_backward_keys_kernel"
# (B, H, T, S, D), dropout: several blocks of both; longer keys; queries that see no key; a width
# between 32 and 64; the tile of 128, and that of 128 with dropout
CASES = [
    ((1, 2, 200, 200, 64), 0.0),
    ((2, 1, 70, 301, 64), 0.3),
    ((1, 2, 150, 41, 64), 0.0),
    ((1, 1, 70, 70, 48), 0.0),
    ((1, 1, 130, 257, 128), 0.0),
    ((1, 1, 70, 140, 128), 0.3),
]


def _draw(device, shape, dtype):
    b, h, t, s, d = shape
    q, k, v, do = (device.normal((b, h, n, d), dtype) for n in (t, s, s, t))
    return q, k, v, do


def _gradients(device, arrays, causal, **options):
    q, k, v, do = map(device.put, arrays)
    deterministic = options.pop("deterministic", False)
    o, lse = kernels.attention(q, k, v, causal, **options)
    return kernels.attention_backward(
        do, q, k, v, o, lse, causal, **options, deterministic=deterministic
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("shape", "p"), CASES, ids=str)
def test_one_pass_against_whole_matrices_and_against_the_pair(device, shape, causal, p):
    b, h, t, s, _ = shape
    dtype = "float16" if shape[0] == 2 else "bfloat16"
    q, k, v, do = arrays = _draw(device, shape, dtype)
    if device.name == "cpu":
        assert backward_one_pass.why_not_one_pass(do, q, k, v) is None
    keep = reference.keep(KEY, np.arange(b * h * t * s).reshape(b, h, t, s), p)
    _, *expected, _ = reference.attention(q, k, v, do, causal, scale=0.2, keep=keep, p=p)
    options = {"scale": 0.2, "dropout_p": p, "key": KEY}
    got = _gradients(device, arrays, causal, **options)
    pair = _gradients(device, arrays, causal, deterministic=True, **options)
    for actual, other, wanted in zip(got, pair, expected, strict=True):
        device.check(actual, wanted, dtype, factor=2)
        device.check(other, wanted, dtype, factor=2)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_keys_past_the_end_add_nothing_however_small_lse_is(device, causal, deterministic):
    """exp(0 - lse) of a key that does not exist overflows where all scores are far below zero."""
    q, k, v, do = _draw(device, (1, 1, 70, 70, 64), "bfloat16")
    q, k = np.abs(q) * 6, -np.abs(k) * 6  # scores of about -180
    _, *expected, _ = reference.attention(q, k, v, do, causal)
    got = _gradients(device, (q, k, v, do), causal, deterministic=deterministic)
    for actual, wanted in zip(got, expected, strict=True):
        device.check(actual, wanted, "bfloat16", factor=4)


def test_packed_projections_are_read_and_written_in_place(device):
    b, t, h, d = 2, 90, 2, 64
    qkv, dy = device.normal((b, t, 3 * h * d), "bfloat16"), device.normal((b, t, h * d), "bfloat16")
    q, k, v = qkv.reshape(b, t, 3, h, d).transpose(2, 0, 3, 1, 4)
    do = dy.reshape(b, t, h, d).transpose(0, 2, 1, 3)
    _, dq, dk, dv, _ = reference.attention(q, k, v, do, True)
    moved = device.put(qkv)
    y, lse = kernels.attention_qkv(moved, h)
    out = device.put(np.full_like(qkv, np.nan))
    dqkv = kernels.attention_qkv_backward(device.put(dy), moved, y, lse, h, out=out)
    assert dqkv is out
    expected = np.stack([dq, dk, dv], 2).transpose(0, 3, 2, 1, 4).reshape(b, t, 3 * h * d)
    device.check(dqkv, expected, "bfloat16", factor=2)


def _launched(chip, dtype="bfloat16", d=64, shift=0, **options):
    """Names of the kernels that the gradients launch, compiled for `chip`."""
    memory = np.zeros(4 * 2 * 64 * d + 8, DTYPES[dtype])
    q, k, v, do = memory[shift : shift + 4 * 2 * 64 * d].reshape(4, 1, 2, 64, d)
    lse = np.zeros((1, 2, 64), np.float32)
    with kernels.compile_only(chip) as compiled:
        kernels.attention_backward(do, q, k, v, q, lse, True, **options)
    return [kernel.metadata.name for kernel in compiled]


def test_one_pass_is_taken_where_it_can_be_and_the_pair_elsewhere():
    assert _launched(90) == [
        "attention_backward_rows_kernel",
        ONE_PASS,
        "attention_backward_convert_kernel",
    ]
    assert ONE_PASS in _launched(100, d=48)
    for options in (
        {"deterministic": True},
        {"chip": 80},
        {"d": 32},
        {"dtype": "float32"},
        {"shift": 1},
    ):
        names = _launched(**{"chip": 90, **options})
        assert PAIR in names, options
        assert ONE_PASS not in names, options


@pytest.mark.parametrize(
    ("chip", "d", "dtype", "words"),
    [
        (90, 64, "float32", "needs 16-bit elements, got float32"),
        (90, 256, "float16", "needs a head size of 33 to 128, got 256"),
        (80, 64, "float16", "tensor descriptors need sm_90, this is sm_80"),
        (120, 64, "float16", "sm_120 has too little shared memory"),
    ],
)
def test_why_there_is_no_single_pass(chip, d, dtype, words):
    q = np.zeros((1, 1, 8, d), dtype)
    with kernels.compile_only(chip):
        assert words in backward_one_pass.why_not_one_pass(q, q, q, q)


def test_what_passes_by_is_copied_by_tiles_and_dq_is_added_by_tiles():
    """No address per thread in the loop: PTX without copies of a few bytes, sums by reductions."""
    q, lse = np.zeros((1, 2, 256, 64), DTYPES["bfloat16"]), np.zeros((1, 2, 256), np.float32)
    with kernels.compile_only(90) as compiled:
        kernels.attention_backward(q, q, q, q, q, lse, True)
    ptx = compiled[1].asm["ptx"]
    assert "cp.reduce.async.bulk.tensor" in ptx
    assert "cp.async.bulk.tensor" in ptx
    assert "cp.async.cg" not in ptx
    assert "cp.async.ca" not in ptx
    assert "ld.global" not in ptx
    assert compiled[1].asm["ttir"].count("tt.dot ") == 5


@pytest.mark.slow
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("d", [64, 128])
@pytest.mark.parametrize("chip", [90, 100])
def test_no_configuration_spills(chip, d, dropout, causal, monkeypatch):
    q, lse = np.zeros((1, 2, 512, d), DTYPES["bfloat16"]), np.zeros((1, 2, 512), np.float32)
    with kernels.compile_only(chip) as compiled:
        for config in backward_one_pass.one_pass_configs(q, dropout > 0):
            monkeypatch.setattr(backward_one_pass, "one_pass_configs", lambda *_, c=config: [c])
            gradients.attention_backward(q, q, q, q, q, lse, causal, None, dropout, KEY)
    rows = [(f"D={d}", kernels.resources(k)) for k in compiled if k.metadata.name == ONE_PASS]
    assert len(rows) >= 2
    print("\n" + kernels.table(rows))
    assert all(r.fits and r.matrix_units and r.registers > 32 for _, r in rows)
