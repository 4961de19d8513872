"""What people who carry on rely on: one version, a change log, files that their readers accept."""

import os
import re
import subprocess
import sys
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
