"""Every tile that tuning may choose on sm_90 runs without spills, not only the default."""

from __future__ import annotations

import numpy as np
import pytest
from tinygrad_llm.kernels.attention_kernel import backward_one_pass, forward, gradients

from tests.kernels.conftest import DTYPES
from tinygrad_llm import kernels

slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("dtype", "d", "p"),
    [
        ("bfloat16", 64, 0.0),
        ("bfloat16", 128, 0.0),
        *(pytest.param("bfloat16", d, p, marks=slow) for d in (16, 32, 256) for p in (0.0, 0.1)),
        *(pytest.param("bfloat16", d, 0.1, marks=slow) for d in (64, 128)),
        *(pytest.param("float32", d, p, marks=slow) for d in (64, 128) for p in (0.0, 0.1)),
    ],
)
def test_no_candidate_spills_on_sm_90(monkeypatch, dtype, d, p):
    def run_all(kernel, sizes, candidates, q, run):
        for candidate in candidates:
            run(candidate)
            tried[len(compiled) - 1] = kernel, candidate

    for module in (forward, gradients, backward_one_pass):
        monkeypatch.setattr(module, "choose_and_run", run_all)
    tried = {}
    q, lse = np.zeros((1, 2, 1024, d), DTYPES[dtype]), np.zeros((1, 2, 1024), np.float32)
    with kernels.compile_only(90) as compiled:
        kernels.attention(q, q, q, True, None, p, (1, 2))
        for deterministic in (False, True):
            kernels.attention_backward(q, q, q, q, q, lse, True, None, p, (1, 2), deterministic)
    assert {kernel for kernel, _ in tried.values()} >= {"attention_forward"}
    rows = [
        (tried.get(i, "a kernel of one tile"), kernels.resources(c)) for i, c in enumerate(compiled)
    ]
    misfits = [row for row in rows if not row[1].fits]
    assert not misfits, f"registers spill, or shared memory does not suffice: {misfits}"
