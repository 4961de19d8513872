"""What people who carry on rely on: one version, a change log, files that their readers accept."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tinygrad_llm as tg

ROOT = Path(__file__).parents[2]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_said_once():
    said = re.compile(r'version\w* *= *"\d')
    files = ["setup.py", "pyproject.toml", *sorted((ROOT / "tinygrad_llm").rglob("*.py"))]
    saying = [Path(name).name for name in files if said.search((ROOT / name).read_text("utf-8"))]
    # That of pyproject.toml is Python's.
    assert [name for name in saying if name != "pyproject.toml"] == ["__init__.py"]


def test_the_packaging_reads_it_there():
    done = subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.stdout.split()[-1:] == [tg.__version__], done.stderr


def test_the_change_log_and_the_citation_are_of_this_version():
    released = re.findall(r"^## \[(\d[^\]]*)\] - (\d{4}-\d\d-\d\d)$", read("CHANGELOG.md"), re.M)
    assert released == sorted(released, key=lambda entry: entry[1], reverse=True)
    version, date = released[0]
    assert version == tg.__version__
    assert f"\nversion: {version}\n" in read("CITATION.cff")
    assert f'\ndate-released: "{date}"\n' in read("CITATION.cff")


def test_what_the_change_log_says_to_write_exists():
    """The table of renamed modules: each new one can be found."""
    table = read("CHANGELOG.md").partition("### Renamed")[2].partition("###")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", table, re.M)[1:]
    assert len(rows) > 5
    for name in re.findall(r"`([\w.]+)`", " ".join(new for _, new in rows)):
        path = ROOT / name.removeprefix("tinygrad_llm.kernels.").replace(".", "/")
        if name.startswith("tinygrad_llm.kernels."):
            path = ROOT / "kernels" / path.relative_to(ROOT)
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


@pytest.mark.parametrize(
    "path", [*ROOT.glob(".github/**/*.yml"), ROOT / "CITATION.cff"], ids=lambda path: path.name
)
def test_files_for_other_programs_are_yaml(path):
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    keys = {
        "ci.yml": {"name", "jobs", "permissions"},
        "bug.yml": {"name", "description", "body"},
        "question.yml": {"name", "description", "body"},
        "config.yml": {"blank_issues_enabled"},
        "CITATION.cff": {"cff-version", "message", "title", "authors"},
    }
    assert keys[path.name] <= set(content)


def test_the_workflow_runs_what_the_makefile_offers():
    steps = re.findall(r"- run: (.+)", read(".github/workflows/ci.yml"))
    assert steps
    for step in steps:
        program, *words = step.split()
        assert program == "make" or os.access(ROOT / program, os.X_OK)
        assert program != "make" or re.search(rf"^{words[0]}:", read("Makefile"), re.M)


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


@pytest.mark.slow
def test_types_reach_those_who_install_the_package(tmp_path):
    """A wheel carries its types: mypy, outside of this repository, knows what tg.exp returns."""
    pytest.importorskip("mypy")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    source = tmp_path / "source"  # building leaves files beside what it builds
    for part in ("tinygrad_llm", "kernels"):
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, source)
    done = subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    if "No module named" in done.stderr or "invalid command 'bdist_wheel'" in done.stderr:
        pytest.skip("building a wheel without network needs setuptools and wheel")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert f"-{tg.__version__}-" in wheel.name
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
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
