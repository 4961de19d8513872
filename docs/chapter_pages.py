"""Pages of the chapters: text, code, what the code printed and drew, exercises with solutions."""

from __future__ import annotations

import logging
import re
import tempfile
from pathlib import Path
from textwrap import indent
from typing import Any

import outputs
from make_notebooks import execute, notebook_of
from run_all import solutions_of

LOG = logging.getLogger("mkdocs.hooks.chapters")
TOP = (
    "Run it: `python examples/chapters/{name}.py`, or as a [notebook]({name}.ipynb). "
    "The exercises at the end have solutions.\n\n"
)
EXERCISE = re.compile(r"^#{2,3} (?=\d\. )", re.MULTILINE)
Output = dict[str, Any]


def outputs_of(script: Path, notebook: Any) -> list[list[Output]]:
    """For each cell its outputs: those that are kept, or of a run if the code is another."""
    kept = outputs.recorded(script)
    if kept is None:
        LOG.info("Running %s: no outputs of this code are kept.", script.name)
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, Path(folder))
        outputs.record(script, notebook)
        kept = outputs.recorded(script) or []
    return kept + [[]] * (len(notebook.cells) - len(kept))


def shown(output: Output) -> str:
    """Markdown of an output."""
    if "picture" in output:
        return f"![{output['alt']}]({output['picture']}){{ .figure }}"
    return "\n".join(['``` { .text .output title="Output" }', *output["text"], "```"])


def joined(made: list[Output]) -> list[Output]:
    """Texts that follow each other as one: a cell that trains prints them one by one."""
    found: list[Output] = []
    for output in made:
        if found and "text" in output and "text" in found[-1]:
            found[-1] = {"text": [*found[-1]["text"], *output["text"]]}
        else:
            found.append(output)
    return found


def cells_of(script: Path) -> list[str]:
    """Markdown of each cell, with its outputs."""
    notebook = notebook_of(script)
    cells = []
    for cell, made in zip(notebook.cells, outputs_of(script, notebook), strict=True):
        text = cell.source
        if cell.cell_type == "code":
            text = f"```python\n{text}\n```"
        cells.append("\n\n".join([text, *map(shown, joined(made))]))
    return [cell for cell in cells if cell.strip()]


def folded_solutions(script: Path) -> list[str]:
    """One folded box for each exercise."""
    text = "\n\n".join(cells_of(solutions_of(script)))
    parts = EXERCISE.split(text)[1:]  # the first is the title
    return [
        '??? success "Solution"\n\n' + indent(part.partition("\n")[2].strip("\n"), " " * 4)
        for part in parts
    ]


def page_of(script: Path) -> str:
    """The chapter as Markdown; each exercise has its solution folded below it."""
    heading, rest = "\n\n".join(cells_of(script)).split("\n", 1)
    before, *exercises = EXERCISE.split(rest)
    boxes = folded_solutions(script)
    for exercise, box in zip(exercises, boxes, strict=True):
        before += f"### {exercise.strip()}\n\n{box}\n\n"
    return f"{heading}\n\n{TOP.format(name=script.stem)}{before}"


def pictures_of(script: Path) -> list[Path]:
    """The figures of a chapter and of its solutions."""
    return [
        picture
        for kept in map(outputs.kept_at, (script, solutions_of(script)))
        for picture in sorted(kept.parent.glob(f"{kept.stem}-*.png"))
    ]
