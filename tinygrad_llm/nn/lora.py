"""LoRA: fine-tuning by a low-rank change to frozen weights.

    y = x W^T + b + (alpha / r) dropout(x) A^T B^T          A (r, in), B (out, r)

W and b stay as they are; only A and B are learned, r (in + out) numbers in place of in * out. B
starts at zero, so the model starts as it was. When training is over the product is added to W,
and the layer is again an ordinary one, with no extra cost.

Source: Hu et al., "LoRA: Low-rank adaptation of large language models", 2021, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.versions import note_write
from tinygrad_llm.backend import Array, to_device
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.checks import check_size
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.nn import init
from tinygrad_llm.nn.dropout import Dropout
from tinygrad_llm.nn.linear import Linear
from tinygrad_llm.nn.module import Module
from tinygrad_llm.nn.parameter import Parameter
from tinygrad_llm.nn.state import load_arrays

DEFAULT_TARGETS = ("attention.qkv", "attention.projection")


class LoRALinear(Linear):
    """A Linear layer with a low-rank change beside it.

    It takes over the parameters ``weight`` and ``bias`` of the layer it replaces, frozen, under
    their old names, and adds ``lora_a`` (r, in) and ``lora_b`` (out, r).

    Args:
        linear: the layer to replace.
        rank: r.
        alpha: the change is scaled by alpha / r.
        dropout: on the input of the change, in training.
        generator: source of the initial values of A.

    Raises:
        ConfigError: rank is not a positive integer, or ``linear`` is not a plain Linear.
    """

    def __init__(
        self,
        linear: Linear,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        generator: Generator | None = None,
    ) -> None:
        if type(linear) is not Linear:
            raise ConfigError(f"LoRALinear: expected a Linear, got {type(linear).__name__}.")
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.rank = check_size("LoRALinear", "rank", rank)
        self.alpha = float(alpha)
        self.weight, self.bias = linear.weight, linear.bias
        like = linear.weight
        a = init.uniform((rank, self.in_features), 1 / math.sqrt(self.in_features), generator)
        b = init.full((self.out_features, rank), 0.0)
        self.lora_a = Parameter(to_device(a.astype(like.dtype, copy=False), like.device))
        self.lora_b = Parameter(to_device(b.astype(like.dtype, copy=False), like.device))
        self.dropout = Dropout(dropout)
        self._weight_alone: Array | None = None  # W without the change, while merged

    @property
    def merged(self) -> bool:
        """Whether the change is part of ``weight`` at the moment."""
        return self._weight_alone is not None

    def forward(self, x: TensorLike) -> Tensor:
        """x (..., in) -> (..., out)."""
        y = F.linear(x, self.weight, self.bias)
        if self.merged:
            return y
        low = F.linear(self.dropout(x), self.lora_a) * (self.alpha / self.rank)  # (..., r)
        return y + F.linear(low, self.lora_b)

    def merge(self) -> None:
        """Add the change to ``weight``. The old values are kept, so `unmerge` is exact."""
        if self.merged:
            return
        weight = self.weight.data
        self._weight_alone = weight.copy()
        weight += (self.lora_b.data @ self.lora_a.data) * (self.alpha / self.rank)
        note_write(weight)

    def unmerge(self) -> None:
        """Undo `merge`."""
        if self._weight_alone is None:
            return
        self.weight.data[...] = to_device(self._weight_alone, self.weight.device)
        self._weight_alone = None
        note_write(self.weight.data)

    def to_linear(self) -> Linear:
        """A plain layer with the same parameters ``weight`` and ``bias``."""
        with init.no_init():
            linear = Linear(self.in_features, self.out_features, bias=self.bias is not None)
        linear.weight, linear.bias = self.weight, self.bias
        linear.training = self.training
        return linear


def apply_lora(
    model: Module,
    rank: int = 8,
    alpha: float = 16.0,
    targets: Sequence[str] = DEFAULT_TARGETS,
    dropout: float = 0.0,
    generator: Generator | None = None,
) -> list[str]:
    """Freeze the model and give its target layers a trainable low-rank change.

    Args:
        model: changed in place. Unfreeze a new head afterwards with ``requires_grad_()``.
        rank, alpha, dropout, generator: as in `LoRALinear`.
        targets: which Linear layers, by the ends of their paths: "attention.qkv" means
            "blocks.0.attention.qkv", "blocks.1.attention.qkv", ...

    Returns:
        the paths of the layers that were replaced.

    Raises:
        ConfigError: a target fits no Linear layer, or the model has LoRA layers already.
    """
    if any(True for _ in lora_layers(model)):
        raise ConfigError("apply_lora: the model has LoRA layers already; call remove_lora first.")
    linears = {path: m for path, m in model.named_modules() if type(m) is Linear}
    chosen = [path for path in linears if any(_ends_with(path, t) for t in targets)]
    for target in targets:
        if not any(_ends_with(path, target) for path in linears):
            kinds = sorted({path.split(".", 2)[-1] for path in linears})
            raise ConfigError(
                f"apply_lora: no Linear layer's path ends in {target!r}. "
                f"Possible targets: {', '.join(kinds)}."
            )
    model.requires_grad_(False)
    for path in chosen:
        changed = LoRALinear(linears[path], rank, alpha, dropout, generator)
        model.set_submodule(path, changed)
    return chosen


def lora_layers(model: Module) -> Iterator[tuple[str, LoRALinear]]:
    """All LoRA layers with their paths."""
    for path, module in model.named_modules():
        if isinstance(module, LoRALinear):
            yield path, module


def merge_lora(model: Module) -> None:
    """Add every layer's change to its weight; `unmerge_lora` undoes it exactly."""
    for _, layer in lora_layers(model):
        layer.merge()


