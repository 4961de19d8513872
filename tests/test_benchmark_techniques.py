"""The techniques that bench_train.py switches off change the time of a step, not its losses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def first_losses(technique):
    command = [sys.executable, "train_ablation.py", "a", technique, "1"]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, encoding="utf-8")
    assert not done.returncode, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["losses"]


@pytest.mark.slow
def test_each_technique_can_be_switched_off(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from train_ablation import EVERYTHING, WITHOUT

    expected = first_losses(EVERYTHING)
    for technique in WITHOUT:
        np.testing.assert_allclose(first_losses(technique), expected, rtol=1e-4, err_msg=technique)
