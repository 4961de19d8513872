"""What is built: a source distribution that can be tested, and a wheel that works anywhere."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import tinygrad_llm as tg

ROOT = Path(__file__).parents[2]
LEFT = (".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "site", "notebooks")
KEPT = {".ci", ".github", ".gitignore"}

pytestmark = pytest.mark.slow


def run(*words, cwd, **environment):
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    if "No module named 'wheel'" in done.stderr or "invalid command 'bdist_wheel'" in done.stderr:
        pytest.skip("building a wheel without network needs setuptools and wheel")
    return done


def left(folder, names):
    """Files of the repository's root that are in no commit."""
    ignored = shutil.ignore_patterns(*LEFT)(folder, names)
    return ignored - KEPT


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The folder that the source distribution unpacks to."""
    place = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, place / "source", ignore=left)
    done = run(sys.executable, "setup.py", "-q", "sdist", "-d", place, cwd=place / "source")
    assert done.returncode == 0, done.stderr
    (packed,) = place.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(place)
    return place / packed.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel that is built from the source distribution."""
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "wheel", "--no-deps"]
    done = run(*pip, "--no-build-isolation", "-w", place, sdist, cwd=place)
    assert done.returncode == 0, done.stderr
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder of its own that the wheel is installed to, without what it needs."""
    place = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "install"]
    done = run(*pip, "--no-deps", "--target", place, wheel, cwd=place)
    assert done.returncode == 0, done.stderr
    return place


def files(folder, *parts):
    return {
        path.relative_to(folder).as_posix()
        for part in parts
        for path in (folder / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_source_distribution_can_be_tested(sdist):
    parts = ("tinygrad_llm", "kernels", "tests", "docs", "examples", "benchmarks", ".github", ".ci")
    assert files(sdist, *parts) == files(ROOT, *parts)
    for name in ("Makefile", "LICENSE", "CHANGELOG.md", "CITATION.cff", "mkdocs.yml", "setup.py"):
        assert (sdist / name).is_file()
    done = run(sys.executable, "-m", "pytest", "tests/nn/test_init.py", cwd=sdist)
    assert done.returncode == 0, done.stdout


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    kernels = {f"tinygrad_llm/{name}" for name in files(ROOT, "kernels")}
    assert names == files(ROOT, "tinygrad_llm") | kernels
    assert f"-{tg.__version__}-" in wheel.name


def test_the_installed_package_works_in_an_empty_folder(installed, tmp_path):
    empty = tmp_path / "it's an empty folder"
    empty.mkdir()

    def program(*words):
        script = installed / "bin" / "tinygrad-llm"
        done = run(script, *words, cwd=empty, PYTHONPATH=str(installed))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    found = json.loads(program("env", "--json"))
    assert f"installed in {installed}" in found["versions"]["tinygrad_llm"]
    assert "tests" not in found["features"]
    shown = program("train", "--preset", "tiny", "--steps", "3", "--no-plot", "--out", "a run")
    line = shown.strip().split("\n")[-1].strip()
    assert line.endswith("generate 'a run/best'")
    written = run("sh", "-c", f"{line} --tokens 3", cwd=empty, PYTHONPATH=str(installed))
    assert written.returncode == 0, written.stderr
    page = program("study", "--out", "step.html")
    assert "step.html" in page
    assert (empty / "step.html").stat().st_size > 100_000
    assert "docs/" not in program("explain", "gelu")


OUTSIDE = """
import numpy as np

import tinygrad_llm as tg

x: tg.Tensor = tg.tensor([1.0, 2.0], requires_grad=True)
model = tg.nn.GPT(tg.nn.GPTConfig(vocab_size=8, context_length=4, n_layer=1, n_head=1, n_embd=8))
loss: tg.Tensor = model.loss(np.zeros((1, 4), np.int64), np.zeros((1, 4), np.int64))
optimizer = tg.optim.AdamW(model.parameters(), lr=1e-3)
optimizer.step()
wrong: int = x.exp()
"""


def test_types_reach_those_who_install_the_package(installed, tmp_path):
    """A wheel carries its types: mypy, outside of this repository, knows what tg.exp returns."""
    pytest.importorskip("mypy")
    assert (installed / "tinygrad_llm" / "py.typed").is_file()
    (tmp_path / "outside.py").write_text(OUTSIDE, encoding="utf-8")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", "--ignore-missing-imports", "outside.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(installed)},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    wrong_line = OUTSIDE.split("\n").index("wrong: int = x.exp()") + 1
    errors = [line for line in checked.stdout.split("\n") if ": error:" in line]
    assert [error.split(":")[:2] for error in errors] == [["outside.py", str(wrong_line)]], errors
    assert '"Tensor"' in errors[0]
