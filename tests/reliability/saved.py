"""Everything that this package saves: how a version of it is written, and what an opener sees.

Versions have the same shapes and differ in every number and name, so that a mix of two would load.
What an opener sees is a checksum over all that it got.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tinygrad_llm as tg
from tinygrad_llm import nn, tokenizers
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.data.shards import TokenShards
from tinygrad_llm.data.templates import TEMPLATES
from tinygrad_llm.data.tokenizing import tokenize_files
from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.finetuning.adapter import load_adapter, save_adapter
from tinygrad_llm.finetuning.classification import TextClassifier
from tinygrad_llm.finetuning.classifier_folder import Classifier
from tinygrad_llm.finetuning.conversation import load_assistant, save_assistant
from tinygrad_llm.generation.open_checkpoint import open_checkpoint
from tinygrad_llm.nn.lora import apply_lora
from tinygrad_llm.tokenizers import BPETokenizer
from tinygrad_llm.training.run.folder import RunFolder

_TEXTS = (
    "to be or not to be, that is the question; whether it is nobler in the mind to suffer",
    "the statement is executed if the expression is true; else the suite after it is run",
    "call me tonight, you have won a prize; text stop to end, or reply yes to claim a ring",
)
_ADAPTER = "adapter.safetensors"


@dataclass(frozen=True)
class Kind:
    """Something saved.

    Attributes:
        write: puts a version (1, 2, 3) into a folder.
        look: opens the folder; returns what it got as text.
        replaces: a version may be written over another one.
    """

    write: Callable[[Path, int], object]
    look: Callable[[Path], str]
    replaces: bool = True


def tokenizer_of(version: int) -> BPETokenizer:
    """280 tokens, learned from another text for each version."""
    special = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>")
    return BPETokenizer.train([_TEXTS[version % 3] * 3], 280, special)


def model_of(version: int) -> nn.GPT:
    """A GPT of 5,000 parameters."""
    return nn.GPT(_config(version), Generator(version)).eval()


def _config(version: int) -> nn.GPTConfig:
    return nn.GPTConfig(280, 16, n_layer=1, n_head=2, n_embd=8, dropout=version / 16)


@nn.register_model("reliability-tests")
class NamedGPT(nn.GPT):
    """Saved by its name, in model.json."""


def classifier_of(version: int) -> Classifier:
    """A classifier whose every setting is the version's."""
    tg.manual_seed(version)
    module = TextClassifier(model_of(version), 2, ("mean", "last")[version % 2]).eval()
    names = (f"ham{version}", f"spam{version}")
    return Classifier(module, tokenizer_of(version), names, 10 + version, version / 10)


