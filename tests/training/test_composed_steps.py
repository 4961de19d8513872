"""Any parts of a step go together: a graph or none, float16 or float32, one process or several.

Each combination is compared with the plain step of one process, on the stand-in GPU. Here several
ranks are played by one process; real ones compute the same in tests/distributed.
"""

from dataclasses import replace

import numpy as np
import pytest

from tests.distributed.played_ranks import Equals
from tests.training.composed import TOO_LARGE, Rows, assert_same_run, make_trainer, run
from tinygrad_llm.training.steps.precision import ScaledLoss

pytest.importorskip("triton")
pytest.importorskip("ml_dtypes")
# Sums in another order; in float16 also weights that are rounded up here and down there.
ROUNDING = {"float32": 1e-4, "float16": 5e-3}


@pytest.fixture(scope="module")
def plain():
    """The plain steps of one process, computed once for each type and number of micro-batches."""
    found = {}

    def get(dtype, accumulate):
        if (dtype, accumulate) not in found:
            found[dtype, accumulate] = run(False, dtype, accumulate=accumulate, scale=TOO_LARGE)
        return found[dtype, accumulate]

    return get


def two_ranks():
    """Rank 0 of two that hold the same rows: their gradient is that of one, exactly.

    Each has half of all targets, so the scale is twice that of one process.
    """
    return {"communicator": Equals(2), "loader": Rows(), "scale": 2 * TOO_LARGE}


def of_two_ranks(reports, weights, moments, scale, steps):
    """A run of one process as two ranks should report it."""
    reports = [replace(report, tokens=2 * report.tokens) for report in reports]
    return reports, weights, moments, scale if scale == 1 else 2 * scale, steps


@pytest.mark.parametrize(
    ("captured", "dtype", "ranks", "accumulate"),
    [
        (True, "float16", False, 1),
        (True, "float16", False, 2),
        (False, "float32", True, 2),
        (False, "float16", True, 1),
        (True, "float32", True, 1),
        (True, "float32", True, 2),
        (True, "float16", True, 1),
        (True, "float16", True, 2),
    ],
)
def test_parts_of_a_step_go_together(gpu, plain, captured, dtype, ranks, accumulate):
    more = two_ranks() if ranks else {"scale": TOO_LARGE}
    found = run(captured, dtype, accumulate=accumulate, **more)
    expected = plain(dtype, accumulate)
    expected = of_two_ranks(*expected) if ranks else expected
    assert_same_run(expected, found, ROUNDING[dtype] if captured else 0)
    if dtype == "float16" and accumulate == 1:
        assert [report.skipped for report in found[0]] == [True, False, False]


def test_a_step_that_overflows_changes_nothing_and_halves_the_scale(gpu):
    for more in ({"scale": TOO_LARGE}, two_ranks()):
        trainer = make_trainer(True, "float16", **more)
        before = [p.numpy().copy() for p in trainer.model.parameters()]
        scale = trainer.precision.scale
        with np.errstate(over="ignore", invalid="ignore"):
            assert trainer.train_step().skipped
        assert trainer.precision.scale == scale / 2
        for a, p in zip(before, trainer.model.parameters(), strict=True):
            np.testing.assert_array_equal(a, p.numpy())


def test_a_scale_that_is_not_taken_out_is_noticed(gpu, plain, monkeypatch):
    monkeypatch.setattr(ScaledLoss, "unscale", lambda self, gradients: None)
    with pytest.raises(AssertionError):
        assert_same_run(
            plain("float16", 1), run(False, "float16", scale=TOO_LARGE), ROUNDING["float16"]
        )
