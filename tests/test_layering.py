"""The arrows of docs/architecture.md: a layer imports only what stands left of it."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "architecture"))

import arrows  # noqa: E402

PACKAGE = ROOT / "tinygrad_llm"
LAYERS = [
    ["control_characters"],
    ["errors", "starting"],
    ["hints", "terminal"],
    ["checks"],
    ["backend", "figure", "gpt_config"],
    ["autograd"],
    ["ops"],
    ["functional", "creation"],
    ["names"],
    ["optim", "pretrained", "tokenizers", "data"],
    ["nn"],
    ["distributed"],
    ["generation"],
    ["training"],
    ["finetuning"],
    ["explain"],
    ["commands"],
    ["__main__", "__init__"],
]
RANK = {name: i for i, names in enumerate(LAYERS) for name in names}
# The rooms of training/, and its files outside of them. What stands on one line knows nothing of
# each other, but for the pieces of the loop, which are one room.
PIECES = ["baselines", "evaluate", "loop_settings", "nan_policy", "progress", "stopping"]
ROOMS = [["settings", "pieces"], ["steps", "report"], ["trainer"], ["run", "lr_finder"]]
FLOOR = {room: i for i, rooms in enumerate(ROOMS) for room in rooms}
# One file may know the kernels, and imports them lazily.
KERNEL_IMPORTERS = {PACKAGE / "backend" / "kernels.py"}
ALLOWED_IN_KERNELS = {"numpy", "cupy", "cupy_backends", "triton", "ml_dtypes", "tinygrad_llm"}


def imports(path):
    """Absolute names of all modules that a file imports, at any depth and in any way."""
    return imports_of(ast.parse(path.read_text(encoding="utf-8")))


def imports_of(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module == "tinygrad_llm":
                yield from (f"tinygrad_llm.{a.name}" for a in node.names)
            else:
                yield node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            if isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def layer_of(path):
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_arrow_points_back(path):
    mine = layer_of(path)
    if mine in ("__init__", "__main__"):
        return
    for name in imports(path):
        if not name.startswith("tinygrad_llm."):
            continue
        theirs = name.split(".")[1]
        if theirs == "kernels":
            assert path in KERNEL_IMPORTERS or mine == "commands", f"{path} imports {name}"
        elif theirs in RANK and theirs != mine:
            assert RANK[theirs] < RANK[mine], f"{path} imports {name}"


@pytest.mark.parametrize(
    "line",
    [
        "import tinygrad_llm.optim",
        "from tinygrad_llm import optim",
        "from tinygrad_llm.optim import SGD",
        "def f():\n    from tinygrad_llm.optim.sgd import SGD",
        "importlib.import_module('tinygrad_llm.optim').SGD",
        "SGD = import_module('tinygrad_llm.optim').SGD",
    ],
)
def test_an_arrow_is_seen_however_it_is_written(line):
    assert any(name.startswith("tinygrad_llm.optim") for name in imports_of(ast.parse(line)))


def room_of(module):
    """``tinygrad_llm.training.steps.eager`` -> ``steps``; None for the package itself."""
    part = (module.split(".") + [None])[2]
    return "pieces" if part in PIECES else part


def rooms_that_look_up(graph):
    """(module, import) of each arrow in training/ to a room of the same or a higher floor."""
    return [
        (module, other)
        for module, others in graph.items()
        for other in others
        if module.startswith("tinygrad_llm.training.") and other.startswith("tinygrad_llm.training")
        if room_of(module) != room_of(other)
        if room_of(other) is None or FLOOR[room_of(other)] >= FLOOR[room_of(module)]
    ]


@pytest.fixture(scope="module")
def graph():
    """Which module imports which, when it is imported or when something is called."""
    return arrows.arrows(ROOT)


def test_the_rooms_of_training_stand_on_floors(graph):
    assert rooms_that_look_up(graph) == []


@pytest.mark.parametrize(
    "arrow",
    [
        ("settings.flags", "run.folder"),
        ("steps.ranks", "report.log"),
        ("report.plot", "steps.eager"),
        ("steps.eager", "trainer"),
        ("run.text", "lr_finder"),
    ],
)
def test_an_arrow_to_a_room_that_a_room_should_not_know_is_seen(graph, arrow):
    module, other = (f"tinygrad_llm.training.{name}" for name in arrow)
    changed = {**graph, module: {*graph[module], other}}
    assert rooms_that_look_up(changed) == [(module, other)]


def test_kernels_stand_alone():
    for path in sorted((ROOT / "kernels").rglob("*.py")):
        for name in imports(path):
            top = name.split(".")[0]
            assert top != "torch", path
            if top == "tinygrad_llm":
                assert name.startswith("tinygrad_llm.kernels"), f"{path} imports {name}"


def test_no_peer_framework_and_no_pickle_in_the_product():
    for path in [*FILES, *(ROOT / "kernels").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]:
        forbidden = {"torch", "tensorflow", "jax", "pickle"}
        assert not forbidden & {n.split(".")[0] for n in imports(path)}, path


def test_the_page_shows_these_layers():
    """docs/architecture.md, "The layers": the same names in the same order."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = page.partition("## The layers")[2].split("\n\n")[2]
    shown = [set(layer.split(", ")) for layer in re.split(r"\s*->\s*", block.strip())]
    above = {"examples", "benchmarks"}
    assert shown[-1] == above
    assert shown[:-1] == [set(layer) - {"__init__"} for layer in LAYERS]
