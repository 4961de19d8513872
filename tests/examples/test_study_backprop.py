"""The example writes a page of a model that has learned something."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "study_backprop.py"


def run(*args, cwd):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *args], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("flags", [(), ("--small-ops", "--dropout", "0.1")])
def test_study_backprop(tmp_path, flags):
    done = run("--steps", "60", "--layers", "1", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    losses = [float(x) for x in re.findall(r"loss (\d+\.\d+)$", done.stdout, re.M)]
    assert losses[1] < 0.8 * losses[0], "it learns"
    assert (tmp_path / "runs/step.html").stat().st_size > 100_000
    assert ("attention_qkv" in done.stdout) != ("--small-ops" in flags)


def test_a_text_that_is_too_short(tmp_path):
    done = run("--text", "hi", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("tinygrad-llm study: --text has 2 characters")


def test_what_can_only_fail_is_refused_before_the_training(tmp_path):
    for flags in (("--steps", "-1"), ("--out", "nosuch/page.html"), ("--out", ".")):
        done = run(*flags, cwd=tmp_path)
        assert done.returncode == 2
        assert not done.stdout
        assert flags[1] in done.stderr
    (tmp_path / "runs").write_text("a file")
    done = run(cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
