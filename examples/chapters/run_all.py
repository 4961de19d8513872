"""Run all chapters, and keep the numbers that they print.

    python examples/chapters/run_all.py                              # run, with times
    python examples/chapters/run_all.py --numbers docs/numbers.md    # and write them down there
    python examples/chapters/run_all.py ch03 lora                    # only some, by parts of names
    python examples/chapters/run_all.py --figures DIR                # figures there, not figures/
    python examples/chapters/run_all.py --solutions                  # those of the exercises, too

A chapter asserts its numbers within bounds and prints each in a line that begins with "->".
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tinygrad_llm.errors import ConfigError, did_you_mean

HERE = Path(__file__).parent
ORDER = (  # of the book
    "ch01_ideas",
    "ch02_text",
    "ch02_embeddings",
    "ch03_attention",
    "ch04_gpt",
    "ch05_pretraining",
    "ch06_spam",
    "ch07_instructions",
    "app_backprop",
    "app_training_loop",
    "app_lora",
    "app_kernels",
    "app_translation",
)
BEGIN, END = "<!-- chapters: begin -->\n", "<!-- chapters: end -->\n"


def chapter_files(parts: Sequence[str] = ()) -> list[Path]:
    """The chapters' scripts, in the order of the book; only those whose names have such a part.

    Raises:
        ConfigError: no chapter has such a name.
    """
    for part in parts:
        if not any(_stem(part) in name for name in ORDER):
            known = [*ORDER, *(word for name in ORDER for word in name.split("_"))]
            hint = did_you_mean(_stem(part), known)
            raise ConfigError(f"there is no chapter {part!r}.{hint} There are: {', '.join(ORDER)}.")
    names = [n for n in ORDER if not parts or any(_stem(part) in n for part in parts)]
    return [HERE / f"{name}.py" for name in names]


def _stem(part: str) -> str:
    """Of a path, too: the shell completes ``examples/chapters/ch03_attention.py``."""
    return Path(part).name.removesuffix(".py").lower()


def solutions_of(script: Path) -> Path:
    """The solutions of a chapter's exercises."""
    return script.parent / "solutions" / script.name


def run(script: Path, folder: Path | None = None, figures: Path | None = None) -> tuple[str, float]:
    """What a chapter prints, and how many seconds of processor time it takes, on one core.

    Args:
        script: a chapter, or its solutions.
        folder: where it runs, by default here.
        figures: where its figures go, by default into ``figures`` below that folder.

    Raises:
        subprocess.CalledProcessError: it failed; ``stderr`` says where.
    """
    environment = {**os.environ, "PYTHONUTF8": "1", "OPENBLAS_NUM_THREADS": "1"}
    if figures is not None:
        environment["TINYGRAD_LLM_FIGURES"] = str(figures.absolute())
    before = os.times()
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        encoding="utf-8",
        check=True,
        env=environment,
        cwd=folder,
    )
    after = os.times()
    seconds = after.children_user + after.children_system
    return done.stdout, seconds - before.children_user - before.children_system


def numbers_in(output: str) -> list[str]:
    """The asserted numbers: lines that begin with an arrow."""
    return [line[3:] for line in output.splitlines() if line.startswith("-> ")]


def section(results: Sequence[tuple[Path, str, float]]) -> str:
    """The results as Markdown."""
    lines = [
        f"Printed on {platform.machine()}, Python {platform.python_version()}, one thread, by",
        "",
        "    python examples/chapters/run_all.py --numbers docs/numbers.md",
        "",
        "The last digits differ between machines; each chapter asserts the bounds within which its",
        "numbers must lie.",
        "",
    ]
    for script, output, seconds in results:
        lines += [f"### {script.name}", "", f"{seconds:.0f} s of processor time.", ""]
        lines += [f"    {line}" for line in numbers_in(output)] + [""]
    return "\n".join(lines)


def write_down(text: str, path: Path) -> None:
    """Replace what stands between the two marks of a Markdown file."""
    page = path.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(BEGIN) + ".*" + re.escape(END), re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{path}: the marks {BEGIN.strip()} and {END.strip()} are missing.")
    new = pattern.sub(lambda _: f"{BEGIN}\n{text}\n{END}", page)
    path.write_text(new, encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python examples/chapters/run_all.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("chapters", nargs="*", help="parts of names, such as ch03 or lora")
    parser.add_argument("--numbers", type=Path, metavar="FILE", help="Markdown file to write into")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="folder of the figures")
    parser.add_argument("--solutions", action="store_true", help="run the solutions, too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns 1 if a chapter failed, 2 if there is no such chapter."""
    arguments = parser().parse_args(argv)
    try:
        scripts = chapter_files(arguments.chapters)
    except ConfigError as error:
        print(f"run_all.py: {error}", file=sys.stderr)
        return 2
    results = []
    for script in scripts:
        for part in [script, solutions_of(script)] if arguments.solutions else [script]:
            started = time.perf_counter()
            try:
                output, seconds = run(part, figures=arguments.figures)
            except subprocess.CalledProcessError as error:
                print(f"{part.relative_to(HERE)} failed:\n{error.stderr}", file=sys.stderr)
                return 1
            if part is script:
                results.append((script, output, seconds))
            print(
                f"{part.relative_to(HERE)!s:34} {seconds:6.1f} s of processor time, "
                f"{time.perf_counter() - started:6.1f} s in all",
                flush=True,
            )
    if arguments.numbers:
        write_down(section(results), arguments.numbers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
