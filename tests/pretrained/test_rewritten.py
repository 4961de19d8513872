"""A model was saved here, and another program saved over it: that is no damage."""

import json
import warnings

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tinygrad_llm.backend.saved_folder import saving
from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.nn import GPT, GPTConfig
from tinygrad_llm.training.run.checkpoint import write_checkpoint


@pytest.fixture
def folder(tmp_path):
    GPT(GPTConfig(20, 8, 1, 2, 8)).save_pretrained(tmp_path)
    return tmp_path


def save_as_transformers_does(folder, add=0.5):
    path = folder / "model.safetensors"
    arrays = {name: array + np.float32(add) for name, array in load_file(path).items()}
    save_file(arrays, path, metadata={"format": "pt"})


def test_its_weights_are_read_and_it_is_said(folder):
    before = GPT.from_pretrained(folder).position_embedding.weight.numpy()
    save_as_transformers_does(folder)
    with pytest.warns(UserWarning, match=r"another program wrote model\.safetensors anew"):
        after = GPT.from_pretrained(folder).position_embedding.weight.numpy()
    np.testing.assert_array_equal(after, before + np.float32(0.5))


def test_a_configuration_that_names_transformers(folder):
    config = json.loads((folder / "config.json").read_text())
    text = json.dumps({**config, "transformers_version": "5.0.0"})
    (folder / "config.json").write_text(text)
    save_as_transformers_does(folder)
    with pytest.warns(UserWarning, match=r"config\.json and model\.safetensors"):
        GPT.from_pretrained(folder)


def test_what_is_saved_here_again_has_checksums_again(folder):
    save_as_transformers_does(folder)
    with pytest.warns(UserWarning, match="anew"):
        GPT.from_pretrained(folder).save_pretrained(folder)
    GPT.from_pretrained(folder)  # a warning would be an error


def test_damage_that_breaks_the_file_is_damage(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="is damaged"):
        GPT.from_pretrained(folder)


def test_a_file_without_signature_that_fits_its_checksum_is_ours(folder):
    save_as_transformers_does(folder)
    with saving(folder, "model") as staged:
        for name in ("config.json", "model.safetensors"):
            (staged / name).write_bytes((folder / name).read_bytes())
    GPT.from_pretrained(folder)  # a warning would be an error


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_nothing_is_compared_where_that_was_said(folder, monkeypatch, how):
    save_as_transformers_does(folder)
    (folder / "checksums.json").write_text("{")
    if how == "environment":
        monkeypatch.setenv("TINYGRAD_LLM_VERIFY", "off")
    GPT.from_pretrained(folder, verify=how != "argument")


def test_in_a_checkpoint_of_a_run_any_change_is_damage(tmp_path):
    model = GPT(GPTConfig(20, 8, 1, 2, 8))
    write_checkpoint(tmp_path / "c", model.save_pretrained, {"step": 1})
    save_as_transformers_does(tmp_path / "c")
    with pytest.raises(CheckpointError, match="is damaged"):
        GPT.from_pretrained(tmp_path / "c")


def test_no_flipped_bit_of_the_signature_changes_a_weight(folder):
    path = folder / "model.safetensors"
    with safe_open(path, "numpy") as file:
        assert file.metadata()["written_by"] == "tinygrad_llm"
    whole = path.read_bytes()
    expected = _weights(folder)
    place, opened = whole.index(b"written_by"), 0
    for at in range(place, place + len('written_by":"tinygrad_llm')):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                weights = _weights(folder)
            except CheckpointError:
                continue
        assert ["anew" in str(warning.message) for warning in said] == [True]
        opened += 1
        for name, weight in weights.items():
            np.testing.assert_array_equal(weight, expected[name])
    assert opened > 10


def _weights(folder):
    return {n: p.numpy().copy() for n, p in GPT.from_pretrained(folder).named_parameters()}
