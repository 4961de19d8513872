"""Real ranks whose steps are captured or in float16; on one process in tests/training."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_ranks_compute_captured_and_float16_steps_as_one_process_does(launch):
    pytest.importorskip("triton")
    pytest.importorskip("ml_dtypes")
    code, output = launch(2, HERE / "composed_ranks.py")
    assert code == 0, output
    assert "ok on 2" in output
