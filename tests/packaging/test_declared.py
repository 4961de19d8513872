"""What setup.py declares, and when a release is refused."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def test_what_a_package_index_shows(declared):
    assert declared["author"]
    assert (ROOT / declared["license_files"][0]).is_file()
    assert "Programming Language :: Python :: 3.10" in declared["classifiers"]
    assert declared["python_requires"] == ">=3.10"
    assert declared["keywords"]
    assert declared["entry_points"] == {
        "console_scripts": ["tinygrad-llm = tinygrad_llm.__main__:main"]
    }


def test_links_lead_into_the_repository_once_it_has_an_address(declared):
    inside = re.findall(r"\]\((?!https?:|#)([^)]+)\)", declared["long_description"])
    known = "repository-code:" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert bool(inside) is not known
    assert bool(declared["project_urls"]) is known


def test_each_requirement_can_be_read(declared):
    for needs in (declared["install_requires"], *declared["extras_require"].values()):
        for need in needs:
            assert Requirement(need).name


def test_every_folder_of_code_is_a_package(declared):
    places = {"tinygrad_llm": ("tinygrad_llm",), "kernels": ("tinygrad_llm", "kernels")}
    folders = {
        ".".join([*prefix, *path.parent.relative_to(ROOT / place).parts])
        for place, prefix in places.items()
        for path in (ROOT / place).rglob("*.py")
    }
    assert set(declared["packages"]) == folders


@pytest.fixture
def release():
    path = ROOT / ".ci" / "release.py"
    spec = importlib.util.spec_from_file_location("release", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clone(tmp_path):
    """A small clone from which a release can be made."""
    if shutil.which("git") is None:
        pytest.skip("no git")
    files = {
        "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-01-01\n\n- This.\n",
        "CITATION.cff": 'version: 1.2.0\nrepository-code: "https://example.org/r"\n',
        "tinygrad_llm/__init__.py": '__version__ = "1.2.0"\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "before", "after", "reason"),
    [
        ("CHANGELOG.md", "[1.2.0]", "[1.1.0]", "newest heading"),
        ("CHANGELOG.md", "[Unreleased]\n", "[Unreleased]\n\n- More.\n", "under Unreleased"),
        ("CITATION.cff", "repository-code", "url", "where the repository is"),
        ("CITATION.cff", "1.2.0", "1.2.0 ", "has changes"),
    ],
)
def test_a_release_is_refused(release, clone, name, before, after, reason):
    assert release.problems(clone) == []
    path = clone / name
    path.write_text(path.read_text("utf-8").replace(before, after), encoding="utf-8")
    assert any(reason in problem for problem in release.problems(clone))
