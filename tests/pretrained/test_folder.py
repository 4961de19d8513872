"""Models from folders as Hugging Face lays them out, and back; nothing half-loaded."""

import json

import numpy as np
import pytest
from gpt2_oracle import HPARAMS, logits64, random_weights, safetensors_bytes, write_folder

import tinygrad_llm as tg
from tinygrad_llm import errors, nn
from tinygrad_llm.pretrained import SafetensorsFile, gpt2_tensors, read_model

IDS = [3, 14, 15, 9, 26, 5, 30]


def _logits(folder, **options):
    return nn.GPT.from_pretrained(folder, **options)([IDS]).numpy()[0]


def _prefixed(weights):
    return {f"transformer.{name}": array for name, array in weights.items()}


@pytest.mark.parametrize("prefixed", [True, False])
def test_logits_are_those_of_an_independent_forward_pass(tmp_path, prefixed):
    weights = random_weights()
    write_folder(tmp_path, _prefixed(weights) if prefixed else weights)
    np.testing.assert_allclose(_logits(tmp_path), logits64(weights, IDS), rtol=1e-4, atol=1e-4)
    in_float64 = _logits(tmp_path, dtype="float64")
    np.testing.assert_allclose(in_float64, logits64(weights, IDS), rtol=1e-10, atol=1e-10)


def test_buffers_and_the_redundant_head_are_passed_over(tmp_path):
    weights = random_weights()
    extra = {
        "transformer.h.0.attn.bias": np.ones((1, 1, 12, 12), np.float32),
        "transformer.h.1.attn.masked_bias": np.array(-1e4, np.float32),
        "lm_head.weight": weights["wte.weight"],
    }
    write_folder(tmp_path, {**_prefixed(weights), **extra})
    np.testing.assert_allclose(_logits(tmp_path), logits64(weights, IDS), rtol=1e-4, atol=1e-4)


def test_untied_head_is_used(tmp_path):
    weights = random_weights()
    head = np.zeros_like(weights["wte.weight"])
    write_folder(
        tmp_path, {**_prefixed(weights), "lm_head.weight": head}, tie_word_embeddings=False
    )
    assert not _logits(tmp_path).any()


def test_a_head_of_its_own_is_used_though_the_configuration_says_tied(tmp_path):
    weights = random_weights()
    head = np.random.default_rng(1).normal(size=weights["wte.weight"].shape).astype(np.float32)
    stored = {**_prefixed(weights), "lm_head.weight": head}
    write_folder(tmp_path / "tied", stored)
    write_folder(tmp_path / "untied", stored, tie_word_embeddings=False)
    with pytest.warns(UserWarning, match=r"lm_head\.weight holds other numbers"):
        found = _logits(tmp_path / "tied")
    np.testing.assert_array_equal(found, _logits(tmp_path / "untied"))


def test_a_head_of_another_size_is_no_head(tmp_path):
    weights = random_weights()
    stored = {**_prefixed(weights), "lm_head.weight": np.zeros((3, 8), np.float32)}
    write_folder(tmp_path, stored)
    with (
        pytest.warns(UserWarning, match="other numbers"),
        pytest.raises(errors.CheckpointError, match=r"wrong shape \(1\): lm_head\.weight"),
    ):
        read_model(tmp_path)


def test_control_characters_of_a_name_are_shown(tmp_path):
    stored = {**_prefixed(random_weights()), "a\x1b[2Jb": np.zeros(1, np.float32)}
    write_folder(tmp_path, stored)
    with pytest.warns(UserWarning, match="unexpected \\(1\\): .*a\u241b\\[2Jb"):
        read_model(tmp_path)


