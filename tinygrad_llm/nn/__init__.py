"""Modules: the layers of a GPT, and the GPT itself."""

from tinygrad_llm.nn import init
from tinygrad_llm.nn.attention import MultiHeadAttention
from tinygrad_llm.nn.attention_steps import (
    CausalAttention,
    MultiHeadAttentionWrapper,
    SelfAttentionV1,
    SelfAttentionV2,
)
from tinygrad_llm.nn.block import TransformerBlock
from tinygrad_llm.nn.config import GPTConfig, num_parameters_of
from tinygrad_llm.nn.containers import ModuleList, Sequential
from tinygrad_llm.nn.dropout import Dropout
from tinygrad_llm.nn.embedding import Embedding
from tinygrad_llm.nn.feed_forward import FeedForward
from tinygrad_llm.nn.gpt import GPT
from tinygrad_llm.nn.kv_cache import KVCache, left_pad
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
from tinygrad_llm.nn.module import Module
from tinygrad_llm.nn.norm import LayerNorm
from tinygrad_llm.nn.parameter import Parameter

__all__ = [
    "GPT", "CausalAttention", "Dropout", "Embedding", "FeedForward", "GPTConfig", "KVCache",
    "LayerNorm", "Linear", "LoRALinear", "Module", "ModuleList", "MultiHeadAttention",
    "MultiHeadAttentionWrapper", "Parameter", "SelfAttentionV1", "SelfAttentionV2", "Sequential",
    "TransformerBlock", "adapter_state_dict", "apply_lora", "freeze", "init", "left_pad",
    "load_adapter_state_dict", "merge_lora", "num_parameters_of", "remove_lora", "unmerge_lora",
]  # fmt: skip
