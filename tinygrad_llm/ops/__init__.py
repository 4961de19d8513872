"""The ops: one op, or one close family, per file; formula, forward and backward side by side.

Importing this package enters all of them into the registry.
"""

from tinygrad_llm.ops import arithmetic

__all__ = ["arithmetic"]
