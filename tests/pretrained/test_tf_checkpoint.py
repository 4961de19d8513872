"""OpenAI's checkpoint: read from files that an independent writer made, and from damaged ones."""

import os

import numpy as np
import pytest
from gpt2_oracle import HPARAMS, logits64, random_weights
from hypothesis import given
from hypothesis import strategies as st
from tf_bundle_writer import crc32c as crc_bit_by_bit
from tf_bundle_writer import masked, table, write_checkpoint

from tinygrad_llm import errors, nn
from tinygrad_llm.pretrained.tf_table import crc32c, read_table, unmask

INDEX, DATA = "model.ckpt.index", "model.ckpt.data-00000-of-00001"


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "124M", random_weights(), HPARAMS)


def test_logits_are_those_of_an_independent_forward_pass(checkpoint):
    ids = [3, 14, 15, 9, 26, 5, 30]
    model = nn.GPT.from_pretrained(checkpoint)
    got = model([ids]).numpy()[0]
    np.testing.assert_allclose(got, logits64(random_weights(), ids), rtol=1e-4, atol=1e-4)


def test_parameters_are_bit_for_bit_the_variables(checkpoint):
    state = nn.GPT.from_pretrained(checkpoint).state_dict()
    weights = random_weights()
    qkv = state["blocks.1.attention.qkv.weight"].numpy()
    assert np.array_equal(qkv, weights["h.1.attn.c_attn.weight"].T)
    assert np.array_equal(state["token_embedding.weight"].numpy(), weights["wte.weight"])


def test_variables_in_several_data_files(checkpoint, tmp_path):
    several = write_checkpoint(tmp_path / "several", random_weights(), HPARAMS, shards=3)
    expected = nn.GPT.from_pretrained(checkpoint).state_dict()
    for name, value in nn.GPT.from_pretrained(several).state_dict().items():
        assert np.array_equal(value.numpy(), expected[name].numpy()), name
    first, second = (several / f"model.ckpt.data-0000{n}-of-00003" for n in (0, 1))
    second.write_bytes(first.read_bytes())
    with pytest.raises(errors.CheckpointError):
        nn.GPT.from_pretrained(several)
    second.unlink()
    with pytest.raises(errors.CheckpointError, match="data-00001-of-00003"):
        nn.GPT.from_pretrained(several)


@pytest.mark.parametrize("name", [INDEX, DATA])
def test_every_cut_is_noticed(checkpoint, name):
    whole = (checkpoint / name).read_bytes()
    for length in (0, 1, 47, len(whole) // 2, len(whole) - 1):
        (checkpoint / name).write_bytes(whole[:length])
        with pytest.raises(errors.CheckpointError):
            nn.GPT.from_pretrained(checkpoint)


@pytest.mark.parametrize("name", [INDEX, DATA])
def test_every_flipped_bit_is_noticed(checkpoint, name):
    whole = bytearray((checkpoint / name).read_bytes())
    rng = np.random.default_rng(0)
    end = len(whole) if name == DATA else len(whole) - 48  # the footer's padding means nothing
    for position in rng.integers(0, end, 40):
        whole[position] ^= 1 << (position % 8)
        (checkpoint / name).write_bytes(whole)
        if not _in_meta_block(bytes(whole), name, position):
            with pytest.raises(errors.CheckpointError):
                nn.GPT.from_pretrained(checkpoint)
        whole[position] ^= 1 << (position % 8)


def _in_meta_block(content, name, position):
    """The table's meta block is never read."""
    if name == DATA:
        return False
    meta_offset = _footer_handle(content)
    return meta_offset <= position < meta_offset + 13


def _footer_handle(content):
    value = shift = 0
    for byte in content[-48:]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value
    return None


def test_missing_data_file_and_foreign_index(checkpoint):
    os.rename(checkpoint / DATA, checkpoint / "elsewhere")
    with pytest.raises(errors.CheckpointError, match="data-00000-of-00001"):
        nn.GPT.from_pretrained(checkpoint)
    (checkpoint / INDEX).write_bytes(b"not an index " * 20)
    with pytest.raises(errors.CheckpointError, match="damaged"):
        nn.GPT.from_pretrained(checkpoint)


def test_another_size_in_hparams_is_refused(tmp_path):
    folder = write_checkpoint(tmp_path, random_weights(), {**HPARAMS, "n_layer": 3})
    with pytest.raises(errors.CheckpointError, match=r"missing \(12\).*h.2.ln_1.weight"):
        nn.GPT.from_pretrained(folder)


@given(st.dictionaries(st.binary(max_size=30), st.binary(max_size=40), max_size=60))
def test_table_gives_back_what_was_written(entries):
    assert read_table(table(sorted(entries.items())), "test") == entries


def test_checksums_are_those_of_the_published_examples():
    for data, crc in [(b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA)]:
        assert crc32c(data) == crc_bit_by_bit(data) == crc
        assert unmask(masked(data)) == crc
