"""All chapters run, their asserts hold, and what they print stands in docs/numbers.md.

Those that take more than some seconds are marked slow as well: ``pytest -m chapters`` runs all.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "chapters"
sys.path.insert(0, str(FOLDER))
import make_notebooks  # noqa: E402
import run_all  # noqa: E402

QUICK = {"ch02_text", "ch02_embeddings", "ch03_attention", "ch04_gpt", "app_backprop"}
CHAPTERS = run_all.chapter_files()
EVERY = pytest.mark.parametrize("script", CHAPTERS, ids=lambda script: script.stem)
MOST_SECONDS = 110  # of processor time on one core: under two minutes with room


def label(line):
    """A printed line without its numbers."""
    return re.sub(r"[^A-Za-z]+", " ", re.sub(r"\d[\d.e+-]*", "", line)).strip()


@pytest.mark.chapters
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            script, marks=[] if script.stem in QUICK else [pytest.mark.slow], id=script.stem
        )
        for script in CHAPTERS
    ],
)
def test_chapter_runs(script, tmp_path):
    try:
        output, seconds = run_all.run(script, tmp_path)
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{error.stdout[-2000:]}\n{error.stderr[-4000:]}")
    assert seconds < MOST_SECONDS
    numbers = run_all.numbers_in(output)
    if script.stem == "app_kernels" and not numbers:
        pytest.skip("kernels do not run here")
    page = (ROOT / "docs/numbers.md").read_text(encoding="utf-8")
    part = page.partition(f"### {script.name}\n")[2].partition("\n### ")[0]
    written = [label(line) for line in part.splitlines() if line.startswith("    ")]
    assert [label(line) for line in numbers] == written, "python examples/chapters/run_all.py"


def test_every_chapter_is_listed():
    files = {*FOLDER.glob("ch*.py"), *FOLDER.glob("app_*.py")}
    assert set(CHAPTERS) == files


@EVERY
def test_chapter_says_what_to_expect_and_holds_it(script):
    source = script.read_text(encoding="utf-8")
    assert source.startswith("# %% [markdown]\n# # ")
    assert "# **Expect**:" in source.partition("# %%\n")[0]
    assert source.count("\nassert ") + source.count("    assert ") >= 3
    assert 'print(f"-> ' in source or 'print("-> ' in source


@EVERY
def test_chapter_uses_the_public_package_only(script):
    allowed = {"tinygrad_llm", "numpy", *sys.stdlib_module_names}
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(alias.name for alias in node.names)]
            names = [names[0]] if names[0] == "__future__" else names
            assert not any(name.startswith("_") and name != "__future__" for name in names)
            names = names[:1]
        assert {name.split(".")[0] for name in names} <= allowed


def test_a_failing_chapter_is_reported(tmp_path, monkeypatch, capsys):
    script = tmp_path / "ch99_wrong.py"
    script.write_text("print('-> 1')\nassert 1 + 1 == 3\n", encoding="utf-8")
    monkeypatch.setattr(run_all, "HERE", tmp_path)
    monkeypatch.setattr(run_all, "ORDER", ["ch99_wrong"])
    assert run_all.main([]) == 1
    assert "ch99_wrong.py failed" in capsys.readouterr().err


def test_numbers_are_written_between_the_marks(tmp_path, monkeypatch):
    (tmp_path / "ch01_small.py").write_text("print('-> half: 0.5')\nprint('no')", encoding="utf-8")
    page = tmp_path / "numbers.md"
    page.write_text(f"# A\n\n{run_all.BEGIN}old\n{run_all.END}\n## B\n", encoding="utf-8")
    monkeypatch.setattr(run_all, "HERE", tmp_path)
    monkeypatch.setattr(run_all, "ORDER", ["ch01_small"])
    assert run_all.main(["--numbers", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "    half: 0.5\n" in text
    assert "old" not in text
    assert "    no" not in text
    assert text.startswith("# A\n")
    assert text.endswith("## B\n")


@EVERY
def test_notebook_has_the_cells_of_the_script(script):
    pytest.importorskip("jupytext", reason="needs the extra docs")
    notebook = make_notebooks.notebook_of(script)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert ast.dump(ast.parse(code)) == ast.dump(ast.parse(script.read_text(encoding="utf-8")))
    assert notebook.cells[0].cell_type == "markdown"
    assert not any(cell.get("outputs") for cell in notebook.cells)


@pytest.mark.chapters
@pytest.mark.slow
def test_notebook_runs_from_a_clean_kernel(tmp_path):
    pytest.importorskip("nbclient", reason="needs the extra docs")
    assert make_notebooks.main(["ch03", "--execute", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "ch03_attention.ipynb").read_text(encoding="utf-8")
    assert "V1 and V2 differ by" in text
    assert '"output_type": "error"' not in text
