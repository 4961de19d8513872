"""Each hint is a command that runs where it is shown; nothing is hinted at in another way."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tinygrad_llm import hints

ROOT = Path(__file__).parents[1]
FOLDERS = ("tinygrad_llm", "kernels", "benchmarks", "examples")
BY_HAND = re.compile(
    r"pip install|tinygrad_llm\[|python3? (-m|\S+\.py)|examples/\w"
    r"|tinygrad-llm \w|\bmake (train|finetune|test|lint|bench|docs|release)\b"
)
ALLOWED = {
    ("tinygrad_llm/hints.py", " install"),
    ("tinygrad_llm/commands/tokenize.py", "tinygrad-llm train"),  # --help, see as_typed_here
    ("kernels/_missing.py", "pip install"),  # kernels/ stands alone: the packages themselves
    ("kernels/products/cublas.py", "pip install"),
    ("examples/chapters/make_notebooks.py", "python examples/chapters/make_notebooks.py"),
    ("examples/chapters/run_all.py", "python examples/chapters/run_all.py"),
    ("examples/from_clone.py", "-m pip install"),  # before the package can be imported
}


def trees():
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def strings(tree):
    """The strings of a file that are no docstrings."""
    bodies = [node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", 0), list)]
    docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            if isinstance(node.value, str):
                yield node.lineno, node.value


def test_no_command_is_named_by_hand():
    found = [
        f"{name}:{line}: {text!r}"
        for name, tree in trees()
        for line, text in strings(tree)
        if BY_HAND.search(text) and not re.fullmatch(r"tinygrad-llm \w+", text)  # a program's name
        if not any(name == file and words in text for file, words in ALLOWED)
    ]
    assert not found, "\n".join(["use tinygrad_llm/hints.py:", *found])


def hinted(function):
    """(file, the constant words in front) of all calls of a function of hints."""
    for name, tree in trees():
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "tinygrad_llm.hints"
            for alias in node.names
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called == f"hints.{function}" or (called == function and function in imported):
                words = [a.value for a in node.args if isinstance(a, ast.Constant)]
                yield name, tuple(word for word in map(str, words) if not word.startswith("-"))


# Behind the command stand arguments of the user's, or names for them in capitals.
COMMANDS = sorted(
    {words[: 2 if words[:1] == ("finetune",) else 1] for _, words in hinted("command")}
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("path", ["with the scripts", "without"])
def test_each_hinted_command_runs_from_another_folder(words, path, tmp_path, monkeypatch):
    if path == "with the scripts":
        scripts = Path(sys.executable).parent
        monkeypatch.setenv("PATH", str(scripts), prepend=os.pathsep)
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    line = hints.command(*words, *(["--help"] if words else []))
    done = subprocess.run(["sh", "-c", line], capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == (0 if words else 2), f"{line}\n{done.stdout}{done.stderr}"
    assert " ".join(["usage: tinygrad-llm", *words]) in done.stdout


def test_each_hinted_install_names_what_is_declared(declared):
    extras = declared["extras_require"]
    hinted_extras = {words[0] for _, words in hinted("install") if words}
    assert {"plot", "cuda", "cuda12", "distributed", "tensorboard", "docs"} <= hinted_extras
    for extra in hinted_extras:
        line = hints.install(extra)
        shown = subprocess.run(
            ["sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, encoding="utf-8"
        ).stdout.split("\n")
        named = shown[shown.index("install") + 1 : -1]
        if named[0] == "-e":  # this environment was installed before there was the extra
            assert (ROOT / named[1].partition("[")[0]).resolve() == ROOT
            continue
        wanted = [Requirement(need) for need in extras[extra]]
        fitting = {need.name.replace("_", "-") for need in wanted if fits(need)}
        assert {Requirement(need).name.replace("_", "-") for need in named} == fitting


def fits(need):
    return need.marker is None or need.marker.evaluate()


def test_packages_of_no_extra_are_requirements():
    packages = [word for _, words in hinted("install_package") for word in words]
    assert packages
    for package in packages:
        assert Requirement(package).name


@pytest.fixture
def no_installation(monkeypatch):
    monkeypatch.setattr(hints, "_installed", lambda package: None)
    monkeypatch.setattr(hints.metadata, "distributions", lambda **search: [])
    monkeypatch.setenv("PATH", "")


def test_a_clone_that_is_not_installed(no_installation, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    assert hints.requirements("plot") == ["-e", f"{ROOT}[plot]"]
    line = hints.command("env", "--help")
    assert f"env PYTHONPATH={hints.shlex.quote(str(ROOT))} " in line
    monkeypatch.chdir(ROOT)
    assert hints.requirements("plot") == ["-e", ".[plot]"]
    assert "PYTHONPATH" not in hints.command("env")


def test_what_is_neither_installed_nor_a_clone(no_installation, monkeypatch, tmp_path):
    monkeypatch.setattr(hints, "ROOT", tmp_path)
    assert hints.requirements("plot") == ["tinygrad_llm[plot]"]


def test_a_script_that_a_link_on_the_path_leads_to(monkeypatch, tmp_path):
    """So pipx and uv install programs."""
    real, shown = tmp_path / "real" / "tinygrad-llm", tmp_path / "bin" / "tinygrad-llm"
    for file in (real, shown):
        file.parent.mkdir()
    real.write_text("#!/bin/sh\n", encoding="utf-8")
    real.chmod(0o755)
    monkeypatch.setattr(hints, "script", lambda: real)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert hints.command("chat").startswith(str(real))
    shown.symlink_to(real)
    assert hints.command("chat") == "tinygrad-llm chat"


def test_a_file_of_the_current_folder_is_called_with_its_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    script = Path.cwd() / "tinygrad-llm"
    script.write_text("", encoding="utf-8")
    monkeypatch.setattr(hints, "script", lambda: script)
    monkeypatch.setenv("PATH", "")
    assert hints.command("chat") == "./tinygrad-llm chat"


def test_an_environment_without_pip(monkeypatch):
    monkeypatch.setattr(hints, "_installed", lambda package: None)
    monkeypatch.setattr(hints.metadata, "distributions", lambda **search: [])
    monkeypatch.setattr(hints.shutil, "which", lambda name: "/bin/uv" if name == "uv" else None)
    assert hints.install_package("a>=1").startswith("uv pip install --python ")


def test_a_folder_that_was_removed(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    shutil.rmtree(gone)
    try:
        assert hints.command("generate", "runs/a b").endswith(" generate 'runs/a b'")
        assert "install" in hints.install("plot")
    finally:
        os.chdir(tmp_path)


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        (' extra == "plot"', True),
        (" extra == 'docs'", False),
        (' (sys_platform == "nowhere") and extra == "plot"', False),
        (" sys_platform != 'nowhere' and extra == 'plot'", True),
    ],
)
def test_conditions_as_old_and_new_setuptools_write_them(when, holds):
    assert hints._holds(when, "plot") is holds


def test_examples_in_a_help_text_begin_as_they_must_be_typed(monkeypatch):
    monkeypatch.setattr(hints, "_caller", lambda: "env/bin/tinygrad-llm")
    text = "See tinygrad-llm chat.\n\n    tinygrad-llm chat\n    mpiexec -n 2 tinygrad-llm train\n"
    assert hints.as_typed_here(text) == (
        "See tinygrad-llm chat.\n\n    env/bin/tinygrad-llm chat\n"
        "    mpiexec -n 2 env/bin/tinygrad-llm train\n"
    )


def test_a_missing_package_is_one_error_and_not_a_chain_of_them():
    """The hint says it all: the ImportError behind it adds only a traceback."""
    chained = [
        f"{name}:{node.lineno}"
        for name, tree in trees()
        for handler in ast.walk(tree)
        if isinstance(handler, ast.ExceptHandler)
        and handler.type is not None
        and re.search("ImportError|ModuleNotFoundError", ast.unparse(handler.type))
        for node in ast.walk(handler)
        if isinstance(node, ast.Raise)
        and re.match("(MissingDependency|Device|Kernel)Error", ast.unparse(node.exc or handler))
        and not (isinstance(node.cause, ast.Constant) and node.cause.value is None)
    ]
    assert not chained


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    "word", ["a\nb", "it's\r\\n", "\x1b]0;t\x07 $x", "é\u202eb", os.fsdecode(b"\xff'\n"), ""]
)
def test_a_word_with_control_characters_can_be_pasted(word):
    quoted = hints.command(word).removeprefix(hints.command()).lstrip()
    assert quoted.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True)
    assert os.fsdecode(done.stdout) == word
