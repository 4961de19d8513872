"""Weights in and out: GPT-2's as published, and this project's own.

The calls:

    GPT.from_pretrained("gpt2")            by name, from the cache or the network
    GPT.from_pretrained("some/folder")     of transformers, of OpenAI, of this project
    model.save_pretrained("some/folder")   a folder that transformers opens as it is

They stand in `nn`, where the modules are. Here are files, names, layouts and arrays.
"""

from typing import TYPE_CHECKING

from tinygrad_llm.errors import missing_name
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

_LEFT_OUT = {
    "TensorflowCheckpoint": "tinygrad_llm.pretrained.tf_checkpoint.TensorflowCheckpoint",
    "extend_vocabulary": "tg.nn.extend_vocabulary(model, vocab_size)",
    "from_pretrained": "tg.nn.GPT.from_pretrained(folder_or_name)",
    "load_model": "tg.nn.load_model(folder)",
    "save_model": "tg.nn.save_model(model, folder)",
}


if not TYPE_CHECKING:  # a type checker goes on finding misspelt names

    def __getattr__(name):
        raise missing_name("tg.pretrained", name, _LEFT_OUT, __all__)