def unmerge_lora(model: Module) -> None:
    """Take every layer's change out of its weight again."""
    for _, layer in lora_layers(model):
        layer.unmerge()


def remove_lora(model: Module, keep_change: bool = True) -> None:
    """Turn the LoRA layers back into plain ones, with or without what they have learned.

    All parameters stay frozen; ``model.requires_grad_()`` unfreezes them.
    """
    for path, layer in list(lora_layers(model)):
        layer.merge() if keep_change else layer.unmerge()
        model.set_submodule(path, layer.to_linear())


def adapter_state_dict(model: Module) -> dict[str, Tensor]:
    """The learned matrices alone, by name: a few thousandths of the model.

    Raises:
        ConfigError: the model has no LoRA layers.
    """
    return {name: p.detach() for name, p in _adapter_parameters(model).items()}


def load_adapter_state_dict(model: Module, state_dict: Mapping[str, TensorLike]) -> None:
    """Load what `adapter_state_dict` returned, into a model after the same `apply_lora`.

    Raises:
        ConfigError: the model has no LoRA layers, or they are merged.
        CheckpointError: names or shapes do not fit; nothing is loaded then.
    """
    parameters = _adapter_parameters(model)
    if any(layer.merged for _, layer in lora_layers(model)):
        raise ConfigError("load_adapter_state_dict: call unmerge_lora(model) first.")
    load_arrays("LoRA", parameters, state_dict, strict=True, assign=False)


def freeze(model: Module, except_for: Iterable[str] = ()) -> list[str]:
    """Freeze all parameters but those whose names begin with one of the given paths.

    ``freeze(model, except_for=["blocks.11", "final_norm", "head"])`` trains the last block, the
    last norm and the head.

    Returns:
        the names of the parameters that stay trainable.

    Raises:
        ConfigError: a path fits no parameter.
    """
    paths = tuple(except_for)
    names = [name for name, _ in model.named_parameters()]
    for path in paths:
        if not any(_begins_with(name, path) for name in names):
            raise ConfigError(f"freeze: no parameter's name begins with {path!r}.")
    trainable = []
    for name, parameter in model.named_parameters():
        keep = any(_begins_with(name, path) for path in paths)
        parameter.requires_grad_(keep)
        if keep:
            trainable.append(name)
    return trainable


def _adapter_parameters(model: Module) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for path, layer in lora_layers(model):
        prefix = f"{path}." if path else ""
        found[f"{prefix}lora_a"], found[f"{prefix}lora_b"] = layer.lora_a, layer.lora_b
    if not found:
        raise ConfigError("LoRA: the model has no LoRA layers; call apply_lora(model) first.")
    return found


def _ends_with(path: str, target: str) -> bool:
    return path == target or path.endswith(f".{target}")


def _begins_with(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.")
