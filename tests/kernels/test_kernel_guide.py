"""The files of docs/write_your_own_kernel.md, written out and run as the guide says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "write_your_own_kernel.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("guide")
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        name = re.match(r"# (\w+\.py)\n", block)
        assert name, f"a block of the guide without a file name: {block[:60]!r}"
        (path / name[1]).write_text(block, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "command", ["-m pytest -q -p no:cacheprovider test_rms_norm.py", "resources.py"]
)
def test_the_commands_of_the_guide_work(folder, command):
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout or "rms_norm_kernel" in done.stdout


def test_every_command_of_the_guide_is_run_here():
    commands = re.findall(r"^    python (.*)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert commands == ["-m pytest test_rms_norm.py", "resources.py"]
