"""The ops: one op, or one close family, per file; formula, forward and backward side by side.

Importing this package enters all of them into the registry.
"""

from tinygrad_llm.ops import (
    arithmetic,
    compare,
    convert,
    elementwise,
    matmul,
    reduce,
    select,
    shape,
)

__all__ = [
    "arithmetic",
    "compare",
    "convert",
    "elementwise",
    "matmul",
    "reduce",
    "select",
    "shape",
]
