"""A model as a folder: ``config.json`` and ``model.safetensors``, which transformers opens too.

What goes in and out here is a configuration and arrays by the names of `nn.GPT`'s parameters; the
modules themselves take and give them (`GPT.from_pretrained`, `GPT.save_pretrained`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinygrad_llm.backend import Array
from tinygrad_llm.backend.dtypes import DTypeLike, as_dtype, is_float
from tinygrad_llm.backend.files import reading_errors
from tinygrad_llm.backend.saved_folder import reading, saving
from tinygrad_llm.control_characters import one_line, readable
from tinygrad_llm.errors import CheckpointError, DTypeError
from tinygrad_llm.gpt_config import GPTConfig
from tinygrad_llm.pretrained.config_file import OWN_NAME, read_config, write_config
from tinygrad_llm.pretrained.download import model_folder
from tinygrad_llm.pretrained.gpt2_layout import PREFIX, Place, is_ignored, places
from tinygrad_llm.pretrained.plausible import is_plausible, warn_of
from tinygrad_llm.pretrained.rewritten import SIGNATURE, verify_model
from tinygrad_llm.pretrained.safetensors_file import write_safetensors
from tinygrad_llm.pretrained.sources import WEIGHTS_NAME, WeightSource, open_source

_SHOWN = 10  # names listed per kind of mistake; the rest is counted


def write_model(
    folder: str | os.PathLike[str],
    config: GPTConfig,
    parameters: Mapping[str, Array],
    extra_config: Mapping[str, object] | None = None,
) -> None:
    """Write a folder that `read_model` and transformers' AutoModelForCausalLM can read.

    The files appear together or not at all, and with their checksums: see `saved_folder.saving`.

    Args:
        folder: made if need be.
        config: the model's configuration.
        parameters: all parameters of a GPT by name; they keep their type, and the file's bits are
            theirs.
        extra_config: entries to add to ``config.json``, such as ``{"eos_token_id": 7}``.

    Raises:
        CheckpointError: a file cannot be written, or the parameters are not those of a plain GPT.
    """
    tensors = gpt2_tensors(config, parameters)
    with saving(folder, "model", instead_of=(OWN_NAME,)) as staged:
        write_safetensors(staged / WEIGHTS_NAME, tensors, {"format": "pt", **SIGNATURE})
        write_config(staged, config, extra_config)


def gpt2_tensors(config: GPTConfig, parameters: Mapping[str, Array]) -> dict[str, Array]:
    """A GPT's parameters under GPT-2's names and in its layout; views where possible.

    Raises:
        CheckpointError: parameters that GPT-2 has not, as a LoRA layer brings them.
    """
    wanted = _places(config)
    strangers = set(parameters) ^ {place.ours for place in wanted}
    if strangers:
        raise CheckpointError(
            f"save_pretrained: GPT-2's layout has no place for {_few(sorted(strangers))}; the "
            "model is no plain GPT. Fold LoRA layers in (nn.remove_lora) and take off added heads "
            "first."
        )
    tensors = {}
    for place in wanted:
        array = parameters[place.ours]
        tensors[place.theirs] = array.T if place.transposed else array
    if not config.qkv_bias:  # transformers insists on the bias; zeros change nothing
        zeros = np.zeros(3 * config.n_embd, parameters["token_embedding.weight"].dtype)
        for layer in range(config.n_layer):
            tensors[f"{PREFIX}h.{layer}.attn.c_attn.bias"] = zeros
    return tensors


def read_model(
    folder_or_name: str | os.PathLike[str],
    dtype: DTypeLike | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    verify: bool = True,
) -> tuple[GPTConfig, Iterator[tuple[str, Array]]]:
    """A model's configuration, and its parameters one after the other.

    The files are memory-mapped, and every name and shape is checked before this returns. Each
    array is copied when it is asked for, and the file's pages are given back then: a model in
    memory is needed once, and one tensor besides.

    Args:
        folder_or_name: a folder with ``config.json`` and ``model.safetensors`` (or its index and
            parts), or with ``hparams.json`` and ``model.ckpt.*``: of this project, of transformers
            (GPT-2), or of OpenAI. Or "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"; a folder of
            that name in the working directory comes first.
        dtype: of the arrays; by default that of the file, but float32 for half precision.
        cache_dir: where downloads are kept, by default the user's cache.
        verify: compare the files with their checksums, if they were saved with some.

    Returns:
        the configuration, and (name, array) pairs under the names of `nn.GPT`'s parameters: NumPy
        arrays in C order, which nobody else holds.

    Warns:
        UserWarning: names in the files that a GPT does not have; an output layer of its own, where
            the configuration says that it is the token embedding; files that another program wrote
            over this package's; and, when the last array is asked for, numbers that are not finite
            or absurdly large.

    Raises:
        CheckpointError: no such model, no network; files are missing, damaged, or do not fit
            together. A tensor's type, and its own checksum (OpenAI's files have them), are looked
            at when its turn comes.
        DTypeError: ``dtype`` is no floating-point type.
    """
    target = None if dtype is None else _float_type(dtype)
    with reading_errors(Path(folder_or_name), CheckpointError):
        folder = _folder_of(folder_or_name, cache_dir)
    with reading(folder):
        if verify:
            verify_model(folder)
        config = read_config(folder)
        source = open_source(folder)
    config = untied_if_stored(config, source, folder)
    check_weights(source, config, folder)
    return config, _arrays(source, config, target, folder)


def _folder_of(
    folder_or_name: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None
) -> Path:
    path = Path(folder_or_name)
    if path.is_dir():
        return path
    if isinstance(folder_or_name, str) and len(path.parts) == 1:
        return model_folder(path.name, cache_dir)
    raise CheckpointError(f"{path}: there is no such folder.")


def _arrays(
    source: WeightSource, config: GPTConfig, target: np.dtype | None, folder: Path
) -> Iterator[tuple[str, Array]]:
    implausible = []
    for place in _places(config):
        stored = source.read(place.theirs)
        if not is_float(stored.dtype):
            raise CheckpointError(
                f"{folder}: {place.theirs} is of type {stored.dtype}, expected floating-point "
                "numbers. A quantized model cannot be read; get the weights it was made from."
            )
        array = _own_copy(stored.T if place.transposed else stored, target)
        source.release(place.theirs)
        if not is_plausible(array):
            implausible.append(place.theirs)
        yield place.ours, array
    warn_of(folder, implausible)


def untied_if_stored(config: GPTConfig, source: WeightSource, folder: Path) -> GPTConfig:
    """The configuration, untied if the files hold another output layer than the token embedding.

    Warns:
        UserWarning: that they do.
    """
    names = (f"{PREFIX}wte.weight", "lm_head.weight")
    if not config.tie_weights or not all(name in source for name in names):
        return config
    embedding, head = map(source.read, names)
    if np.array_equal(embedding, head, equal_nan=True):
        return config
    warnings.warn(
        f"{folder}: config.json says that the output layer is the token embedding, but "
        "lm_head.weight holds other numbers. They are used, as transformers does.",
        stacklevel=4,
    )
    return replace(config, tie_weights=False)


def check_weights(source: WeightSource, config: GPTConfig, folder: Path) -> None:
    """Compare the names and shapes of a source with what a model of this configuration has.

    Warns:
        UserWarning: names that the model does not know.

    Raises:
        CheckpointError: names are missing or shapes differ; all of them are in the message.
    """
    _check_layers(source, config, folder)
    wanted = {place.theirs: expected_shape(place, config) for place in _places(config)}
    missing = [name for name in wanted if name not in source]
    misshaped = [
        f"{name}: expected {shape}, got {source.shape(name)}"
        for name, shape in wanted.items()
        if name in source and source.shape(name) != shape
    ]
    tied, qkv_bias = config.tie_weights, config.qkv_bias
    unexpected = [n for n in source if n not in wanted and not is_ignored(n, tied, qkv_bias)]
    kinds = (("missing", missing), ("wrong shape", misshaped), ("unexpected", unexpected))
    report = [f"  {kind} ({len(names)}): {_few(names)}" for kind, names in kinds if names]
    if missing or misshaped:
        raise CheckpointError(
            f"{folder}: the weights do not belong to a GPT of this configuration; nothing was "
            "loaded.",
            *report,
            "  Check that config.json and the weights are of one model.",
        )
    if unexpected:
        ignored = f"names that GPT does not have were ignored: {report[0].strip()}"
        warnings.warn(f"{one_line(folder)}: {ignored}.", stacklevel=4)


def _check_layers(source: WeightSource, config: GPTConfig, folder: Path) -> None:
    """Compare the number of layers first: the list of expected names grows with it."""
    there = sum(1 for _ in source)
    if config.n_layer > there:
        raise CheckpointError(
            f"{folder}: the configuration says n_layer = {config.n_layer}, but there are only "
            f"{there} arrays. Check that config.json and the weights are of one model."
        )


def expected_shape(place: Place, config: GPTConfig) -> tuple[int, ...]:
    """The shape that a tensor has in the file."""
    c = config.n_embd
    rows = {
        "token_embedding": config.vocab_size,
        "head": config.vocab_size,
        "position_embedding": config.context_length,
        "qkv": 3 * c,
        "expand": 4 * c,
    }
    layer, kind = place.ours.split(".")[-2:]
    out = rows.get(layer, c)
    if kind == "bias" or "norm" in layer:
        return (out,)
    width = 4 * c if layer == "project" else c
    return (width, out) if place.transposed else (out, width)


def _places(config: GPTConfig) -> list[Place]:
    return places(config.n_layer, config.tie_weights, config.qkv_bias)


def _few(names: list[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return readable(one_line(", ".join(names[:_SHOWN]))) + more


def _own_copy(stored: np.ndarray, target: np.dtype | None) -> np.ndarray:
    """A writable array in C order, of the wanted type."""
    if target is None:
        target = np.dtype(np.float32) if stored.dtype.itemsize == 2 else stored.dtype
    return np.array(stored, dtype=target.newbyteorder("="), order="C")


def _float_type(dtype: DTypeLike) -> np.dtype:
    found = as_dtype(dtype)
    if not is_float(found):
        raise DTypeError(f"from_pretrained: dtype must be a floating-point type, got {found}.")
    return found
