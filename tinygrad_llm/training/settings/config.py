"""Every setting of a training run: its default, its meaning, and what changing it later means.

The command line, the TOML file and the checkpoint all speak of these fields by name. So one
table suffices, and a setting is added in one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any

from tinygrad_llm.backend.precision import RUN_TYPE_MEANS, RUN_TYPES
from tinygrad_llm.errors import ConfigError, did_you_mean

# What it means to resume a run with another value of a setting.
FIXED = "fixed"  # impossible: the weights or the text would be other ones
SAME_TEXT = "same text"  # allowed if it is the same text, in another place
HARMLESS = "harmless"  # the weights come out the same
BITS = "bits"  # allowed, but the result is not that of an undisturbed run


def _setting(default: object, group: str, text: str, resume: str = BITS, **more: object) -> Any:
    """A field of the table: its default, the group it is listed in, and a line of help."""
    metadata = {"group": group, "help": text, "resume": resume, **more}
    if isinstance(default, tuple):
        return field(default=default, metadata={"many": True, **metadata})
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one run. Sizes as in GPT-2's papers; learning rates per optimizer step.

    Raises:
        ConfigError: a value that makes no sense, alone or together with another.
    """

    # fmt: off
    data: tuple[str, ...] = _setting(
        ("pydoc",), "text",
        "name of a corpus (pydoc, stdlib, tiny-shakespeare, ...), text files, folders, or a "
        "folder of token shards", SAME_TEXT)
    tokenizer: str = _setting(
        "bpe", "text", "bpe (learned from the text), char, word, gpt2, or a saved tokenizer's "
        "folder; shards bring their own", FIXED)
    vocab_size: int = _setting(320, "text", "tokens of a bpe tokenizer that is learned", FIXED)
    validation_fraction: float = _setting(
        0.1, "text", "share of the text kept back for validation; 0 trains on everything", FIXED)
    order: str = _setting(
        "shuffle", "text", "shuffle (every window once per epoch) or crops (random places)",
        FIXED, choices=("shuffle", "crops"))

    model: str = _setting(
        "gpt", "model", "gpt, or the name of a model of yours that --import registers", FIXED)
    n_layer: int = _setting(4, "model", "number of transformer blocks", FIXED)
    n_head: int = _setting(4, "model", "attention heads per block", FIXED)
    n_embd: int = _setting(128, "model", "width of the residual stream (C)", FIXED)
    context_length: int = _setting(
        128, "model", "tokens the model sees at once (T); with init_from at most the model's",
        FIXED)
    dropout: float = _setting(0.05, "model", "probability of dropping an activation")
    qkv_bias: bool = _setting(True, "model", "biases in the query/key/value projection", FIXED)
    tie_weights: bool = _setting(True, "model", "output layer shares the token embedding", FIXED)
    init_from: str = _setting(
        "", "model", "start from a saved model, of its size and with its tokenizer: the folder of "
        "a run or a checkpoint, or a name such as gpt2", FIXED)

    steps: int = _setting(1000, "optimization", "optimizer steps in all")
    batch_size: int = _setting(
        16, "optimization", "windows per micro-batch (B), of all processes together")
    accumulate: int = _setting(1, "optimization", "micro-batches per optimizer step")
    learning_rate: float = _setting(
        2e-3, "optimization", "the highest learning rate, after warm-up")
    min_learning_rate: float = _setting(
        2e-4, "optimization", "the last one, where the schedule ends")
    warmup: int = _setting(100, "optimization", "steps in which the learning rate rises linearly")
    schedule: str = _setting(
        "cosine", "optimization", "how the rate falls after warm-up",
        choices=("cosine", "linear", "constant"))
    beta1: float = _setting(0.9, "optimization", "AdamW: decay of the mean of the gradient")
    beta2: float = _setting(0.99, "optimization", "AdamW: decay of the mean of its square")
    weight_decay: float = _setting(
        0.1, "optimization", "decay of matrices and embeddings; biases and norms do not decay")
    clip: float = _setting(1.0, "optimization", "largest norm of the gradient; 0 for no limit")
    on_nan: str = _setting(
        "stop", "optimization", "when the loss or the gradient is NaN or infinite: stop and name "
        "the op, or skip the step", choices=("stop", "skip"))
    seed: int = _setting(
        1337, "optimization", "decides the first weights, the order of windows, and dropout",
        FIXED)

    device: str = _setting("cpu", "machine", "cpu, cuda, or cuda:N")
    dtype: str = _setting("float32", "machine", RUN_TYPE_MEANS, choices=RUN_TYPES)
    graph: bool = _setting(
        True, "machine", "on a GPU, record the step once as a CUDA graph and replay it", HARMLESS)
    recompute: bool = _setting(
        False, "machine", "save memory: compute each block's activations again in the backward "
        "pass", HARMLESS)
    shard_optimizer: bool = _setting(
        False, "machine", "with mpiexec: each process keeps its part of the optimizer's state only",
        HARMLESS)

    eval_every: int = _setting(100, "evaluation", "steps between validations; 0 for none", HARMLESS)
    eval_tokens: int = _setting(
        50_000, "evaluation", "validation tokens looked at (always the same ones); 0 for all",
        HARMLESS)
    patience: int = _setting(
        0, "evaluation", "stop after so many validations without a new best; 0 for never", HARMLESS)
    sample_every: int = _setting(
        250, "evaluation", "steps between text samples; 0 for none", HARMLESS)
    sample_tokens: int = _setting(80, "evaluation", "length of a text sample", HARMLESS)
    prompt: str = _setting("", "evaluation", "how text samples begin", HARMLESS)

    out: str = _setting("", "files", "folder of the run (default: runs/DATA-TOKENIZER)", HARMLESS)
    checkpoint_every: int = _setting(
        250, "files", "steps between checkpoints; 0 for the end only", HARMLESS)
    keep: int = _setting(2, "files", "newest checkpoints kept, besides the best one", HARMLESS)
    log_every: int = _setting(10, "files", "steps between lines of the log", HARMLESS)
    tensorboard: bool = _setting(False, "files", "also write TensorBoard events", HARMLESS)
    histograms_every: int = _setting(
        0, "files", "steps between histograms of activations and gradients; 0 for none", HARMLESS)
    plot: bool = _setting(True, "files", "draw loss.png at the end, if matplotlib is there",
                          HARMLESS)
    progress: bool = _setting(True, "files", "show a progress bar", HARMLESS)
    # fmt: on

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in _NOT_NEGATIVE:
            _require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        endless = self.sample_tokens > _LONGEST_SAMPLE
        _require(not endless, "sample_tokens", f"at most {_LONGEST_SAMPLE:,}", self.sample_tokens)
        for name in ("dropout", "beta1", "beta2", "validation_fraction"):
            _require(0 <= getattr(self, name) < 1, name, "from 0 up to 1", getattr(self, name))
        for item in fields(self):
            choices = item.metadata.get("choices")
            value = getattr(self, item.name)
            _require(_is_text(value), item.name, "text that UTF-8 can hold", value)
            _require(not choices or value in choices, item.name, f"one of {choices}", value)
        named = bool(self.data) and all(self.data)  # "" is what an unset shell variable leaves
        _require(named, "data", "at least one name or path, none of them empty", self.data)
        _require(self.learning_rate > 0, "learning_rate", "more than 0", self.learning_rate)
        if self.patience and not (self.eval_every and self.validation_fraction):
            raise ConfigError(
                "patience: counts validations, and there are none: give eval_every and "
                "validation_fraction, or leave patience out."
            )
        if self.n_embd % self.n_head:
            raise ConfigError(
                f"n_embd and n_head: {self.n_embd} is not a multiple of {self.n_head}; each head "
                "takes an equal share of the width."
            )
        if self.min_learning_rate > self.learning_rate:
            raise ConfigError(
                f"min_learning_rate: {self.min_learning_rate} is above learning_rate, "
                f"{self.learning_rate}, from which it falls. Give both; a tenth is usual: "
                f"{self.learning_rate / 10:.1g}."
            )

    def to_dict(self) -> dict[str, object]:
        """The settings in JSON's types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, object], source: str = "settings") -> TrainConfig:
        """The settings from a table; what is absent has its default.

        Raises:
            ConfigError: an unknown name, or a value of the wrong type.
        """
        known = {item.name: item for item in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(
                f"{source}: unknown setting {', '.join(unknown)}.{did_you_mean(unknown[0], known)} "
                "`--help` lists all."
            )
        return cls(**{k: convert(known[k], v, source) for k, v in values.items()})


def convert(item: Field[object], value: object, source: str) -> Any:
    """A value in the type of the field's default.

    Raises:
        ConfigError: it is of another type.
    """
    expected = type(item.default)
    if expected is float and type(value) is int:
        return float(value)
    if expected is tuple:
        values = [value] if isinstance(value, str) else value
        if isinstance(values, (list, tuple)) and all(isinstance(v, str) for v in values):
            return tuple(values)
    elif type(value) is expected:
        return value
    raise ConfigError(
        f"{source}: {item.name} must be {_TYPE_NAMES[expected]}, got {value!r} "
        f"({type(value).__name__})."
    )


_TYPE_NAMES: dict[type, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a string",
    tuple: "a string or a list of strings",
}
_AT_LEAST_ONE = (
    "vocab_size",
    "n_layer",
    "n_head",
    "n_embd",
    "context_length",
    "steps",
    "batch_size",
    "accumulate",
    "keep",
    "log_every",
)
_LONGEST_SAMPLE = 10_000  # tokens: training waits while it is written
_NOT_NEGATIVE = (
    "min_learning_rate",
    "warmup",
    "weight_decay",
    "clip",
    "seed",
    "eval_every",
    "eval_tokens",
    "patience",
    "sample_every",
    "sample_tokens",
    "checkpoint_every",
    "histograms_every",
)


def _is_text(value: object) -> bool:
    """Whether a file of settings can hold the value: not bytes of a name that is no UTF-8."""
    strings = value if isinstance(value, tuple) else (value,)
    return not any("\ud800" <= letter <= "\udfff" for s in strings for letter in str(s))


def _require(fits: bool, name: str, expected: str, value: object) -> None:
    if not fits:
        raise ConfigError(f"{name}: expected {expected}, got {value!r}.")
