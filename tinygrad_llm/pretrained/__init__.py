"""Weights in and out: GPT-2's as published, and this project's own.

The calls:

    GPT.from_pretrained("gpt2")            by name, from the cache or the network
    GPT.from_pretrained("some/folder")     of transformers, of OpenAI, of this project
    model.save_pretrained("some/folder")   a folder that transformers opens as it is

They stand in `nn`, where the modules are. Here are files, names, layouts and arrays.
"""

from tinygrad_llm.pretrained.config_file import read_config, write_config
from tinygrad_llm.pretrained.download import SIZES, gpt2_config, model_folder
from tinygrad_llm.pretrained.folder import gpt2_tensors, read_model, write_model
from tinygrad_llm.pretrained.safetensors_file import SafetensorsFile, write_safetensors

__all__ = [
    "SIZES",
    "SafetensorsFile",
    "gpt2_config",
    "gpt2_tensors",
    "model_folder",
    "read_config",
    "read_model",
    "write_config",
    "write_model",
    "write_safetensors",
]
