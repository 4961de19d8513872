"""The site builds without a warning; its navigation names every page and every module exists."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.mark.parametrize("page", sorted((DOCS / "api").glob("*.md")), ids=lambda p: p.stem)
def test_modules_of_the_reference_exist(page):
    for name in re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.M):
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), name


def test_every_file_of_ops_is_on_the_page_of_ops():
    page = (DOCS / "api" / "ops.md").read_text(encoding="utf-8")
    files = {path.stem for path in (ROOT / "tinygrad_llm" / "ops").glob("[a-z]*.py")}
    assert set(re.findall(r"^::: tinygrad_llm\.ops\.(\w+)$", page, re.M)) == files


def test_navigation_names_pages_that_exist():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"([\w/]+\.md)$", text.partition("\nnav:")[2], re.M))
    assert named
    assert all((DOCS / name).is_file() for name in named)
    below = {p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*/*.md")}
    assert below <= named, "pages in folders must be in the navigation"


@pytest.mark.slow
def test_site_builds_strictly(tmp_path):
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("jupytext") is None:
        pytest.skip("needs the extra docs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "chapters/ch03_attention.html").read_text(encoding="utf-8")
    assert "SelfAttentionV1" in page
    assert (tmp_path / "chapters/ch03_attention.ipynb").is_file()
    for built in tmp_path.rglob("*.html"):
        text = built.read_text(encoding="utf-8")
        assert not re.search(r'(src|rel="stylesheet" href)="https?://', text), built
    index = json.loads((tmp_path / "search/search_index.json").read_text(encoding="utf-8"))["docs"]
    boosts = {entry["location"]: entry.get("boost", 1) for entry in index}
    assert boosts["how_to.html"] > boosts["gpu_step.html"] > boosts["api/training.html"]
    assert "CosineSchedule" in (tmp_path / "api/optim.html").read_text(encoding="utf-8")
