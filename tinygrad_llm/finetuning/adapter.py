"""LoRA's learned matrices in a file of their own: a hundredth of the model, for the same base.

    save_adapter(model, "polite.safetensors")          after training with apply_lora
    load_adapter(base, "polite.safetensors")           onto the same base model, any time later

Several adapters can share one base: take one off with ``nn.remove_lora(model, keep_change=False)``,
put on the next.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.nn import (
    Module,
    adapter_state_dict,
    apply_lora,
    load_adapter_state_dict,
    remove_lora,
)
from tinygrad_llm.nn.lora import lora_layers
from tinygrad_llm.pretrained import SafetensorsFile, write_safetensors

FORMAT = "tinygrad_llm lora adapter"


def save_adapter(model: Module, path: str | os.PathLike[str]) -> Path:
    """Write the low-rank matrices of all LoRA layers, with rank, alpha and the layers' names.

    Raises:
        ConfigError: the model has no LoRA layers, or layers of different rank or alpha.
        CheckpointError: the file cannot be written.
    """
    tensors = {name: t.data for name, t in adapter_state_dict(model).items()}
    layers = dict(lora_layers(model))
    kinds = {(layer.rank, layer.alpha) for layer in layers.values()}
    if len(kinds) > 1:
        raise ConfigError(f"save_adapter: layers differ in (rank, alpha): {sorted(kinds)}.")
    rank, alpha = kinds.pop()
    metadata = {
        "format": FORMAT,
        "rank": str(rank),
        "alpha": str(alpha),
        "layers": json.dumps(list(layers)),
    }
    write_safetensors(path, tensors, metadata)
    return Path(path)


def load_adapter(model: Module, path: str | os.PathLike[str]) -> list[str]:
    """Give a base model the LoRA layers of a file.

    Returns:
        the paths of the layers that were changed.

    Raises:
        CheckpointError: no adapter file, a damaged one, or one for a model of another shape.
        ConfigError: the model has LoRA layers already.
    """
    file = SafetensorsFile(Path(path))
    about = file.metadata
    if about.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: is not a LoRA adapter of this project; expected a file that "
            "save_adapter() wrote."
        )
    try:
        layers, rank, alpha = json.loads(about["layers"]), int(about["rank"]), float(about["alpha"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: the adapter's description is damaged ({error}).") from error
    known = {name for name, _ in model.named_modules()}
    missing = [name for name in layers if name not in known]
    if missing:
        raise CheckpointError(
            f"{path}: the adapter is for another model; there is no layer {missing[0]!r} here."
        )
    tensors = {name: file.read(name) for name in file}
    changed = apply_lora(model, rank, alpha, layers)
    try:
        load_adapter_state_dict(model, tensors)
    except CheckpointError as error:
        remove_lora(model, keep_change=False)
        raise CheckpointError(f"{path}: the adapter is for another model. {error}") from error
    return changed
