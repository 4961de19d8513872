"""The limits of the house: what a reader may have to go through, and what the types leave open.

`python tests/architecture/house.py` prints the figures.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import derivations
import house
import reading
from arrows import arrows, circles

ROOT = house.ROOT


def test_the_backward_is_on_the_screen_of_its_derivation():
    far = {op: n for op, n in derivations.distances(ROOT).items() if n > 40}
    assert not far, "lines from the end of the derivation to the code of the gradients"


FRAMES = {"attention": 9, "cross_entropy": 9, "add_layer_norm": 6}  # from the module's call


def test_a_call_is_soon_at_its_formula():
    """Layer norm, linear, embedding and GELU within 7 frames of the call of their module."""
    found = {op: figures["from module"] for op, figures in house.frames(ROOT).items()}
    assert found["layer_norm"] <= 6
    assert {op: n for op, n in found.items() if n > FRAMES.get(op, 7)} == {}


def test_at_most_one_annotation_in_twenty_is_any():
    shares = reading.share_of_any(ROOT)
    assert sum(every for _, every in shares.values()) > 5000
    open_ = {name: pair for name, pair in shares.items() if pair[0] > max(1, 0.05 * pair[1])}
    assert not open_, "package: (annotations with Any, all)"


def test_no_module_imports_itself_by_way_of_others():
    """Imports inside functions and by importlib count; those for types alone do not."""
    assert circles(arrows(ROOT)) == []


def test_lengths():
    assert reading.long_files(ROOT) == []
    assert reading.long_functions(ROOT) == []


def test_nothing_stands_in_two_places():
    assert reading.repeated(ROOT) == []


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, [["a", "b", "c"]]),
    ],
)
def test_circles_are_found(graph, found):
    assert circles(graph) == found


def test_what_is_measured_can_fail(tmp_path):
    """A checkout with one fault of each kind."""
    room = tmp_path / "tinygrad_llm"
    room.mkdir()
    same = "\n".join(f"    value_{i} = first_{i} + second_{i} * third_{i}" for i in range(5))
    (room / "a.py").write_text(
        "from typing import Any\nEdge = Any\n"
        f"def f(x: Edge) -> 'list[Any]':\n    from tinygrad_llm import b\n{same}\n",
        encoding="utf-8",
    )
    (room / "b.py").write_text(
        f"import tinygrad_llm.a\ndef g(x: int) -> int:\n{same}\n" + "    x = 0\n" * 300,
        encoding="utf-8",
    )
    assert reading.share_of_any(tmp_path) == {"a": (2, 2), "b": (0, 2)}
    assert circles(arrows(tmp_path)) == [["tinygrad_llm.a", "tinygrad_llm.b"]]
    assert reading.long_files(tmp_path) == ["tinygrad_llm/b.py 307"]
    assert reading.long_functions(tmp_path) == ["tinygrad_llm/b.py:g 305"]
    assert reading.repeated(tmp_path) == ["tinygrad_llm/a.py:5", "tinygrad_llm/b.py:3"]
