"""LoRA: starts as the model was, trains only its own matrices, merges and unmerges."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import CheckpointError, ConfigError

IDS = np.array([[1, 2, 3, 4]])


def model_with_lora(**options):
    tg.manual_seed(0)
    model = nn.GPT(nn.GPTConfig(9, 4, 2, 2, 8))
    before = model(IDS).data.copy()
    paths = nn.apply_lora(model, rank=2, alpha=4, **options)
    return model, before, paths


def disturb(model):
    """Give every B values, as training would."""
    for name, p in model.named_parameters():
        if name.endswith("lora_b"):
            p.data[...] = tg.Generator(1).normal(p.shape)


def test_starts_as_the_model_was_and_trains_the_adapter_alone():
    model, before, paths = model_with_lora()
    assert paths == [
        f"blocks.{i}.attention.{part}" for i in (0, 1) for part in ("qkv", "projection")
    ]
    np.testing.assert_array_equal(model(IDS).data, before)
    model.loss(IDS, IDS).backward()
    for name, p in model.named_parameters():
        assert (p.grad is not None) == (".lora_" in name), name
    assert model.num_parameters(trainable_only=True) == 2 * (2 * (8 + 24) + 2 * (8 + 8))


def test_the_first_matrix_starts_as_a_linear_layers_and_the_second_at_zero():
    layer = nn.LoRALinear(nn.Linear(100, 3), rank=50)
    assert np.abs(layer.lora_a.data).max() == pytest.approx(0.1, rel=0.01)
    assert layer.lora_a.data.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.05)
    assert (layer.lora_b.data == 0).all()
    half = nn.LoRALinear(nn.Linear(4, 3).to("float16"))
    assert half.lora_a.dtype == half.lora_b.dtype == np.float16


def test_names_of_the_frozen_parameters_stay():
    plain = set(nn.GPT(nn.GPTConfig(9, 4, 2, 2, 8)).state_dict())
    model, _, paths = model_with_lora()
    added = {f"{path}.lora_{k}" for path in paths for k in "ab"}
    assert set(model.state_dict()) == plain | added
    assert set(nn.adapter_state_dict(model)) == added


def test_layer_value_and_gradients(rng):
    linear = nn.Linear(4, 5)
    layer = nn.LoRALinear(linear, rank=2, alpha=6)
    layer.lora_b.data = rng.normal(size=(5, 2))
    layer.to("float64")
    x = rng.normal(size=(3, 4))
    weight = layer.weight.data + 3 * layer.lora_b.data @ layer.lora_a.data
    np.testing.assert_allclose(layer(x).data, x @ weight.T + layer.bias.data, rtol=1e-10)
    tg.gradcheck(layer, [x])
    tg.gradcheck(nn.LoRALinear(nn.Linear(4, 5, bias=False), 2, dropout=0.3), [x])


def test_merge_keeps_the_function_and_unmerge_the_bits():
    model, before, _ = model_with_lora()
    disturb(model)
    weights = [p.data.copy() for p in model.parameters()]
    separate = model(IDS).data.copy()
    assert np.abs(separate - before).max() > 1e-3
    nn.merge_lora(model)
    nn.merge_lora(model)  # a second time changes nothing
    np.testing.assert_allclose(model(IDS).data, separate, rtol=1e-4, atol=1e-5)
    nn.unmerge_lora(model)
    for p, w in zip(model.parameters(), weights, strict=True):
        np.testing.assert_array_equal(p.data, w)
    np.testing.assert_array_equal(model(IDS).data, separate)


@pytest.mark.parametrize("keep", [True, False])
def test_remove_gives_a_plain_model(keep):
    model, before, _ = model_with_lora()
    disturb(model)
    separate = model(IDS).data.copy()
    nn.remove_lora(model, keep_change=keep)
    assert not [m for m in model.modules() if isinstance(m, nn.LoRALinear)]
    assert set(model.state_dict()) == set(nn.GPT(model.config).state_dict())
    np.testing.assert_allclose(model(IDS).data, separate if keep else before, rtol=1e-4, atol=1e-5)


def test_adapter_alone_carries_what_was_learned():
    model, _, _ = model_with_lora()
    disturb(model)
    saved = {name: t.numpy().copy() for name, t in nn.adapter_state_dict(model).items()}
    other, before, _ = model_with_lora()
    nn.load_adapter_state_dict(other, saved)
    np.testing.assert_array_equal(other(IDS).data, model(IDS).data)
    saved.popitem()
    with pytest.raises(CheckpointError, match="missing \\(1\\)"):
        nn.load_adapter_state_dict(other, saved)


def test_training_lowers_the_loss_and_leaves_the_rest_alone():
    model, _, _ = model_with_lora(dropout=0.1, targets=["qkv", "expand", "project"])
    model.token_embedding.weight.data *= 30  # tied to the output: lets the logits grow
    frozen = {n: p.data.copy() for n, p in model.named_parameters() if not p.requires_grad}
    optimizer = tg.optim.AdamW(model, lr=0.05)
    first = model.loss(IDS, IDS[:, ::-1]).item()
    for _ in range(30):
        optimizer.zero_grad()
        loss = model.loss(IDS, IDS[:, ::-1])
        loss.backward()
        optimizer.step()
    assert loss.item() < first - 0.5
    for name, p in model.named_parameters():
        if name in frozen:
            np.testing.assert_array_equal(p.data, frozen[name])


def test_errors_say_what_is_possible():
    model, _, _ = model_with_lora()
    with pytest.raises(ConfigError, match="LoRA layers already"):
        nn.apply_lora(model)
    plain = nn.GPT(nn.GPTConfig(9, 4, 1, 2, 8))
    with pytest.raises(ConfigError, match="attention.projection, attention.qkv, feed_forward"):
        nn.apply_lora(plain, targets=["query"])
    assert all(p.requires_grad for p in plain.parameters())
    with pytest.raises(ConfigError, match="no LoRA layers"):
        nn.adapter_state_dict(plain)
    with pytest.raises(ConfigError, match="rank must be"):
        nn.apply_lora(plain, rank=0)
    nn.merge_lora(model)
    with pytest.raises(ConfigError, match="unmerge_lora"):
        nn.load_adapter_state_dict(model, nn.adapter_state_dict(model))


def test_freeze_keeps_the_named_parts_trainable():
    model = nn.GPT(nn.GPTConfig(9, 4, 12, 1, 4))
    names = nn.freeze(model, except_for=["blocks.1", "final_norm"])
    assert names[0] == "blocks.1.norm1.weight"
    assert names[-1] == "final_norm.bias"
    assert not any(n.startswith(("blocks.10", "blocks.11")) for n in names)
    assert names == [n for n, p in model.named_parameters() if p.requires_grad]
    with pytest.raises(ConfigError, match="'block.1'"):
        nn.freeze(model, except_for=["block.1"])
