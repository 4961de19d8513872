"""Where the weights in a folder stand: one file, several, or OpenAI's checkpoint.

A source hands out arrays by GPT-2's full name (``transformer.h.0.ln_1.weight``), whether or not
the file writes the prefix, and says their shapes without reading them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.pretrained.config_file import CONFIG_NAME, OWN_NAME, read_json
from tinygrad_llm.pretrained.gpt2_layout import with_prefix
from tinygrad_llm.pretrained.safetensors_file import SafetensorsFile

WEIGHTS_NAME, INDEX_NAME = "model.safetensors", "model.safetensors.index.json"
MODEL_FILES = (CONFIG_NAME, OWN_NAME, WEIGHTS_NAME)  # those that this package writes


class WeightSource(Protocol):
    """Named arrays that can be looked at without being read."""

    def __iter__(self) -> Iterator[str]:
        """The names."""

    def __contains__(self, name: object) -> bool:
        """Whether there is an array of this name."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array."""

    def read(self, name: str) -> np.ndarray:
        """The array, as a read-only view where possible."""

    def release(self, name: str) -> None:
        """Give back the memory behind a view that is no longer needed."""


class SafetensorsFiles:
    """One or several safetensors files as one source.

    Args:
        location: names in the files -> the opened file that holds them.

    Raises:
        CheckpointError: a tensor is there twice, with the prefix and without it.
    """

    def __init__(self, location: dict[str, SafetensorsFile]) -> None:
        self._location: dict[str, tuple[SafetensorsFile, str]] = {}
        for name, file in location.items():
            known = self._location.setdefault(with_prefix(name), (file, name))
            if known != (file, name):
                raise CheckpointError(
                    f"{file.path}: holds {known[1]!r} and {name!r}, which are names of one tensor. "
                    "Take one of them out; it is not known which belongs to the model."
                )

    def __iter__(self) -> Iterator[str]:
        return iter(self._location)

    def __contains__(self, name: object) -> bool:
        return name in self._location

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array."""
        file, inner = self._location[name]
        return file.shape(inner)

    def read(self, name: str) -> np.ndarray:
        """The array, a view of the file."""
        file, inner = self._location[name]
        return file.read(inner)

    def release(self, name: str) -> None:
        """Give back the memory behind a view that is no longer needed."""
        file, inner = self._location[name]
        file.release(inner)


def open_source(folder: Path) -> WeightSource:
    """The weights in a folder: safetensors, sharded safetensors, or a TensorFlow checkpoint.

    Raises:
        CheckpointError: there are none, or they are damaged or incomplete.
    """
    if (folder / WEIGHTS_NAME).is_file():
        file = SafetensorsFile(folder / WEIGHTS_NAME)
        return SafetensorsFiles(dict.fromkeys(file, file))
    if (folder / INDEX_NAME).is_file():
        return _open_shards(folder / INDEX_NAME)
    indexes = sorted(folder.glob("*.ckpt.index"))
    if indexes:
        from tinygrad_llm.pretrained.tf_checkpoint import TensorflowCheckpoint  # seldom needed

        return TensorflowCheckpoint(indexes[0])
    raise CheckpointError(_nothing_found(folder))


def _open_shards(index: Path) -> SafetensorsFiles:
    """The files that an index names, each opened once; every name must be where it should."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(file, str) and Path(file).name == file for file in weight_map.values()
    ):
        raise CheckpointError(f"{index}: is damaged: expected a weight_map of names to files.")
    files = {name: SafetensorsFile(index.parent / name) for name in set(weight_map.values())}
    for name, file in weight_map.items():
        if name not in files[file]:
            raise CheckpointError(
                f"{index}: says that {name!r} is in {file}, but it is not. The files belong to "
                "different models, or one was replaced; fetch them again together."
            )
    return SafetensorsFiles({name: files[file] for name, file in weight_map.items()})


def _nothing_found(folder: Path) -> str:
    parts = sorted(p.name for p in folder.glob("*.part")) + sorted(
        p.name for p in folder.glob("*.incomplete")
    )
    if parts:
        return (
            f"{folder}: the download of the weights is unfinished ({', '.join(parts)}). Start it "
            "again; it goes on where it stopped."
        )
    if any(folder.glob("pytorch_model*.bin")):
        return (
            f"{folder}: the weights are only there as pytorch_model.bin, a pickle, which could run "
            "any code when read. Get model.safetensors instead, or convert it with transformers: "
            "model.save_pretrained(folder, safe_serialization=True)."
        )
    return (
        f"{folder}: no weights. Expected {WEIGHTS_NAME}, {INDEX_NAME} with its files, or OpenAI's "
        "model.ckpt.index with model.ckpt.data-00000-of-00001."
    )
