"""Whether two models are built of the same parts: the same class at every path."""

from __future__ import annotations

from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.nn.module import Module

_SHOWN = 6  # parts listed; the rest is counted
# What may differ: how a model is used, and what it is called.
_STATE = frozenset({"training", "p", "checkpoint_blocks"})


def part_names(model: Module) -> dict[str, str]:
    """Path -> name of the class, of every module below the model."""
    return {path: type(part).__name__ for path, part in model.named_modules() if path}


def differing_parts(model: Module, plain: Module) -> list[str]:
    """Where a model differs from another one of its configuration, in sentences without a verb.

    Classes are compared, and of the layers of this package the settings (eps, causal, n_head). Of
    a part that differs, what is below is not listed.

    Returns:
        such as "blocks.0.norm1 (RMSNorm, not LayerNorm)".
    """
    have = {path: part for path, part in model.named_modules() if path}
    want = {path: part for path, part in plain.named_modules() if path}
    found: dict[str, str] = {}
    for path in [*want, *(path for path in have if path not in want)]:
        if any(path.startswith(f"{above}.") for above in found):
            continue
        mine, other = have.get(path), want.get(path)
        if mine is None or other is None or type(mine) is not type(other):
            found[path] = f"{path} ({_kind(mine)}, not {_kind(other)})"
        elif changed := _settings(mine).items() ^ _settings(other).items():
            name = sorted(name for name, _ in changed)[0]
            new, old = (vars(part).get(name) for part in (mine, other))
            found[path] = f"{path} ({name}={new}, not {old})"
    return list(found.values())


def check_plain(model: Module, plain: Module) -> None:
    """Make sure that GPT-2's files, which hold numbers alone, can hold a model.

    Args:
        model: a GPT, or of a subclass.
        plain: a GPT of the same configuration.

    Raises:
        CheckpointError: it has parts of one's own, or computes in another way.
    """
    mine, theirs = type(model), type(plain)
    methods = ("forward", "hidden", "logits")
    own = [f"{mine.__name__}.{m}" for m in methods if getattr(mine, m) is not getattr(theirs, m)]
    found = [*own, *differing_parts(model, plain)]
    if found:
        raise CheckpointError(
            "GPT-2's files hold the numbers of a plain GPT, and this model is none: "
            f"{listed(found)}. Save it with tg.nn.save_model(model, folder), of a class with "
            "@tg.nn.register_model: docs/own_parts.md. Fold LoRA layers in (nn.remove_lora) and "
            "take off added heads first."
        )


def listed(parts: list[str]) -> str:
    """The first few, and how many more there are."""
    more = f", and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return ", ".join(parts[:_SHOWN]) + more


def _kind(part: Module | None) -> str:
    return "none" if part is None else type(part).__name__


def _settings(part: Module) -> dict[str, object]:
    if not type(part).__module__.startswith("tinygrad_llm."):
        return {}  # one's own: a number may be a counter
    return {
        name: value
        for name, value in vars(part).items()
        if isinstance(value, (bool, int, float)) and name not in _STATE and name[0] != "_"
    }
