"""How many planted mistakes do the tests notice?

    python tests/mutation/score.py                    all of it, about half an hour on one core
    python tests/mutation/score.py --sample 20        a part of it, chosen evenly
    python tests/mutation/score.py --part nn          only modules
    python tests/mutation/score.py --only "Max."      only mutants whose name contains this
    python tests/mutation/score.py --list             names, without running anything

Mutants of ops, modules, optimizers and generation are drawn by `mutator` and written by hand
(`hand_written`). Each is put into a copy of the repository, where the tests that concern its file
run until the first one fails: the mutant is killed. One that no test notices survives, and is a
hole in the tests, unless it computes the same (`equivalent` says of each why).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from equivalent import EQUIVALENT
from hand_written import HAND_WRITTEN
from mutator import Mutant, by_hand, draw, mutants_of

ROOT = Path(__file__).parents[2]
SEED = 20
PACKAGE = "tinygrad_llm"
TIMEOUT = 300  # seconds for the tests of one mutant; a loop without end counts as noticed
NOTHING_COLLECTED = 5  # pytest's exit status
MEMORY = 16 << 30  # bytes of address space for the tests of one mutant


@dataclass(frozen=True)
class Part:
    """A part of the program: how many mutants are drawn from it, and which tests concern it."""

    drawn: int
    tests: tuple[str, ...]
    files: tuple[str, ...]  # patterns below the package


_GENERATION = ("sampling", "generate", "beam_search", "scoring")
PARTS = {
    "ops": Part(
        70,
        (
            "tests/ops",
            "tests/test_names.py",
            "tests/nn/test_activations_and_losses.py",
            "tests/autograd",
        ),
        ("ops/*.py",),
    ),
    "nn": Part(
        38,
        ("tests/nn", "tests/generation/test_generate.py", "tests/pretrained"),
        ("nn/*.py", "checks.py", "gpt_config.py"),
    ),
    "optim": Part(32, ("tests/optim", "tests/training/test_checkpoint.py"), ("optim/*.py",)),
    "generation": Part(
        22, ("tests/generation",), tuple(f"generation/{name}.py" for name in _GENERATION)
    ),
}
NOT_HERE = ("__init__.py", "by_kernel.py")  # what runs on a GPU alone has tests of its own


def part_of(file: str) -> str:
    """The part that a file belongs to, which is "" for files of no part."""
    for name, part in PARTS.items():
        if any(Path(file).match(f"{PACKAGE}/{pattern}") for pattern in part.files):
            return name
    return ""


def all_mutants(parts: Sequence[str] = tuple(PARTS)) -> list[Mutant]:
    """The drawn and the hand-written ones, without those that are known to be equivalent."""
    found = []
    for part in parts:
        candidates = [
            mutant
            for pattern in PARTS[part].files
            for path in sorted((ROOT / PACKAGE).glob(pattern))
            if path.name not in NOT_HERE
            for mutant in mutants_of(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
        ]
        found += draw(candidates, PARTS[part].drawn, SEED)
        found += [
            by_hand(ROOT, f"{PACKAGE}/{file}", old, new)
            for file, old, new in HAND_WRITTEN
            if part_of(f"{PACKAGE}/{file}") == part
        ]
    return found


@dataclass(frozen=True)
class Result:
    """What became of a mutant: the first test that failed, ``"timeout"``, or "" if it survived."""

    mutant: Mutant
    killed_by: str
    seconds: float


class Laboratory:
    """A copy of the repository in which one mutant after the other is tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (PACKAGE, "kernels", "tests", "examples", "benchmarks", "pyproject.toml"):
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, folder / name)

    def try_out(self, mutant: Mutant) -> Result:
        """Run the tests against it."""
        path = self.folder / mutant.file
        source = path.read_text(encoding="utf-8")
        start = time.perf_counter()
        path.write_text(mutant.apply(source), encoding="utf-8")
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
            compiled.unlink()  # it may be as long and of the same second
        try:
            stages = stages_of(mutant.file, source)
            killed_by = next(filter(None, map(self.first_failure, stages)), "")
        finally:
            path.write_text(source, encoding="utf-8")
        return Result(mutant, killed_by, time.perf_counter() - start)

    def first_failure(self, tests: Sequence[str], keep_compiled: bool = False) -> str:
        """The first test that fails, ``"timeout"``, or "" where all pass."""
        command = [
            sys.executable,
            *([] if keep_compiled else ["-B"]),
            "-m",
            "pytest",
            "-x",
            "--tb=no",
            "-rfE",
            "-p",
            "no:cacheprovider",
            "--hypothesis-seed=0",
            *tests,
        ]
        shutil.rmtree(self.folder / ".hypothesis", ignore_errors=True)
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(self.folder)},
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                preexec_fn=limit_memory,
            )
        except subprocess.TimeoutExpired:
            return "timeout"
        if done.returncode in (0, NOTHING_COLLECTED):
            return ""
        failures = [x for x in done.stdout.splitlines() if x.startswith(("FAILED", "ERROR"))]
        return failures[0].split(" - ")[0] if failures else f"exit status {done.returncode}"


