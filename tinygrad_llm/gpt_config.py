"""The numbers that describe a GPT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tinygrad_llm.checks import check_dropout, check_heads, check_size
from tinygrad_llm.errors import ConfigError, did_you_mean

_SIZES = ("vocab_size", "context_length", "n_layer", "n_head", "n_embd")
# What other programs call a setting -> what it is called here.
_OTHER_NAMES = {
    "bias": "qkv_bias",
    "block_size": "context_length",
    "d_model": "n_embd",
    "drop_rate": "dropout",
    "emb_dim": "n_embd",
    "n_ctx": "context_length",
    "n_heads": "n_head",
    "n_layers": "n_layer",
    "n_positions": "context_length",
}


@dataclass(frozen=True)
class GPTConfig:
    """Size and kind of a GPT.

    Attributes:
        vocab_size: number of tokens V.
        context_length: the most positions T the model can see at once.
        n_layer: number of transformer blocks; 12 by default, as in the smallest GPT-2.
        n_head: attention heads H per block; 12 by default.
        n_embd: width C of the residual stream, a multiple of n_head; 768 by default.
        dropout: probability of dropping an element in training, 0 for none.
        qkv_bias: give queries, keys and values a bias, as GPT-2 does.
        tie_weights: use the token embedding as the output layer too, as GPT-2 does.

    Raises:
        ConfigError: a value makes no sense, alone or together with another.
    """

    vocab_size: int
    context_length: int
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0
    qkv_bias: bool = True
    tie_weights: bool = True

    def __new__(cls, *values: object, **named: object) -> GPTConfig:
        for name in named:
            check_setting_name(name)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name in _SIZES:
            object.__setattr__(self, name, check_size("GPTConfig", name, getattr(self, name)))
        check_heads("GPTConfig", self.n_embd, self.n_head)
        dropout = check_dropout("GPTConfig", "dropout", self.dropout)
        object.__setattr__(self, "dropout", dropout)
        for name in ("qkv_bias", "tie_weights"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(
                    f"GPTConfig: {name} must be True or False, got {getattr(self, name)!r:.80}."
                )

    @property
    def head_size(self) -> int:
        """Width D of an attention head."""
        return self.n_embd // self.n_head

    def to_dict(self) -> dict[str, int | float | bool]:
        """All values by name, in JSON's types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GPTConfig:
        """A configuration from what `to_dict` returned.

        Raises:
            ConfigError: a name is unknown or missing, or a value makes no sense.
        """
        for name in values:
            check_setting_name(name)
        missing = [name for name in _SIZES if name not in values]
        if missing:
            raise ConfigError(f"GPTConfig: missing settings: {', '.join(missing)}.")
        return cls(**values)


def check_setting_name(name: str) -> None:
    """ConfigError, with the name used here, for a setting that `GPTConfig` does not have."""
    known = [f.name for f in fields(GPTConfig)]
    if name in known:
        return
    other = _OTHER_NAMES.get(str(name))
    hint = f" Did you mean {other}?" if other else did_you_mean(str(name), known)
    raise ConfigError(f"GPTConfig: there is no setting {name!r}.{hint} All: {', '.join(known)}.")


def num_parameters_of(config: GPTConfig) -> int:
    """Number of parameters of ``GPT(config)``, without building it.

    The terms:

        embeddings     V C + T C
        each block     12 C^2 + 10 C, and 3 C for the qkv bias
        final norm     2 C
        untied head    V C
    """
    v, t, c = config.vocab_size, config.context_length, config.n_embd
    block = 12 * c * c + 10 * c + (3 * c if config.qkv_bias else 0)
    head = 0 if config.tie_weights else v * c
    return v * c + t * c + config.n_layer * block + 2 * c + head
