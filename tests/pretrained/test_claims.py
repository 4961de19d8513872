"""What a folder only claims: refused in words, before anything of such a size is made."""

import json
import os
import tracemalloc

import numpy as np
import pytest
import safetensors
from gpt2_oracle import random_weights, safetensors_bytes, write_folder

from tinygrad_llm import nn
from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.pretrained import SafetensorsFile, write_safetensors
from tinygrad_llm.pretrained.tf_checkpoint import TensorflowCheckpoint

BILLION = 10**9
SIZES = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")


def _peak_of_opening(folder):
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as caught:
            nn.GPT.from_pretrained(folder)
        return tracemalloc.get_traced_memory()[1], str(caught.value)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("size", [BILLION, BILLION * BILLION, 10**400])
def test_a_config_of_any_size(tmp_path, name, size):
    write_folder(tmp_path, random_weights(), **{name: size})
    peak, message = _peak_of_opening(tmp_path)
    assert peak < 10e6
    assert len(message) < 3000


def test_both_sizes_of_the_heads_are_huge(tmp_path):
    write_folder(tmp_path, random_weights(), n_embd=10**13 + 1, n_head=10**12)
    peak, message = _peak_of_opening(tmp_path)
    assert peak < 10e6
    assert "multiple of n_head" in message


@pytest.mark.parametrize(
    "value", [None, [], {}, "12", 1.5, float("nan"), True, -1, 0, "\x1b[2J", "x" * 10**5]
)
@pytest.mark.parametrize(
    "name", [*SIZES, "resid_pdrop", "tie_word_embeddings", "n_inner", "qkv_bias"]
)
def test_a_config_of_any_value(tmp_path, name, value):
    write_folder(tmp_path, random_weights(), **{name: value})
    try:
        nn.GPT.from_pretrained(tmp_path)
    except CheckpointError as error:
        message = str(error)
        if "config" not in message or len(message) > 3000 or "\x1b" in message:
            pytest.fail(repr(message))


def test_a_tensor_that_is_there_with_and_without_its_prefix(tmp_path):
    weights = random_weights()
    other = np.zeros_like(weights["wte.weight"])
    write_folder(tmp_path, {**weights, "transformer.wte.weight": other})
    with pytest.raises(CheckpointError, match="names of one tensor"):
        nn.GPT.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", [np.int32, np.bool_, np.uint8])
def test_weights_that_are_no_floating_point_numbers(tmp_path, kind):
    weights = random_weights()
    write_folder(tmp_path, {})
    weights["wte.weight"] = weights["wte.weight"].astype(kind)
    write_safetensors(tmp_path / "model.safetensors", weights)
    with pytest.raises(CheckpointError, match=r"wte.weight is of type .* floating-point"):
        nn.GPT.from_pretrained(tmp_path)


def test_files_that_are_pipes_or_folders_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "m.ckpt.index")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="no ordinary file"):
        TensorflowCheckpoint(tmp_path / "m.ckpt.index")
    for name in ("m.ckpt.index", "folder"):
        with pytest.raises(CheckpointError, match="no ordinary file"):
            SafetensorsFile(tmp_path / name)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", ".", ".."])
def test_an_index_that_names_impossible_files(tmp_path, name):
    write_folder(tmp_path, {})
    (tmp_path / "model.safetensors").unlink()
    index = {"weight_map": {"wte.weight": name}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointError):
        nn.GPT.from_pretrained(tmp_path)


def test_a_file_that_is_replaced_while_it_is_opened(tmp_path, monkeypatch):
    for name, value in (("a", 1.0), ("b", 2.0)):
        (tmp_path / name).write_bytes(safetensors_bytes({"x": np.full(3, value, np.float32)}))
    library = safetensors.safe_open

    def replace_first(path, framework):
        os.replace(tmp_path / "b", path)
        return library(path, framework)

    monkeypatch.setattr(safetensors, "safe_open", replace_first)
    with pytest.raises(CheckpointError, match="replaced while"):
        SafetensorsFile(tmp_path / "a")
    monkeypatch.undo()
    assert SafetensorsFile(tmp_path / "a").read("x")[0] == 2.0


def test_the_name_that_the_format_keeps_for_itself(tmp_path):
    with pytest.raises(CheckpointError, match="__metadata__"):
        write_safetensors(tmp_path / "a", {"__metadata__": np.ones(2)}, {"format": "pt"})