def test_sharded_files(tmp_path):
    weights = random_weights()
    write_folder(tmp_path, {})
    (tmp_path / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {
        "model-00001-of-00002.safetensors": names[:9],
        "model-00002-of-00002.safetensors": names[9:],
    }
    for file, held in parts.items():
        (tmp_path / file).write_bytes(safetensors_bytes({n: weights[n] for n in held}))
    index = {n: file for file, held in parts.items() for n in held}
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}), encoding="utf-8")
    np.testing.assert_allclose(_logits(tmp_path), logits64(weights, IDS), rtol=1e-4, atol=1e-4)

    index[names[0]] = "model-00002-of-00002.safetensors"
    path.write_text(json.dumps({"weight_map": index}), encoding="utf-8")
    with pytest.raises(errors.CheckpointError, match="says that .* is in model-00002"):
        nn.GPT.from_pretrained(tmp_path)
    path.write_text(json.dumps({"weight_map": {names[0]: "../secret"}}), encoding="utf-8")
    with pytest.raises(errors.CheckpointError, match="weight_map"):
        nn.GPT.from_pretrained(tmp_path)
    path.write_text(json.dumps({"weight_map": {names[0]: "gone"}}), encoding="utf-8")
    with pytest.raises(errors.CheckpointError, match=r"gone: cannot be read"):
        nn.GPT.from_pretrained(tmp_path)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_round_trip_is_bit_equal(tmp_path, tied, qkv_bias):
    tg.manual_seed(3)
    config = nn.GPTConfig(29, 6, 3, 3, 12, dropout=0.2, qkv_bias=qkv_bias, tie_weights=tied)
    model = nn.GPT(config)
    model.save_pretrained(tmp_path / "made" / "here")
    again = nn.GPT.from_pretrained(tmp_path / "made" / "here")
    assert again.config == config
    assert not again.training
    wanted, got = model.state_dict(), again.state_dict()
    assert list(wanted) == list(got)
    for name, value in wanted.items():
        assert value.numpy().tobytes() == got[name].numpy().tobytes(), name
        assert got[name].data.flags.c_contiguous
        assert got[name].data.flags.writeable
    first = (tmp_path / "made/here/model.safetensors").read_bytes()
    again.save_pretrained(tmp_path / "second")
    assert (tmp_path / "second/model.safetensors").read_bytes() == first


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_other_precisions(tmp_path, kind):
    model = nn.GPT(nn.GPTConfig(29, 6, 1, 2, 8)).to(kind)
    model.save_pretrained(tmp_path)
    default = nn.GPT.from_pretrained(tmp_path).token_embedding.weight.dtype
    assert default == ("float64" if kind == "float64" else "float32")
    same = nn.GPT.from_pretrained(tmp_path, dtype=kind)
    for name, value in model.state_dict().items():
        assert value.numpy().tobytes() == same.state_dict()[name].numpy().tobytes()
    with pytest.raises(errors.DTypeError, match="int64"):
        nn.GPT.from_pretrained(tmp_path, dtype="int64")


def test_one_tensor_after_the_other_is_read_and_given_back(tmp_path, monkeypatch):
    write_folder(tmp_path, random_weights())
    log = []

    def note(name):
        method = getattr(SafetensorsFile, name)

        def noted(self, tensor):
            log.append((name, tensor))
            return method(self, tensor)

        monkeypatch.setattr(SafetensorsFile, name, noted)

    note("read")
    note("release")
    config, arrays = read_model(tmp_path)
    assert config.n_layer == HPARAMS["n_layer"]
    assert log == []
    name, array = next(arrays)
    assert name == "token_embedding.weight"
    assert array.flags.owndata
    assert log == [("read", "wte.weight"), ("release", "wte.weight")]
    assert len(list(arrays)) + 1 == len(log) / 2 == len(random_weights())


def test_the_device_is_looked_at_first(tmp_path):
    with pytest.raises(errors.DeviceError, match="nowhere"):
        nn.GPT.from_pretrained(tmp_path, device="nowhere")


def test_a_trained_model_can_go_on_training(tmp_path):
    write_folder(tmp_path, random_weights())
    model = nn.GPT.from_pretrained(tmp_path).train()
    model.loss([IDS[:-1]], [IDS[1:]]).backward()
    assert all(np.abs(p.grad).sum() > 0 for p in model.parameters())


def test_report_names_everything_that_is_wrong(tmp_path):
    weights = random_weights()
    del weights["h.1.ln_2.bias"]
    weights["wpe.weight"] = weights["wpe.weight"][:5]
    weights["h.0.attn.c_attn.weight"] = weights["h.0.attn.c_attn.weight"].T.copy()
    weights["h.0.surprise"] = np.ones(1, np.float32)
    write_folder(tmp_path, weights)
    with pytest.raises(errors.CheckpointError) as caught:
        nn.GPT.from_pretrained(tmp_path)
    message = str(caught.value)
    assert "missing (1): transformer.h.1.ln_2.bias" in message
    assert "transformer.wpe.weight: expected (12, 8), got (5, 8)" in message
    assert "transformer.h.0.attn.c_attn.weight: expected (8, 24), got (24, 8)" in message
    assert "unexpected (1): transformer.h.0.surprise" in message


