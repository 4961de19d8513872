"""Parameter groups: which parameters share a learning rate and a weight decay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypedDict

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.versions import memory_range
from tinygrad_llm.backend import Array, is_array
from tinygrad_llm.errors import ConfigError, GradientError
from tinygrad_llm.optim.protocols import HasParameters, has_parameters

# A model, its parameters, (name, parameter) pairs, or groups: dicts with "params" and settings.
Parameters = HasParameters | Tensor | Iterable[Tensor | tuple[str, Tensor] | Mapping[str, object]]


Named = list[tuple[str, Tensor]]


class Settings(TypedDict, total=False):
    """What an optimizer reads of a parameter group. A group has those that its optimizer knows."""

    lr: Any  # a number; while a CUDA graph is recorded an array, as the two at the end
    weight_decay: float
    betas: tuple[float, float]
    eps: float
    momentum: float
    nesterov: bool
    step_on_device: Array
    clip_on_device: Array


class Group(Settings):
    """A parameter group: its settings, and whose they are."""

    params: list[Tensor]
    names: list[str]


def decay_groups(parameters: Parameters, weight_decay: float = 0.1) -> list[Mapping[str, object]]:
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
    owner: str, parameters: Parameters, defaults: Mapping[str, object]
) -> tuple[list[Group], Named]:
    """One dict per group with its settings, "params" and "names"; and the frozen ones, left out.

    Raises:
        ConfigError: no parameters, one given twice, two in the same memory, or an unknown setting.
    """
    groups: list[Any] = []
    everything: Named = []
    frozen: Named = []
    seen: set[int] = set()
    for entry in _entries(owner, parameters):
        pairs = _checked_pairs(owner, entry, defaults, seen)
        everything += pairs
        values = {key: entry[key] for key in entry if key not in ("params", "names")}
        trainable = [(name, p) for name, p in pairs if p.requires_grad]
        names, params = [n for n, _ in trainable], [p for _, p in trainable]
        frozen += [(name, p) for name, p in pairs if not p.requires_grad]
        groups.append({**defaults, **values, "params": params, "names": names})
    if not any(group["params"] for group in groups):
        raise ConfigError(
            f"{owner}: there is nothing to optimize: no parameters, or all of them frozen."
        )
    _refuse_equal_names(owner, groups)
    refuse_shared_memory(owner, everything)
    return groups, frozen


def named(owner: str, parameters: object, first: int) -> Iterator[tuple[str, Tensor]]:
    """(name, parameter) pairs; parameters without names are numbered from ``first``."""
    if has_parameters(parameters):
        parameters = parameters.named_parameters()
    elif isinstance(parameters, Tensor):
        parameters = [parameters]
    for number, entry in enumerate(_listed(owner, parameters), first):
        name, parameter = entry if isinstance(entry, tuple) else (str(number), entry)
        if not isinstance(parameter, Tensor) or not parameter.is_leaf:
            raise ConfigError(
                f"{owner}: expected parameters (leaf Tensors), got {type(parameter).__name__} "
                f"as {name!r}. Pass a model, model.parameters() or model.named_parameters()."
            )
        yield name, parameter


def gradient_of(name: str, parameter: Tensor) -> Array | None:
    """The gradient of a parameter as an array; anybody may have assigned it.

    Raises:
        GradientError: it is no array or tensor, or not of the parameter's shape.
    """
    grad = parameter.grad.data if isinstance(parameter.grad, Tensor) else parameter.grad
    if grad is not None and (not is_array(grad) or grad.shape != parameter.shape):
        got = f"shape {grad.shape}" if is_array(grad) else f"a {type(grad).__name__}"
        raise GradientError(
            f"optimizer: the gradient of parameter {name!r} must be an array of its shape "
            f"{parameter.shape}, got {got}. Assign such an array to .grad, or None for no gradient."
        )
    return grad


def _entries(owner: str, parameters: Parameters) -> Iterable[Mapping[str, Any]]:
    """The groups as given, or one group of all."""
    if has_parameters(parameters) or isinstance(parameters, Tensor):
        return [{"params": parameters}]
    entries = _listed(owner, parameters)
    if entries and isinstance(entries[0], Mapping):
        return entries
    return [{"params": entries}]


def _listed(owner: str, parameters: object) -> list[Any]:
    if not isinstance(parameters, Iterable):
        raise ConfigError(
            f"{owner}: expected a model, its parameters or groups of them, got "
            f"{type(parameters).__name__}."
        )
    return list(parameters)


def _checked_pairs(
    owner: str, entry: Mapping[str, Any], defaults: Mapping[str, object], seen: set[int]
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


def _refuse_equal_names(owner: str, groups: list[Any]) -> None:
    names = [name for group in groups for name in group["names"]]
    counts = Counter(names)
    twice = sorted({name for name in names if counts[name] > 1})
    if twice:
        raise ConfigError(f"{owner}: two parameters are called {twice[0]!r}; names must differ.")


def refuse_shared_memory(owner: str, pairs: Iterable[tuple[str, Tensor]]) -> None:
    """Raise a ConfigError if two parameters lie in the same memory, as after ``b.data = a.data``.

    A flat array has a place for each, so they would come apart.
    """
    spans = [(p.device, *memory_range(p.data), name, p.data) for name, p in pairs if p.size]
    furthest: tuple[str, int, int, str, Array] = ("", 0, 0, "", np.empty(0))
    for span in sorted(spans, key=lambda s: s[:3]):
        device, start, end, name, data = span
        if device == furthest[0] and start < furthest[2] and _overlap(data, furthest[4]):
            raise ConfigError(
                f"{owner}: parameters {furthest[3]!r} and {name!r} share memory, and would come "
                "apart: each gets a place of its own in a flat array. To tie them make them one "
                "Parameter, as in head.weight = embedding.weight; otherwise copy one of them."
            )
        if device != furthest[0] or end > furthest[2]:
            furthest = span


def _overlap(a: Array, b: Array) -> bool:
    return not isinstance(a, np.ndarray) or np.shares_memory(a, b)
