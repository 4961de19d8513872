"""The Python blocks of README.md and docs/ run, and links and commands lead somewhere.

A block that cannot run in the tests says so to the reader, in the line before it:
"Not run by the tests: needs a GPU."
"""

import fnmatch
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_llm.__main__ import main as package_main
from tinygrad_llm.autograd.registry import OPS, REGISTRY

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
NOT_RUN = re.compile(r"Not run by the tests: (.+?)\*?$")
# tests/kernels/test_kernel_guide.py writes the blocks of the first out as files and runs those;
# tests/docs/test_derivations.py runs the others.
ELSEWHERE = {
    DOCS / "write_your_own_kernel.md",
    DOCS / "write_your_own_op.md",
    *DOCS.glob("derivations/*"),
}
EVERY = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page):
    """(line number, code, reason not to run it or None) of each Python block."""
    lines = page.read_text(encoding="utf-8").split("\n")
    found, start = [], None
    for number, line in enumerate(lines):
        if start is None and line == "```python":
            start = number + 1
        elif start is not None and line == "```":
            before = next((text for text in reversed(lines[: start - 1]) if text.strip()), "")
            reason = NOT_RUN.search(before)
            found.append((start, "\n".join(lines[start:number]), reason and reason[1]))
            start = None
    return found


@pytest.fixture
def registry():
    """The registry as it was, whatever a page enters into it."""
    entries, calls = dict(REGISTRY), dict(OPS)
    yield
    for current, before in ((REGISTRY, entries), (OPS, calls)):
        for name in set(current) - set(before):
            del current[name]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p) and p not in ELSEWHERE], ids=lambda page: page.stem
)
def test_python_of_the_page_runs(page, registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace, reasons = {"__name__": page.stem}, []
    for line, code, reason in blocks(page):
        if reason:
            reasons.append(f"line {line}: {reason}")
            continue
        exec(compile("\n" * line + code, str(page), "exec"), namespace)
    if len(reasons) == len(blocks(page)):
        pytest.skip("; ".join(reasons))


def test_a_block_that_is_not_run_says_why(tmp_path):
    page = tmp_path / "page.md"
    fence = "```"
    page.write_text(
        f"*Not run by the tests: needs a GPU.*\n\n{fence}python\n1 / 0\n{fence}\n\n"
        f"{fence}python\nx = 1\n{fence}\n",
        encoding="utf-8",
    )
    assert [reason for _, _, reason in blocks(page)] == ["needs a GPU.", None]


@EVERY
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" in target:
            continue
        path = page.parent / target
        if path.parent.name == "chapters":  # pages that docs/site_pages.py makes of the scripts
            path = ROOT / "examples" / "chapters" / f"{path.stem}.py"
        assert path.is_file(), f"{page.name}: {target}"


@EVERY
def test_files_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    pattern = r"`((?:tinygrad_llm|examples|kernels|benchmarks|tests|docs)/[\w./]*)`"
    for name in re.findall(pattern, text):
        assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_every_file_of_the_benchmarks_has_its_place():
    """A command or a part of one, in the table that docs/numbers.md begins with."""
    text = (ROOT / "docs" / "numbers.md").read_text(encoding="utf-8")
    patterns = re.findall(r"`([\w*]+\.py)`", text.partition("## CPU training step")[0])
    files = {path.name for path in (ROOT / "benchmarks").glob("*.py")}
    found = {name for pattern in patterns for name in fnmatch.filter(files, pattern)}
    assert found == files
    assert all(fnmatch.filter(files, pattern) for pattern in patterns)


def test_every_file_of_autograd_has_its_place():
    """In the table that says why each exists."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("## The files of autograd")[2].partition("\n## ")[0]
    first_cells = " ".join(re.findall(r"^\|([^|]*)\|", table, re.M))
    patterns = re.findall(r"`([\w*]+(?:\.py|/))`", first_cells)
    room = ROOT / "tinygrad_llm" / "autograd"
    files = {path.name for path in room.glob("*.py")}
    files |= {f"{path.parent.name}/" for path in room.glob("*/__init__.py")}
    found = {name for pattern in patterns for name in fnmatch.filter(files, pattern)}
    assert found == files - {"__init__.py"}
    assert all(fnmatch.filter(files, pattern) for pattern in patterns)


OWN = re.compile(r"(?:\S*/)?tinygrad-llm(?= )")  # the console script, with or without its folder
PROGRAM = rf"(?:[^`\n]* )?{OWN.pattern}|(?:\.venv/bin/)?python"


def shown(page):
    """The lines that begin with one of our commands: in code within a sentence, and in blocks."""
    text = page.read_text(encoding="utf-8")
    in_text = re.findall(rf"(?<!`)`((?:{PROGRAM}) [^`\n]+)`(?!`)", text)
    return in_text, re.findall(rf"^ {{4,}}(?:\$ )?((?:{PROGRAM}) .+)$", text, re.M)


def commands(page):
    """What a page tells to run of this repository: the words, as Python is to be given them.

    `tinygrad-llm train --steps 5` is `-m tinygrad_llm train --steps 5`. What stands behind ``#``
    is a comment, and what stands before the program (`mpiexec -n 2`) another program's affair.
    """
    for command in itertools.chain(*shown(page)):
        command = re.sub(rf"^.*?{OWN.pattern}", "python -m tinygrad_llm", command.split(" #")[0])
        words = re.findall(r'"[^"]*"|\S+', command)[1:]
        if len(words) > 1 and words[:2] == ["-m", "tinygrad_llm"]:
            if len(words) > 2 and words[2].islower():  # a command, and not a word in its place
                yield words
        elif words and re.match(r"(examples|benchmarks|docs)/", words[0]):
            yield words


@pytest.fixture(scope="session")
def help_of():
    """What a program says to --help, asked once each."""
    said = {}

    def ask(words):
        length = (4 if words[2] == "finetune" else 3) if words[0] == "-m" else 1
        program = tuple(words[:length])
        if program not in said:
            environment = {**os.environ, "PYTHONUTF8": "1"}
            done = subprocess.run(
                [sys.executable, *program, "--help"],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                encoding="utf-8",
                timeout=120,
            )
            assert done.returncode == 0, f"{program}: {done.stderr}"
            said[program] = done.stdout
        return said[program]

    return ask


@EVERY
def test_commands_and_their_flags_exist(page, help_of):
    for words in commands(page):
        program, *rest = words
        if program.startswith("examples/chapters/") and "argparse" not in (
            ROOT / program
        ).read_text(encoding="utf-8"):
            assert not rest, f"{page.name}: {program} takes no arguments"
            continue
        if program == "examples/nano.py":
            assert rest in ([], ["[FILE]"]), f"{page.name}: {words}"
            continue
        said = help_of(words)
        for flag in [word for word in rest if word.startswith("--") and word != "--help"]:
            name = flag.partition("=")[0]
            assert re.search(rf"{re.escape(name)}\b", said), f"{page.name}: {' '.join(words)}"


@EVERY
def test_what_a_command_does_stands_behind_a_hash(page):
    """So that a line can be pasted."""
    installs = re.findall(r"^ {4,}(?:\$ )?(\S*pip install .+)$", page.read_text("utf-8"), re.M)
    for command in [*shown(page)[1], *installs]:
        assert not re.search(r"\S {2,}(?!#)\S", command.split(" #")[0]), f"{page.name}: {command}"


def test_commands_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "Type `tinygrad-llm explain gelu` or `tinygrad-llm finetune spam --data x`.\n\n"
        "    mpiexec -n 2 .venv/bin/tinygrad-llm train --steps 5   # the same\n"
        "    $ python examples/chat.py --help\n"
        "    tinygrad-llm chat       and talk to it\n",
        encoding="utf-8",
    )
    assert [" ".join(words) for words in commands(page)] == [
        "-m tinygrad_llm explain gelu",
        "-m tinygrad_llm finetune spam --data x",
        "-m tinygrad_llm train --steps 5",
        "examples/chat.py --help",
        "-m tinygrad_llm chat and talk to it",
    ]
    with pytest.raises(AssertionError, match="and talk to it"):
        test_what_a_command_does_stands_behind_a_hash(page)


def test_the_package_knows_its_commands():
    assert package_main(["no-such-command"]) != 0


@EVERY
def test_nothing_is_taken_for_html(page):
    """``<a, b>`` in plain text vanishes from the site; in backticks it stays."""
    text = re.sub(
        r"```.*?```|`[^`]*`|<!--.*?-->|^    .*?$",
        "",
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL | re.M,
    )
    assert not re.findall(r"<[A-Za-z/][^>]*>", text)