def test_a_wrong_shape_alone_is_refused(tmp_path):
    weights = random_weights()
    weights["h.0.ln_1.weight"] = np.ones((8, 1), np.float32)
    write_folder(tmp_path, weights)
    with pytest.raises(errors.CheckpointError, match=r"ln_1.weight: expected \(8,\), got \(8, 1\)"):
        nn.GPT.from_pretrained(tmp_path)


def test_unknown_names_alone_are_a_warning(tmp_path):
    weights = random_weights()
    write_folder(tmp_path, {**weights, "score.weight": np.ones((2, 8), np.float32)})
    with pytest.warns(UserWarning, match="score.weight") as caught:
        assert nn.GPT.from_pretrained(tmp_path).config.n_layer == 2
    assert caught[0].filename == __file__  # the line that asked for the model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, "'llama'"),
        ({"activation_function": "relu"}, "relu"),
        ({"layer_norm_epsilon": 1e-6}, "1e-06"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ({"n_inner": 99}, "n_inner"),
        ({"n_head": 3}, "n_head"),
        ({"n_embd": "wide"}, "n_inner|n_embd"),
        ({"n_embd": None}, "config.json"),
    ],
)
def test_other_architectures_are_refused(tmp_path, change, message):
    write_folder(tmp_path, random_weights(), **change)
    with pytest.raises(errors.CheckpointError, match=message):
        nn.GPT.from_pretrained(tmp_path)


def test_folders_without_what_is_needed(tmp_path):
    with pytest.raises(errors.CheckpointError, match="no such folder"):
        nn.GPT.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(errors.CheckpointError, match=r"config\.json"):
        nn.GPT.from_pretrained(tmp_path)
    write_folder(tmp_path, random_weights())
    (tmp_path / "model.safetensors").rename(tmp_path / "model.safetensors.part")
    with pytest.raises(errors.CheckpointError, match="unfinished"):
        nn.GPT.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors.part").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(errors.CheckpointError, match="pickle"):
        nn.GPT.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"n_embd": 3}', encoding="utf-8")
    with pytest.raises(errors.CheckpointError, match="'vocab_size' is missing"):
        nn.GPT.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(errors.CheckpointError, match="no JSON"):
        nn.GPT.from_pretrained(tmp_path)


def test_only_a_plain_gpt_is_saved(tmp_path):
    model = nn.GPT(nn.GPTConfig(29, 6, 1, 2, 8))
    nn.apply_lora(model, 2)
    with pytest.raises(errors.CheckpointError, match=r"\(LoRALinear, not Linear\).*remove_lora"):
        model.save_pretrained(tmp_path)
    nn.remove_lora(model)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()


def test_extra_config_and_end_of_text(tmp_path):
    model = nn.GPT(nn.GPTConfig(29, 6, 1, 2, 8))
    model.save_pretrained(tmp_path, {"eos_token_id": 7})
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert content["eos_token_id"] == 7
    assert content["bos_token_id"] is None
    assert content["architectures"] == ["GPT2LMHeadModel"]


def test_layout_is_hugging_faces(tmp_path):
    write_folder(tmp_path, _prefixed(random_weights()))
    model = nn.GPT.from_pretrained(tmp_path)
    arrays = {name: p.data for name, p in model.named_parameters()}
    tensors = gpt2_tensors(model.config, arrays)
    for name, array in random_weights().items():
        assert np.array_equal(tensors[f"transformer.{name}"], array), name
    assert HPARAMS["n_layer"] * 12 + 4 == len(tensors)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("from_pretrained", r"tg\.nn\.GPT\.from_pretrained"),
        ("load_model", r"tg\.nn\.load_model"),
        ("save_model", r"tg\.nn\.save_model"),
        ("extend_vocabulary", r"tg\.nn\.extend_vocabulary"),
        ("TensorflowCheckpoint", r"pretrained\.tf_checkpoint\.TensorflowCheckpoint"),
    ],
)
def test_a_name_that_stands_elsewhere_says_where(name, instead):
    with pytest.raises(AttributeError, match=rf"tg\.pretrained\.{name} is left out.*{instead}"):
        getattr(tg.pretrained, name)
    with pytest.raises(AttributeError, match=r"Did you mean tg\.pretrained\.read_model\?"):
        tg.pretrained.read_modle
