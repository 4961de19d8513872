"""How far the code of a fused op stands from the mathematics that it computes.

The mathematics is a docstring with the rule for the gradients: that of the op's class, or of the
function that computes this part. Measured are the lines from its end to the ``backward`` of the
class, and to each function of the file in which the gradients are computed.
"""

from __future__ import annotations

import ast
from pathlib import Path

from reading import tree

# file of ops/ -> functions that hold the formula of its gradients
FUSED = {
    "attention": {"attention_backward"},
    "attention_qkv": set(),
    "cross_entropy": {"cross_entropy_rows"},
    "dropout": set(),
    "embedding": {"embedding_backward"},
    "feed_forward": set(),
    "gelu": {"gelu_tanh_forward", "gelu_erf_forward"},
    "layer_norm": {"layer_norm_backward"},
    "linear": {"linear_backward"},
    "linear_cross_entropy": {"linear_cross_entropy_forward"},
    "silu": set(),
    "softmax": {"softmax_backward"},
}
FORMULA_LINES = 3  # with an equals sign: a docstring that derives, not one that only tells


def distances(root: Path) -> dict[str, int]:
    """Op -> the longest of its distances, in lines."""
    found = {}
    for op, functions in FUSED.items():
        body = tree(root / "tinygrad_llm" / "ops" / f"{op}.py").body
        owner = next(n for n in body if isinstance(n, ast.ClassDef) and _is_op(n))
        places = [n for n in owner.body if getattr(n, "name", "") == "backward"]
        places += [n for n in body if getattr(n, "name", "") in functions]
        found[op] = max(_distance(owner, place) for place in places)
    return found


def _is_op(node: ast.ClassDef) -> bool:
    return any("register(" in ast.unparse(decorator) for decorator in node.decorator_list)


def _distance(owner: ast.AST, place: ast.AST) -> int:
    if _derives(place):
        return 0
    return abs(place.lineno - _docstring(owner).end_lineno)  # type: ignore[attr-defined]


def _docstring(node: ast.AST) -> ast.expr:
    return node.body[0].value  # type: ignore[attr-defined]


def _derives(node: ast.AST) -> bool:
    text = ast.get_docstring(node) or ""  # type: ignore[arg-type]
    return sum("=" in line for line in text.splitlines()) >= FORMULA_LINES