def limit_memory() -> None:
    """A mutant may ask for memory without end."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def stages_of(file: str, source: str) -> list[list[str]]:
    """The tests that concern a file, in stages: what is near first, since most is found there."""
    part, name = part_of(file), Path(file).stem.strip("_")
    tests = [
        path
        for entry in PARTS[part].tests
        for path in (sorted((ROOT / entry).glob("test_*.py")) or [ROOT / entry])
    ]
    near = [path for path in tests if name.split("_")[0] in path.stem]
    stages = [near, [path for path in tests if path not in near]]
    commands = [[str(p.relative_to(ROOT)) for p in stage] for stage in stages if stage]
    if ops := re.findall(r'@register\(\s*"(\w+)"', source):
        commands.insert(0, ["tests/ops/test_every_op.py", "-k", " or ".join(ops)])
    return commands


def chosen(arguments: argparse.Namespace) -> list[Mutant]:
    """The mutants that the command line asks for."""
    mutants = all_mutants([arguments.part] if arguments.part else tuple(PARTS))
    mutants = [m for m in mutants if arguments.only in m.name]
    if arguments.sample and arguments.sample < len(mutants):
        step = len(mutants) / arguments.sample
        mutants = [mutants[int(i * step)] for i in range(arguments.sample)]
    return mutants


def run(mutants: Sequence[Mutant], log: Path) -> Iterator[Result]:
    """Try each that the log does not call killed; the tests must pass without a mutant first."""
    rows = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    killed = {row["mutant"]: row for row in map(json.loads, rows) if row["killed_by"]}
    for mutant in mutants:
        if row := killed.get(mutant.name):
            yield Result(mutant, row["killed_by"], row["seconds"])
    left = [mutant for mutant in mutants if mutant.name not in killed]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        laboratory = Laboratory(Path(folder))
        tests = {test for m in left for stage in stages_of(m.file, "") for test in stage}
        if tests and (failure := laboratory.first_failure(sorted(tests), keep_compiled=True)):
            raise SystemExit(f"The tests fail without any mutant: {failure}")
        for mutant in left:
            result = laboratory.try_out(mutant)
            row = {
                "mutant": mutant.name,
                "killed_by": result.killed_by,
                "seconds": round(result.seconds, 1),
            }
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            yield result


def table(results: Sequence[Result]) -> str:
    """The score of each part, and the survivors."""
    lines = ["| part | mutants | equivalent | killed | score |", "|---|---|---|---|---|"]
    counted = [r for r in results if r.mutant.name not in EQUIVALENT]
    for part in [*PARTS, ""]:
        of_part = [r for r in results if part in ("", part_of(r.mutant.file))]
        valid = [r for r in of_part if r in counted]
        if valid:
            killed = sum(bool(r.killed_by) for r in valid)
            lines.append(
                f"| {part or 'all'} | {len(of_part)} | {len(of_part) - len(valid)} | {killed} | "
                f"{100 * killed / len(valid):.1f} % |"
            )
    survivors = [r.mutant.name for r in counted if not r.killed_by]
    lines += ["", "Survivors:", *(f"- `{name}`" for name in survivors or ["none"])]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """0 where at least 98 % of the mutants are noticed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=PARTS, help="only this part of the program")
    parser.add_argument("--only", default="", help="only mutants whose name contains this")
    parser.add_argument("--sample", type=int, help="only so many, chosen evenly")
    parser.add_argument("--list", action="store_true", help="names only; run nothing")
    parser.add_argument(
        "--log",
        type=Path,
        default=os.devnull,
        help="append each outcome to this file, and try again only what it does not call killed",
    )
    arguments = parser.parse_args(argv)
    mutants = chosen(arguments)
    if arguments.list:
        print("\n".join(m.name for m in mutants))
        return 0
    results = []
    for result in run(mutants, arguments.log):
        results.append(result)
        survived = "equivalent" if result.mutant.name in EQUIVALENT else "SURVIVED"
        fate = result.killed_by or survived
        print(f"{result.seconds:5.1f} s  {result.mutant.name}\n         {fate}", flush=True)
    print(f"\n{table(results)}")
    valid = [r for r in results if r.mutant.name not in EQUIVALENT]
    return 0 if sum(bool(r.killed_by) for r in valid) >= 0.98 * len(valid) else 1


if __name__ == "__main__":
    sys.exit(main())
