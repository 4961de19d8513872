"""Build a release and prove that it works: what `make release` runs.

Refuses a working tree with changes, a version that the change log does not have on top, and a
repository without an address. Then builds from the files of the last commit alone, checks what was
built as the package index will, installs the wheel into a new environment, trains and generates
there. Uploads nothing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SMOKE = (
    ("train", "--preset", "tiny", "--steps", "5", "--no-plot", "--out", "a run"),
    ("generate", "a run", "--tokens", "5"),
)


def problems(root: Path) -> list[str]:
    """What stands against a release of this clone, in sentences."""

    def read(name: str) -> str:
        return (root / name).read_text(encoding="utf-8")

    found = []
    if output("git", "status", "--porcelain", cwd=root):
        found.append("The working tree has changes. Commit them, or put them away (git stash).")
    version = version_of(root)
    unreleased, *released = re.split(r"^## \[(?=\d)", read("CHANGELOG.md"), flags=re.M)
    newest = released[0].partition("]")[0] if released else "none"
    if newest != version:
        found.append(
            f"The newest heading of CHANGELOG.md is {newest}, tinygrad_llm/__init__.py says "
            f"{version}. Make them agree."
        )
    if re.search(r"^- ", unreleased.partition("## [Unreleased]")[2], re.M):
        found.append("CHANGELOG.md has entries under Unreleased. Give them a version and a date.")
    if not re.search(r"^repository-code: \S+", read("CITATION.cff"), re.M):
        found.append(
            "CITATION.cff does not say where the repository is, so the package would have no "
            'links. Add a line: repository-code: "https://..."'
        )
    return found


def version_of(root: Path) -> str:
    """The version that the package says it has."""
    text = (root / "tinygrad_llm" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r'^__version__ = "(.+)"$', text, re.M)[0]


def build(root: Path, out: Path) -> list[Path]:
    """The source distribution, and the wheel built from it, of the last commit's files."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "source.tar"
        run("git", "archive", "--output", archive, "HEAD", cwd=root)
        source = Path(folder) / "source"
        shutil.unpack_archive(archive, source)
        run(sys.executable, "-m", "build", "--outdir", out, source, quiet=True)
    return sorted(out.iterdir())


def smoke(wheel: Path) -> None:
    """Install the wheel into a new environment, train and generate in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        environment, empty = Path(folder) / "environment", Path(folder) / "an empty folder"
        empty.mkdir()
        run(sys.executable, "-m", "venv", environment)
        run(environment / "bin" / "python", "-m", "pip", "install", "--quiet", wheel)
        for words in SMOKE:
            run(environment / "bin" / "tinygrad-llm", *words, cwd=empty, quiet=True)


def run(*words: object, cwd: Path | None = None, quiet: bool = False) -> None:
    """Run a program; where it fails, show what it said and end."""
    line = [str(word) for word in words]
    print("+", " ".join(line), flush=True)
    done = subprocess.run(line, cwd=cwd, capture_output=quiet, encoding="utf-8")
    if done.returncode:
        sys.exit(f"{done.stdout or ''}{done.stderr or ''}release: {line[0]} failed; nothing built.")


def output(*words: str, cwd: Path) -> str:
    """What a program prints."""
    return subprocess.run(words, cwd=cwd, capture_output=True, encoding="utf-8", check=True).stdout


def main() -> int:
    """Build into dist/ what has passed; returns the exit status."""
    against = problems(ROOT)
    if against:
        print("\n".join(["release: not yet.", *(f"- {reason}" for reason in against)]))
        return 2
    dist = ROOT / "dist"
    with tempfile.TemporaryDirectory() as folder:
        files = build(ROOT, Path(folder))
        run(sys.executable, "-m", "twine", "check", "--strict", *files)
        smoke(next(file for file in files if file.suffix == ".whl"))
        shutil.rmtree(dist, ignore_errors=True)
        shutil.copytree(folder, dist)
    version = version_of(ROOT)
    print(f"\n{len(files)} files are in dist/. Next, to publish {version}:")
    print(f"  git tag v{version} && git push origin v{version}")
    print(f"  {sys.executable} -m twine upload dist/*")
    return 0


if __name__ == "__main__":
    sys.exit(main())
