"""GPT-2's names for the parameters, beside this project's, and how each is laid out.

Hugging Face's GPT-2 keeps OpenAI's layout: its linear layers ("Conv1D") hold their weight as
(in, out), to compute y = x W, where this project and PyTorch's Linear hold (out, in), for
y = x W^T. So the four weights of a block are transposed on the way in and on the way out.

    here                                 Hugging Face, after "transformer."  OpenAI, after "model/"
    token_embedding.weight               wte.weight                          wte
    position_embedding.weight            wpe.weight                          wpe
    blocks.0.norm1.weight                h.0.ln_1.weight                     h0/ln_1/g
    blocks.0.attention.qkv.weight        h.0.attn.c_attn.weight       (T)    h0/attn/c_attn/w
    blocks.0.attention.projection.weight h.0.attn.c_proj.weight       (T)    h0/attn/c_proj/w
    blocks.0.norm2.weight                h.0.ln_2.weight                     h0/ln_2/g
    blocks.0.feed_forward.expand.weight  h.0.mlp.c_fc.weight          (T)    h0/mlp/c_fc/w
    blocks.0.feed_forward.project.weight h.0.mlp.c_proj.weight        (T)    h0/mlp/c_proj/w
    final_norm.weight                    ln_f.weight                         ln_f/g
    head.weight                          lm_head.weight, without a prefix    (tied)

Biases follow their weights. A tied head is no tensor of its own: it is the token embedding.

Sources: openai/gpt-2, src/model.py; huggingface/transformers, models/gpt2/modeling_gpt2.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PREFIX = "transformer."

_BLOCK_PARTS = (
    ("norm1", "ln_1", False),
    ("attention.qkv", "attn.c_attn", True),
    ("attention.projection", "attn.c_proj", True),
    ("norm2", "ln_2", False),
    ("feed_forward.expand", "mlp.c_fc", True),
    ("feed_forward.project", "mlp.c_proj", True),
)
# Causal masks and their fill value, which old files of Hugging Face carry along.
_BUFFERS = re.compile(r"h\.\d+\.(attn|crossattention)\.(bias|masked_bias)")


@dataclass(frozen=True)
class Place:
    """Where one parameter stands: its name here, its name in GPT-2, and whether transposed."""

    ours: str
    theirs: str
    transposed: bool = False


def places(n_layer: int, tied: bool, qkv_bias: bool = True) -> list[Place]:
    """Every parameter of a GPT with ``n_layer`` blocks; ``theirs`` carries the full prefix."""
    found = [
        Place("token_embedding.weight", PREFIX + "wte.weight"),
        Place("position_embedding.weight", PREFIX + "wpe.weight"),
    ]
    for layer in range(n_layer):
        for ours, theirs, is_linear in _BLOCK_PARTS:
            here, there = f"blocks.{layer}.{ours}", f"{PREFIX}h.{layer}.{theirs}"
            found.append(Place(f"{here}.weight", f"{there}.weight", is_linear))
            if qkv_bias or ours != "attention.qkv":
                found.append(Place(f"{here}.bias", f"{there}.bias"))
    found += [
        Place("final_norm.weight", PREFIX + "ln_f.weight"),
        Place("final_norm.bias", PREFIX + "ln_f.bias"),
    ]
    return found if tied else [*found, Place("head.weight", "lm_head.weight")]


def with_prefix(name: str) -> str:
    """The full name of a tensor in a file that may or may not write ``transformer.``."""
    return name if name.startswith((PREFIX, "lm_head.")) else PREFIX + name


def is_ignored(name: str, tied: bool, qkv_bias: bool = True) -> bool:
    """True for what a file may hold besides the parameters: masks, and what is redundant.

    Args:
        name: the full name, see `with_prefix`.
        tied: the head is the token embedding, so a stored head says nothing new.
        qkv_bias: without it, this project stores zeros, which transformers insists on.
    """
    if name == "lm_head.weight":
        return tied
    inner = name.removeprefix(PREFIX)
    if inner.endswith("attn.c_attn.bias"):
        return not qkv_bias
    return _BUFFERS.fullmatch(inner) is not None


def from_openai(name: str) -> str:
    """GPT-2's name of a variable of OpenAI's checkpoint: ``model/h0/ln_1/g`` -> ``...weight``.

    Every linear weight there carries a leading axis of length 1, left over from a convolution.
    """
    parts = name.removeprefix("model/").split("/")
    if parts[-1] in ("wte", "wpe"):
        parts.append("w")
    ending = {"w": "weight", "g": "weight", "b": "bias"}.get(parts[-1], parts[-1])
    layer = re.fullmatch(r"h(\d+)", parts[0])
    head = ["h", layer[1]] if layer else [parts[0]]
    return PREFIX + ".".join([*head, *parts[1:-1], ending])
