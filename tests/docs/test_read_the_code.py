"""The way through the code: its files are there and as long as the page says."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "architecture"))
from definitions import Place, definition  # noqa: E402

TEXT = (ROOT / "docs" / "read_the_code.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d) \| `([\w/.]+)` \| ([\d,]+) \|", TEXT, re.M)


def lines(name):
    return len((ROOT / "tinygrad_llm" / name).read_text(encoding="utf-8").splitlines())


def test_files_are_as_long_as_the_page_says():
    """Rounded to tens, and not to be written anew for every line that comes or goes."""
    said = {name: int(count) for _, name, count in ROWS}
    assert len(said) == 9
    wrong = {
        name: lines(name)
        for name, count in said.items()
        if abs(lines(name) - count) > max(15, count / 8)
    }
    assert not wrong, "write the new lengths into docs/read_the_code.md"


def test_the_sum_is_that_of_the_files():
    total = int(re.search(r"about ([\d,]+) lines", TEXT)[1].replace(",", ""))
    assert abs(sum(lines(name) for _, name, _ in ROWS) - total) <= 100


def test_every_file_of_the_table_has_its_section_and_its_question():
    sections = re.findall(r"^## (\d)\. `([\w/.]+)`\n(.*?)(?=^## )", TEXT, re.M | re.S)
    assert [(number, name) for number, name, _ in sections] == [row[:2] for row in ROWS]
    for _, name, section in sections:
        assert "*Ask yourself:*" in section, name
        assert "*Answer:*" in section, name


def test_the_walks_lead_where_the_page_says():
    """From name to name by what an editor does: imports, and the names in each place."""
    walks = re.findall(r"^\| [^|]+ \| `(nn/\w+\.py)` \| (`.+`) \| `(ops/\w+\.py)` \|$", TEXT, re.M)
    assert len(walks) >= 8
    for start, names, end in walks:
        place = Place(ROOT / "tinygrad_llm" / start)
        for name in re.findall(r"`([\w.]+)`", names):
            place = definition(ROOT, place, name)
        assert place.path == ROOT / "tinygrad_llm" / end
        assert ast.get_docstring(place.node)
        assert {"forward", "backward"} <= {getattr(node, "name", "") for node in place.node.body}
