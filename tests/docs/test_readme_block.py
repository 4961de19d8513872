"""README's "More to try", pasted line by line into a shell, at small settings."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_llm.data.corpora import REMOTE

ROOT = Path(__file__).parents[2]
SIZES = "--n-layer 1 --n-head 2 --n-embd 16 --context-length 32"
SHORT = f"--steps 4 --warmup 1 --eval-tokens 400 {SIZES} --sample-tokens 4"
TUNED = "--epochs 1 --base new --pretrain-steps 3"
# What a command gets besides what README shows, so that it takes a second.
SMALL = {
    "tinygrad-llm train": SHORT,
    "tinygrad-llm generate": "--tokens 5",
    "tinygrad-llm finetune spam": f"{TUNED} --sets balanced",
    "tinygrad-llm finetune instructions": f"{TUNED} --answers 2 --max-new-tokens 4",
    "tinygrad-llm finetune preferences": "--epochs 1 --first-epochs 1",
    "tinygrad-llm study": "--steps 3 --layers 1",
    "tinygrad-llm gradcheck": "gelu",
}


def lines():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.partition("## More to try")[2].partition("\n## ")[0]
    return re.findall(r"^    (\S.*)$", block, re.M)


def smaller(line):
    """The line with small settings put in before its comment."""
    typed, hash_, comment = line.partition(" #")
    fitting = [name for name in SMALL if typed.startswith(name)]
    extra = SMALL[max(fitting, key=len)] if fitting else ""
    name = re.search(r"--data ([a-z-]+)$", typed.strip())
    if name:  # a corpus that would be downloaded
        assert name[1] in REMOTE
        typed = typed.replace(name[1], "downloaded.txt")
    return f"{typed} {extra} {hash_}{comment}"


@pytest.fixture
def clone(tmp_path):
    """A folder that looks like a clone in which `make train` has run."""
    for name in ("README.md", "examples", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path / "downloaded.txt")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


ACTIVATE = Path(sys.prefix) / "bin" / "activate"


@pytest.mark.skipif(
    shutil.which("bash") is None or not ACTIVATE.is_file(),
    reason="needs bash and a virtual environment",
)
def test_the_block_can_be_pasted(clone):
    shown = lines()
    assert len(shown) > 10
    assert all(" # " in line for line in shown[1:]), "what a command does stands behind a #"
    prepared = f"tinygrad-llm train {SHORT} --vocab-size 270 --out runs/pydoc-bpe --no-progress"
    script = [shown[0], prepared, *map(smaller, shown[1:])]
    for number, line in enumerate(script[1:], 1):
        done = subprocess.run(
            ["bash", "-c", f"{script[0]}\n{line}"],
            cwd=clone,
            input="Hello?\n",
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{number}: {line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
