"""Parameter groups: which parameters share a learning rate and a weight decay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.nn import Module

Parameters = Any  # Module, parameters, (name, parameter) pairs, or dicts with "params"


def decay_groups(parameters: Any, weight_decay: float = 0.1) -> list[dict[str, Any]]:
    """Two groups for an optimizer: matrices, which decay, and the rest, which does not.

    Weights of linear layers and embeddings have two axes. Biases and the norms' weights have one;
    pulling them to zero only takes away what the layer needs. This is how GPT-3 and nanoGPT group.

        AdamW(decay_groups(model, weight_decay=0.1), lr=6e-4)

    Args:
        parameters: a Module, (name, parameter) pairs, or parameters.
        weight_decay: of the first group.
    """
    pairs = list(named("decay_groups", parameters, 0))
    matrices = [(n, p) for n, p in pairs if p.ndim >= 2]
    vectors = [(n, p) for n, p in pairs if p.ndim < 2]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def make_groups(
    owner: str, parameters: Parameters, defaults: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """One dict per group: its settings, "params" and "names"; frozen parameters are left out.

    Raises:
        ConfigError: no parameters, one given twice, an unknown setting, or no parameter at all.
    """
    groups = []
    seen: set[int] = set()
    for entry in _entries(parameters):
        pairs = _checked_pairs(owner, entry, defaults, seen)
        values = {key: entry[key] for key in entry if key not in ("params", "names")}
        trainable = [(name, p) for name, p in pairs if p.requires_grad]
        names, params = [n for n, _ in trainable], [p for _, p in trainable]
        groups.append({**defaults, **values, "params": params, "names": names})
    if not any(group["params"] for group in groups):
        raise ConfigError(
            f"{owner}: there is nothing to optimize: no parameters, or all of them frozen."
        )
    _refuse_equal_names(owner, groups)
    return groups


def named(owner: str, parameters: Any, first: int) -> Iterator[tuple[str, Tensor]]:
    """(name, parameter) pairs; parameters without names are numbered from ``first``."""
    if isinstance(parameters, Module):
        parameters = parameters.named_parameters()
    elif isinstance(parameters, Tensor):
        parameters = [parameters]
    for number, entry in enumerate(parameters, first):
        name, parameter = entry if isinstance(entry, tuple) else (str(number), entry)
        if not isinstance(parameter, Tensor) or not parameter.is_leaf:
            raise ConfigError(
                f"{owner}: expected parameters (leaf Tensors), got {type(parameter).__name__} "
                f"as {name!r}. Pass a model, model.parameters() or model.named_parameters()."
            )
        yield name, parameter


def _entries(parameters: Parameters) -> Iterable[Mapping[str, Any]]:
    """The groups as given, or one group of all."""
    if isinstance(parameters, (Module, Tensor)):
        return [{"params": parameters}]
    entries = list(parameters)
    if entries and isinstance(entries[0], Mapping):
        return entries
    return [{"params": entries}]


def _checked_pairs(
    owner: str, entry: Mapping[str, Any], defaults: Mapping[str, Any], seen: set[int]
) -> list[tuple[str, Tensor]]:
    """The group's (name, parameter) pairs; enters them into ``seen``."""
    if "params" not in entry or set(entry) - set(defaults) - {"params", "names"}:
        raise ConfigError(
            f"{owner}: a parameter group needs 'params' and may have {', '.join(defaults)}; "
            f"got {', '.join(map(str, entry))}."
        )
    pairs = list(named(owner, entry["params"], len(seen)))
    if "names" in entry:
        pairs = [(n, p) for n, (_, p) in zip(entry["names"], pairs, strict=True)]
    for name, parameter in pairs:
        if id(parameter) in seen:
            raise ConfigError(f"{owner}: parameter {name!r} is given twice.")
        seen.add(id(parameter))
    return pairs


def _refuse_equal_names(owner: str, groups: list[dict[str, Any]]) -> None:
    names = [name for group in groups for name in group["names"]]
    counts = Counter(names)
    twice = sorted({name for name in names if counts[name] > 1})
    if twice:
        raise ConfigError(f"{owner}: two parameters are called {twice[0]!r}; names must differ.")
