"""The text that ``print(model)`` shows: the tree of modules with shapes and parameter counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinygrad_llm.nn.parameter import Parameter

if TYPE_CHECKING:
    from tinygrad_llm.nn.module import Module


def describe(module: Module) -> str:
    """One line per module: name, type, its own parameters' shapes, and the count below it.

    GPT  124,439,808 parameters
      token_embedding: Embedding  38,597,376  weight (50257, 768)
      blocks: ModuleList  85,054,464
        0: TransformerBlock  7,087,872
    """
    lines: list[str] = []
    _describe(module, "", 0, lines)
    return "\n".join(lines)


def _describe(module: Module, name: str, depth: int, lines: list[str]) -> None:
    count = f"{module.num_parameters():,}" + (" parameters" if depth == 0 else "")
    shapes = [
        f"{key} {value.shape}{'' if value.requires_grad else ' frozen'}"
        for key, value in vars(module).items()
        if isinstance(value, Parameter)
    ]
    shapes += [f"buffer {key} {b.shape}" for key, b in module.named_buffers(recurse=False)]
    label = f"{name}: " if name else ""
    settings = module.extra_repr()
    shown = [*shapes, settings] if settings else shapes
    details = "  " + ", ".join(shown) if shown else ""
    lines.append(f"{'  ' * depth}{label}{type(module).__name__}  {count}{details}")
    for key, child in module.named_children():
        _describe(child, key, depth + 1, lines)
