"""Weights in and out: GPT-2's as published, and this project's own.

The calls:

    GPT.from_pretrained("gpt2")            by name, from the cache or the network
    GPT.from_pretrained("some/folder")     of transformers, of OpenAI, of this project
    model.save_pretrained("some/folder")   a folder that transformers opens as it is
"""

from __future__ import annotations

import os
from pathlib import Path

from tinygrad_llm.backend.dtypes import DTypeLike
from tinygrad_llm.nn import GPT
from tinygrad_llm.pretrained.config_file import read_config, write_config
from tinygrad_llm.pretrained.download import SIZES, gpt2_config, model_folder
from tinygrad_llm.pretrained.folder import gpt2_tensors, load_model, save_model
from tinygrad_llm.pretrained.safetensors_file import SafetensorsFile, write_safetensors
from tinygrad_llm.pretrained.vocabulary import extend_vocabulary

__all__ = [
    "SIZES",
    "SafetensorsFile",
    "extend_vocabulary",
    "from_pretrained",
    "gpt2_config",
    "gpt2_tensors",
    "load_model",
    "model_folder",
    "read_config",
    "save_model",
    "write_config",
    "write_safetensors",
]


def from_pretrained(
    folder_or_name: str | os.PathLike[str],
    device: str = "cpu",
    dtype: DTypeLike | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> GPT:
    """A model from a folder, or one of OpenAI's by name; what `GPT.from_pretrained` calls.

    Args:
        folder_or_name: a folder (see `load_model`), or "gpt2", "gpt2-medium", "gpt2-large",
            "gpt2-xl". A folder of that name in the working directory comes first.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        dtype: of the parameters; by default that of the file, but float32 for half precision.
        cache_dir: where downloads are kept, by default the user's cache.

    Returns:
        the model, in evaluation mode.

    Raises:
        CheckpointError: no such model, no network, or damaged files.
    """
    path = Path(folder_or_name)
    is_name = isinstance(folder_or_name, str) and not path.is_dir() and len(path.parts) == 1
    return load_model(model_folder(path.name, cache_dir) if is_name else path, device, dtype)
