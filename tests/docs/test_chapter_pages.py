"""The chapters' pages: rendered as mkdocs.yml says, no Markdown is left over, solutions fold."""

import html
import re
import sys
from pathlib import Path

import pytest

for package in ("markdown", "mkdocs", "pymdownx", "jupytext", "yaml"):
    pytest.importorskip(package, reason="needs the extra docs")
ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "examples" / "chapters")]
import markdown  # noqa: E402
import yaml  # noqa: E402
from chapter_pages import joined, page_of  # noqa: E402
from formulas import Formulas  # noqa: E402
from outputs import recorded  # noqa: E402
from run_all import chapter_files, solutions_of  # noqa: E402

LEFT_OVER = re.compile(r"\?\?\?|```|`\w|\{ ?[.:#]|!!!|\]\(|\*\*\w")


def rendered(text):
    """HTML of a page, by the extensions of the site."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named, options = [], {}
    for entry in settings["markdown_extensions"]:
        name, given = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
        named.append(name)
        options[name] = given
    return markdown.markdown(text, extensions=[*named, Formulas()], extension_configs=options)


def words(page):
    """What stands on a page beside code and formulas."""
    text = re.sub(r"<(pre|code|math)\b.*?</\1>", "", page, flags=re.S)
    return html.unescape(re.sub(r"<[^>]+>", "", text))


@pytest.mark.parametrize("script", chapter_files(), ids=lambda script: script.stem)
def test_exercises_have_folded_solutions(script):
    if recorded(script) is None or recorded(solutions_of(script)) is None:
        pytest.fail(f"python examples/chapters/make_notebooks.py --record {script.stem}")
    page = rendered(page_of(script))
    boxes = re.findall(r'<details class="success">(.*?)</details>', page, re.S)
    assert len(boxes) == 3
    for box in boxes:
        assert "<pre" in box, "a solution has code"
        assert "-&gt; " in box, "and prints what came out"
    assert not LEFT_OVER.search(words(page))


def test_what_a_cell_prints_step_by_step_is_one_box():
    a, b, picture = {"text": ["a"]}, {"text": ["b", "c"]}, {"picture": "p.png", "alt": "p"}
    assert joined([a, b, picture, b]) == [{"text": ["a", "b", "c"]}, picture, b]
    assert a == {"text": ["a"]}
