"""The Python on the pages of docs/ that explain derivatives runs, and what it asserts is true."""

import re
from pathlib import Path

import pytest

from tinygrad_llm.autograd.registry import OPS, REGISTRY

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [*sorted((DOCS / "derivations").glob("*.md")), DOCS / "write_your_own_op.md"]


def code_of(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture
def registry():
    """The registry as it was, whatever a page enters into it."""
    entries, calls = dict(REGISTRY), dict(OPS)
    yield
    for current, before in ((REGISTRY, entries), (OPS, calls)):
        for name in set(current) - set(before):
            del current[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_the_page_runs(page, registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = code_of(page)
    assert blocks or page.stem == "index"
    namespace = {"__name__": page.stem}
    for block in blocks:
        # Padded, so that a traceback shows the line in the page.
        line = page.read_text(encoding="utf-8").partition(block)[0].count("\n")
        exec(compile("\n" * line + block, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).is_file(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_that_a_page_names_is_in_the_file_it_names(page):
    """ "Code: `softmax_forward` and `softmax_backward` in `ops/softmax.py`." """
    text = page.read_text(encoding="utf-8")
    for names, file in re.findall(r"Code: ([^.]+?) in\s+`([\w/]+\.py)`", text):
        source = (DOCS.parent / "tinygrad_llm" / file).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(?:def|class) {name}\b", source, re.M), f"{file}: {name}"


def test_index_lists_every_page():
    listed = set(re.findall(r"\((\w+)\.md\)", (DOCS / "derivations/index.md").read_text("utf-8")))
    assert listed == {page.stem for page in (DOCS / "derivations").glob("*.md")} - {"index"}


def test_explain_points_to_the_page():
    import tinygrad_llm as tg

    assert "docs/derivations/layer_norm.md" in str(tg.explain("layer_norm"))
