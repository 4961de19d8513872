import copy

import numpy as np
import pytest

from tinygrad_llm.backend.random import Generator
from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.finetuning.adapter import FORMAT, load_adapter, save_adapter
from tinygrad_llm.nn import GPT, GPTConfig, apply_lora, merge_lora, remove_lora
from tinygrad_llm.pretrained import write_safetensors

IDS = [[1, 2, 3, 4]]


@pytest.fixture
def adapted(gpt, tmp_path):
    """A copy of the model with an adapter that does something, and its file."""
    model = copy.deepcopy(gpt)
    apply_lora(model, 2, 8.0, ("attention.qkv", "expand"), generator=Generator(1))
    for name, parameter in model.named_parameters():
        if "lora_b" in name:
            parameter.data[...] = Generator(2).normal(parameter.shape, 0.1)
    return model, save_adapter(model, tmp_path / "adapter.safetensors")


def test_an_adapter_file_brings_the_change_to_the_same_base(gpt, adapted):
    model, path = adapted
    plain = gpt(IDS).numpy()
    changed = load_adapter(gpt, path)
    assert "blocks.1.feed_forward.expand" in changed
    assert len(changed) == 4
    np.testing.assert_array_equal(gpt(IDS).numpy(), model(IDS).numpy())
    assert np.abs(gpt(IDS).numpy() - plain).max() > 0.01
    merge_lora(gpt)
    np.testing.assert_allclose(gpt(IDS).numpy(), model(IDS).numpy(), atol=1e-5)
    remove_lora(gpt, keep_change=False)
    np.testing.assert_array_equal(gpt(IDS).numpy(), plain)


def test_the_file_holds_the_low_rank_matrices_alone(gpt, adapted):
    _, path = adapted
    assert path.stat().st_size < 0.25 * 4 * gpt.num_parameters()


def test_other_models_and_other_files_are_refused(gpt, adapted, tmp_path):
    _, path = adapted
    shallow = GPT(GPTConfig(gpt.config.vocab_size, 64, 1, 2, 32), Generator(0))
    with pytest.raises(CheckpointError, match=r"no layer 'blocks\.1"):
        load_adapter(shallow, path)
    wide = GPT(GPTConfig(gpt.config.vocab_size, 64, 2, 2, 64), Generator(0))
    before = wide(IDS).numpy()
    with pytest.raises(CheckpointError):
        load_adapter(wide, path)
    np.testing.assert_array_equal(wide(IDS).numpy(), before)
    write_safetensors(tmp_path / "other", {"a": np.zeros(2, np.float32)})
    with pytest.raises(CheckpointError, match="not a LoRA adapter"):
        load_adapter(gpt, tmp_path / "other")
    with pytest.raises(ConfigError):
        save_adapter(gpt, tmp_path / "none")


ABOUT = {"format": FORMAT, "rank": "2", "alpha": "8.0", "layers": '["blocks.0.attention.qkv"]'}
ODD_LAYERS = ("null", "3", '"head"', "[]", "[1]", "[[]]", "{}", '[""]', "[" * 100_000, "")
ODD_NUMBERS = ("", "null", "[]", "nan", "-1", "0", str(10**9), str(10**30), "9" * 5000)


@pytest.mark.parametrize(
    "entry",
    [
        *({"layers": text} for text in ODD_LAYERS),
        *({"rank": text} for text in ODD_NUMBERS),
        *({"alpha": text} for text in ("", "null", "nan", "inf", "1e999")),
        {"layers": '["blocks.0.norm1"]'},
    ],
    ids=lambda entry: "{}={:.20}".format(*next(iter(entry.items()))),
)
def test_a_description_of_anything_is_refused_and_changes_nothing(gpt, tmp_path, entry):
    rows = gpt.blocks[0].attention.qkv.weight.shape[0]
    tensors = {
        "blocks.0.attention.qkv.lora_a": np.ones((2, gpt.config.n_embd), np.float32),
        "blocks.0.attention.qkv.lora_b": np.ones((rows, 2), np.float32),
    }
    write_safetensors(tmp_path / "whole", tensors, ABOUT)
    write_safetensors(tmp_path / "odd", tensors, {**ABOUT, **entry})
    trainable = [name for name, p in gpt.named_parameters() if p.requires_grad]
    with pytest.raises(CheckpointError, match="adapter"):
        load_adapter(gpt, tmp_path / "odd")
    assert [name for name, p in gpt.named_parameters() if p.requires_grad] == trainable
    assert load_adapter(gpt, tmp_path / "whole") == ["blocks.0.attention.qkv"]
