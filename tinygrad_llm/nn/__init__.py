"""Modules: the layers of a GPT, and the GPT itself."""

from typing import TYPE_CHECKING

from tinygrad_llm.errors import missing_name
from tinygrad_llm.gpt_config import GPTConfig, num_parameters_of
from tinygrad_llm.nn import functional, init, utils
from tinygrad_llm.nn.activations import (
    GELU,
    Identity,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from tinygrad_llm.nn.attention import MultiHeadAttention
from tinygrad_llm.nn.attention_steps import (
    CausalAttention,
    MultiHeadAttentionWrapper,
    SelfAttentionV1,
    SelfAttentionV2,
)
from tinygrad_llm.nn.block import TransformerBlock
from tinygrad_llm.nn.containers import ModuleDict, ModuleList, Sequential
from tinygrad_llm.nn.dropout import Dropout
from tinygrad_llm.nn.embedding import Embedding
from tinygrad_llm.nn.feed_forward import FeedForward
from tinygrad_llm.nn.gpt import GPT
from tinygrad_llm.nn.kv_cache import KVCache, left_pad
from tinygrad_llm.nn.layer_norm import LayerNorm
from tinygrad_llm.nn.left_out import LEFT_OUT
from tinygrad_llm.nn.linear import Linear
from tinygrad_llm.nn.lora import (
    LoRALinear,
    adapter_state_dict,
    apply_lora,
    freeze,
    load_adapter_state_dict,
    merge_lora,
    remove_lora,
    unmerge_lora,
)
from tinygrad_llm.nn.losses import CrossEntropyLoss, MSELoss
from tinygrad_llm.nn.module import Module
from tinygrad_llm.nn.parameter import Parameter
from tinygrad_llm.nn.registry import register_model
from tinygrad_llm.nn.saved_model import load_model, save_model
from tinygrad_llm.nn.vocabulary import extend_vocabulary

__all__ = [
    "GELU",
    "GPT",
    "CausalAttention",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "FeedForward",
    "GPTConfig",
    "Identity",
    "KVCache",
    "LayerNorm",
    "Linear",
    "LoRALinear",
    "LogSoftmax",
    "MSELoss",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiHeadAttention",
    "MultiHeadAttentionWrapper",
    "Parameter",
    "ReLU",
    "SelfAttentionV1",
    "SelfAttentionV2",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "TransformerBlock",
    "adapter_state_dict",
    "apply_lora",
    "extend_vocabulary",
    "freeze",
    "functional",
    "init",
    "left_pad",
    "load_adapter_state_dict",
    "load_model",
    "merge_lora",
    "num_parameters_of",
    "register_model",
    "remove_lora",
    "save_model",
    "unmerge_lora",
    "utils",
]


if not TYPE_CHECKING:  # a type checker goes on finding misspelt names

    def __getattr__(name):
        raise missing_name("tg.nn", name, LEFT_OUT, __all__)
