"""LoRA's learned matrices in a file of their own: a hundredth of the model, for the same base.

    save_adapter(model, "polite.safetensors")          after training with apply_lora
    load_adapter(base, "polite.safetensors")           onto the same base model, any time later

Several adapters can share one base: take one off with ``nn.remove_lora(model, keep_change=False)``,
put on the next.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tinygrad_llm.backend import Array, strict_json, to_numpy
from tinygrad_llm.backend.checksums import is_verifying
from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.nn import (
    Linear,
    Module,
    adapter_state_dict,
    apply_lora,
    load_adapter_state_dict,
    remove_lora,
)
from tinygrad_llm.nn.lora import lora_layers
from tinygrad_llm.pretrained import SafetensorsFile, write_safetensors

FORMAT = "tinygrad_llm lora adapter"
_SUM = "sha256"  # the file's own checksum, since an adapter stands alone
_KNOWN = frozenset(("format", "rank", "alpha", "layers", _SUM))


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
    write_safetensors(path, tensors, {**metadata, _SUM: _checksum(metadata, tensors)})
    return Path(path)


def load_adapter(model: Module, path: str | os.PathLike[str], verify: bool = True) -> list[str]:
    """Give a base model the LoRA layers of a file.

    Args:
        model: with the weights that the adapter was trained on.
        path: of the file.
        verify: compare the file's content with its checksum (files of older versions have none).

    Returns:
        the paths of the layers that were changed.

    Raises:
        CheckpointError: no adapter file, a damaged one, or one for a model of another shape.
        ConfigError: the model has LoRA layers already.
    """
    file = SafetensorsFile(Path(path))
    layers, rank, alpha = _description(file)
    _check_fit(file, model, layers, rank)
    tensors = {name: file.read(name) for name in file}
    if verify and is_verifying():
        _compare(file, tensors)
    changed = apply_lora(model, rank, alpha, layers)
    try:
        load_adapter_state_dict(model, tensors)
    except CheckpointError as error:
        remove_lora(model, keep_change=False)
        raise CheckpointError(f"{path}: the adapter is for another model. {error}") from error
    return changed


def _checksum(about: Mapping[str, str], tensors: Mapping[str, Array]) -> str:
    """SHA-256 of the description and of names, types, shapes and values."""
    digest = hashlib.sha256(json.dumps(dict(about), sort_keys=True).encode("utf-8"))
    for name in sorted(tensors):
        array = np.ascontiguousarray(to_numpy(tensors[name]))
        if array.dtype.name == "bfloat16":  # which is read as float32
            array = array.astype(np.float32)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _compare(file: SafetensorsFile, tensors: Mapping[str, np.ndarray]) -> None:
    """Raise a CheckpointError if the content is not what was saved."""
    about = dict(file.metadata)
    stored = about.pop(_SUM, None)
    unknown = sorted(set(about) - _KNOWN)
    if unknown or (stored is not None and stored != _checksum(about, tensors)):
        found = f"unknown entries {unknown}" if unknown else "its checksum (sha256) is another one"
        raise CheckpointError(f"{file.path}: is damaged: {found}. Save or copy it again.")


def _description(file: SafetensorsFile) -> tuple[list[str], int, float]:
    """The layers' paths, rank and alpha."""
    about = file.metadata
    if about.get("format") != FORMAT:
        raise CheckpointError(
            f"{file.path}: is not a LoRA adapter of this project; expected a file that "
            "save_adapter() wrote."
        )
    try:
        layers, rank, alpha = (
            strict_json.loads(about["layers"]),
            int(about["rank"]),
            float(about["alpha"]),
        )
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{file.path}: the adapter's description is damaged ({error})."
        ) from error
    named = isinstance(layers, list) and all(isinstance(name, str) for name in layers)
    if not named or not layers or rank < 1 or not math.isfinite(alpha):
        raise CheckpointError(
            f"{file.path}: the adapter's description is damaged: expected paths of layers, a rank "
            f"of at least 1 and a finite alpha, got {about['layers'][:80]}, {rank} and {alpha}."
        )
    return layers, rank, alpha


def _check_fit(file: SafetensorsFile, model: Module, layers: list[str], rank: int) -> None:
    """Compare the file's names and shapes with what the layers will have, before it is made."""
    modules = dict(model.named_modules())
    expected: dict[str, tuple[int, ...]] = {}
    for path in layers:
        layer = modules.get(path)
        if not isinstance(layer, Linear):
            raise CheckpointError(
                f"{file.path}: the adapter is for another model; there is no layer {path!r} here."
            )
        expected[f"{path}.lora_a"] = (rank, layer.in_features)
        expected[f"{path}.lora_b"] = (layer.out_features, rank)
    got = {name: file.shape(name) for name in file}
    differing = sorted(n for n in expected.keys() | got.keys() if expected.get(n) != got.get(n))
    if differing:
        name = differing[0]
        raise CheckpointError(
            f"{file.path}: the adapter is for another model: {name!r} is "
            f"{got.get(name, 'missing')}, expected {expected.get(name, 'no such array')} "
            f"({len(differing)} such differences)."
        )