def seen(*parts: Any) -> str:
    """A checksum over models, tokenizers and what JSON can express."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, nn.Module):
            text = type(part).__name__ + repr(getattr(part, "config", None))
            for name, value in part.state_dict().items():
                digest.update(f"{name}{value.dtype}{value.shape}".encode() + value.data.tobytes())
        elif hasattr(part, "to_dict"):
            text = json.dumps([part.kind, part.to_dict()])
        else:
            text = json.dumps(part)
        digest.update(text.encode())
    return digest.hexdigest()[:12]


def _write_named(folder: Path, version: int) -> None:
    model = NamedGPT(_config(version), Generator(version)).eval()
    nn.save_model(model, folder, tokenizer_of(version))


def _write_either(folder: Path, version: int) -> None:
    """By turns a model that config.json describes, and one that model.json describes."""
    if version % 2:
        nn.save_model(model_of(version), folder, tokenizer_of(version))
    else:
        _write_named(folder, version)


def _write_assistant(folder: Path, version: int) -> None:
    template = list(TEMPLATES.values())[version % len(TEMPLATES)]
    save_assistant(folder, model_of(version), tokenizer_of(version), template, version)


def _look_at_assistant(folder: Path) -> str:
    found = load_assistant(folder)
    name = found.template.name if found.template else None
    return seen(found.model, found.tokenizer, name, found.history)


def _look_at_classifier(folder: Path) -> str:
    found = Classifier.load(folder)
    settings = [found.class_names, found.max_length, found.threshold, found.module.pooling]
    return seen(found.module, found.module.gpt, found.tokenizer, settings)


def _write_adapter(folder: Path, version: int) -> None:
    model = model_of(0)
    apply_lora(model, 2, 4.0 * version, ("attention.qkv", "expand"), generator=Generator(version))
    for name, parameter in model.named_parameters():
        if "lora_b" in name:
            parameter.data[...] = Generator(version).normal(parameter.shape, 0.1)
    folder.mkdir(exist_ok=True)
    save_adapter(model, folder / _ADAPTER)


def _look_at_adapter(folder: Path) -> str:
    model = model_of(0)
    changed = load_adapter(model, folder / _ADAPTER)
    alphas = [model.get_submodule(name).alpha for name in changed]
    return seen(model, changed, alphas)


def _write_checkpoint(folder: Path, version: int) -> None:
    def write_model(place: Path) -> None:
        nn.save_model(model_of(version), place, tokenizer_of(version))

    run = RunFolder(folder)
    try:
        state = {"step": version, "array": model_of(version).token_embedding.weight}
        run.save(version, write_model, state, None)
    finally:
        run.close()


def _look_at_run(folder: Path) -> str:
    """What --resume goes on with."""
    run = RunFolder(folder)
    try:
        found = run.load_newest(print)
    finally:
        run.close()
    if found is None:
        raise CheckpointError("there is no checkpoint.")
    place, state = found
    return seen(*open_checkpoint(place), state["step"], state["array"].tobytes().hex())


def _write_shards(folder: Path, version: int) -> None:
    text = folder.with_name(f"text-{version}.txt")
    text.write_text(_TEXTS[version % 3] * 20, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    tokenize_files([text], folder, tokenizer_of(version), 1, shard_bytes=500, progress=False)


def _look_at_shards(folder: Path) -> str:
    return seen(TokenShards(folder)[:].tolist(), tokenizers.load(folder))


KINDS: dict[str, Kind] = {
    "model and tokenizer": Kind(
        lambda folder, v: nn.save_model(model_of(v), folder, tokenizer_of(v)),
        lambda folder: seen(*open_checkpoint(folder)),
    ),
    "save_pretrained": Kind(
        lambda folder, v: model_of(v).save_pretrained(folder, {"eos_token_id": v}),
        lambda folder: seen(nn.GPT.from_pretrained(folder)),
    ),
    "model by name": Kind(_write_named, lambda folder: seen(*open_checkpoint(folder))),
    "another class": Kind(_write_either, lambda folder: seen(*open_checkpoint(folder))),
    "tokenizer": Kind(
        lambda folder, v: tokenizer_of(v).save(folder), lambda folder: seen(tokenizers.load(folder))
    ),
    "classifier": Kind(lambda folder, v: classifier_of(v).save(folder), _look_at_classifier),
    "assistant": Kind(_write_assistant, _look_at_assistant),
    "adapter": Kind(_write_adapter, _look_at_adapter),
    "checkpoint": Kind(_write_checkpoint, lambda folder: seen(*open_checkpoint(folder))),
    "run to resume": Kind(_write_checkpoint, _look_at_run, replaces=False),
    "shards": Kind(_write_shards, _look_at_shards, replaces=False),
}


def _write_carelessly(folder: Path, version: int) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("one", "two"):
        (folder / name).write_text(f"{version}", encoding="utf-8")


# What a trial has to find: two files, one after the other, without a checksum.
CARELESS = Kind(
    _write_carelessly,
    lambda folder: "".join((folder / name).read_text(encoding="utf-8") for name in ("one", "two")),
)


def kind_of(name: str) -> Kind:
    """The kind of a name."""
    return CARELESS if name == "careless" else KINDS[name]


def write(kind: str, folder: Path, version: int) -> None:
    """Save a version; by the kind's name, so that another process can be asked to."""
    kind_of(kind).write(folder, version)


def look(kind: str, folder: Path) -> str:
    """Open it."""
    return kind_of(kind).look(folder)
